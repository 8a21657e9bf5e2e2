r"""The electrostatic energy of Gaussian charges, for a batch of structures.

This is where boundary condition and method are chosen per structure; the sums themselves
are in ``direct`` and ``mesh`` (periodic), ``open`` and ``open_mesh`` (vacuum).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from les.ranges import check_number
from les.sums.checks import as_indices, check_grid, check_tensors, open_cells
from les.sums.cpu.library import library
from les.sums.direct import reciprocal_sum
from les.sums.mesh import mesh_sum
from les.sums.open_mesh import WORTH_A_MESH, is_compact, open_mesh_sum
from les.sums.packing import (
    assign_slots,
    first_rows,
    group_structures,
    is_wasteful,
    pack_charges,
    pack_positions,
)
from les.sums.pairs import open_sum
from les.sums.reciprocal.accuracy import (
    CUTOFFS,
    DEFAULT_DL,
    METHODS,
    Resolution,
    crossover,
    resolve,
)
from les.sums.reciprocal.lattice import grid_extent
from les.sums.reciprocal.slab import slab_cells
from les.sums.system import Batch, select, survey
from les.units import NORM_FACTOR


class Ewald(nn.Module):
    r"""Energy of Gaussian charges under periodic and open boundaries.

    Periodic structures, with :math:`S(\mathbf k)=\sum_i q_i e^{i\mathbf k\cdot\mathbf r_i}`:

    .. math::
        E = \frac{2\pi k_e}{V}\sum_{0<|\mathbf k|\le 2\pi/dl} w(k)\,
            \frac{e^{-\sigma^2k^2/2}}{k^2}|S(\mathbf k)|^2
            - k_e\sum_i\frac{q_i^2}{\sigma\sqrt{2\pi}},

    the last term only if ``remove_self_interaction``. Open structures:

    .. math::
        E = k_e\sum_{i<j} q_iq_j\,\mathrm{erf}(r_{ij}/\sqrt2\sigma)/r_{ij},

    plus :math:`k_e\sum_i q_i^2/(\sigma\sqrt{2\pi})` unless ``remove_self_interaction``.
    Slabs, with two periodic axes, have the periodic sum with a truncated Green's function, which
    depends neither on the vacuum nor on where the slab is in it (``greens.slab_greens_function``).
    Channels add up. A charged cell is neutralised by leaving out k = 0, a charged slab is not
    neutralised. The formulas are those of B. Cheng, npj Comput. Mater. 11, 80 (2025).

    Args:
        sigma: width of the Gaussian charges [A].
        dl: resolution of the periodic sum, ``k_max = 2 pi / dl`` [A]. What it leaves out is
            tabulated in ``docs/physics.md``; a model is trained with its ``dl``.
        method: ``"direct"``, ``"mesh"``, or ``"auto"``, which takes the faster one for the number
            of atoms of a structure. Open structures of less than 20 000 atoms (2500 without
            compiled kernels), and sparse ones, are always summed over pairs. TorchScript has the
            direct sum only.
        cutoff: ``"smooth"`` tapers the sum towards ``k_max``, so that energy, forces and
            stress are continuous when the cell changes; ``"sharp"`` is what published
            models were trained with.
        remove_self_interaction: leave out the interaction of each charge with itself.
        norm_factor: ``2 pi k_e`` [eV A / e^2].
        accuracy: largest relative error of forces (root mean square), from which ``dl`` and the
            mesh follow. A ``dl`` other than the default is kept, and has to be fine enough.
            Without it, the mesh differs from the direct sum by less than 1e-5.
        spacing: largest distance of mesh points along a lattice vector [A], below ``dl / 2``,
            in place of ``accuracy``.
        order: of the B-splines of the mesh, 4 to 8; together with ``spacing``.
    """

    #: Kinds of structures that are summed on a mesh; the others are of ``group_structures``.
    on_mesh, open_on_mesh = -1, -2
    __constants__ = ("on_mesh", "open_on_mesh")

    def __init__(
        self,
        sigma: float = 1.0,
        dl: float = DEFAULT_DL,
        method: str = "auto",
        cutoff: str = "smooth",
        remove_self_interaction: bool = True,
        norm_factor: float = NORM_FACTOR,
        accuracy: float | None = None,
        spacing: float | None = None,
        order: int | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("sigma", sigma), ("dl", dl), ("norm_factor", norm_factor)):
            check_number(name, value)
        if not isinstance(remove_self_interaction, bool):
            raise ValueError(
                f"`remove_self_interaction` must be true or false, got {remove_self_interaction!r}"
            )
        if method not in METHODS:
            raise ValueError(f"`method` must be one of {METHODS}, got {method!r}")
        if cutoff not in CUTOFFS:
            raise ValueError(f"`cutoff` must be one of {CUTOFFS}, got {cutoff!r}")
        resolution = resolve(sigma, dl, cutoff == "smooth", accuracy, spacing, order)
        self.sigma = float(sigma)
        self.dl = resolution.dl
        self.spacing = resolution.spacing
        self.order = resolution.order
        self.method = method
        self.cutoff = cutoff
        self.remove_self_interaction = remove_self_interaction
        self.norm_factor = float(norm_factor)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Unpickle, also what published LES wrote: a missing flag has its old meaning."""
        historical = {
            "method": "auto",
            "cutoff": "sharp",
            "remove_self_interaction": True,
            "norm_factor": NORM_FACTOR,
        }
        state = {**historical, **state}
        if "order" not in state:
            found = resolve(state["sigma"], state["dl"], state["cutoff"] == "smooth")
            state.update(spacing=found.spacing, order=found.order)
        super().__setstate__(state)

    def extra_repr(self) -> str:
        return (
            f"sigma={self.sigma}, dl={self.dl}, method={self.method!r}, cutoff={self.cutoff!r}, "
            f"remove_self_interaction={self.remove_self_interaction}, "
            f"norm_factor={self.norm_factor}, spacing={self.spacing:.4g}, order={self.order}"
        )

    def forward(
        self,
        charges: Tensor,
        positions: Tensor,
        cell: Tensor | None = None,
        batch: Tensor | None = None,
        pbc: Tensor | None = None,
        compute_potential: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        r"""Energies and, on request, the electrostatic potential at the charges.

        Args:
            charges: ``[n_atoms]`` or ``[n_atoms, n_channels]`` [e].
            positions: ``[n_atoms, 3]`` [A].
            cell: ``[n_structures, 3, 3]`` [A], rows are lattice vectors; zero where open. Without
                it all structures are open.
            batch: structure of each atom ``[n_atoms]``, ascending; may be left out for one
                structure. A structure may have no atoms; its energy is 0.
            pbc: ``[n_structures, 3]``, boolean, with none, any two or all of the axes true.
                Without it, a structure is open if the volume of its cell is below 1e-6 A^3.
            compute_potential: return also :math:`\phi_i=\partial E/\partial q_i`.

        Returns:
            Energy ``[n_structures]`` [eV], and the potential [eV/e], shaped like
            ``charges``, or ``None``. :math:`\frac12\sum_i q_i\phi_i = E`.

        Raises:
            ValueError: wrong shapes, devices or orders, values that are not finite or so large
                that results mean nothing (``les.sums.checks`` has the limits), one periodic axis, a
                periodic structure without a cell, atoms at the same place in an open structure that
                is summed over pairs, a cell too large for ``dl``. The message names the argument.
            TypeError: wrong dtypes, and what is no tensor.
            NotImplementedError: within ``torch.vmap`` over any of the arguments.
            RuntimeError: within ``torch.autocast``.
        """
        if not torch.jit.is_scripting():
            check_tensors(charges=charges, positions=positions)
            check_tensors(True, cell=cell, batch=batch, pbc=pbc)
        if cell is None:
            cell = open_cells(positions, batch, pbc)
        batch = as_indices(batch)
        if not torch.jit.is_scripting() and torch.compiler.is_compiling():
            return self._compiled(charges, positions, cell, batch, pbc, compute_potential)
        facts = survey(charges, positions, cell, batch, pbc, self.dl)
        n_structures = cell.shape[0]
        if batch is None:
            batch = torch.zeros(positions.shape[0], dtype=torch.long, device=positions.device)
        half_height: Tensor | None = None
        extent: list[int] | None = facts.extent
        if pbc is not None and facts.n_slabs > 0:
            cell, half_height, positions = slab_cells(cell, pbc, positions, batch, self.sigma)
            extent = None
        channels = charges if charges.dim() == 2 else charges.unsqueeze(-1)
        system = Batch(channels, positions, cell, batch, facts.counts, half_height)

        from_periodic, from_open = self._crossovers(positions)
        large_periodic = facts.n_periodic > 0 and facts.largest_periodic >= from_periodic
        large_open = facts.largest_open >= from_open
        largest = max(facts.largest_open, facts.largest_periodic)
        one_kind = facts.n_periodic in (0, n_structures) and not large_open
        simple = not large_periodic and not is_wasteful(largest, facts.squares, n_structures)
        if one_kind and (simple or n_structures == 1):
            kind = self.on_mesh if large_periodic else int(facts.n_periodic > 0)
            energy, potential = self._one_kind(kind, system, largest, extent, compute_potential)
        else:
            kinds = group_structures(facts.counts, facts.periodic)
            of_periodic = facts.periodic & (facts.counts >= from_periodic)
            kinds = kinds.masked_fill(of_periodic, self.on_mesh)
            if not torch.jit.is_scripting() and large_open:
                of_open = ~facts.periodic & (facts.counts >= from_open) & self._compact(system)
                kinds = kinds.masked_fill(of_open, self.open_on_mesh)
            energy, potential = self._grouped(kinds, system, compute_potential)
        if potential is not None and charges.dim() == 1:
            potential = potential.squeeze(-1)
        return energy, potential

    def coefficients(self, periodic: bool) -> tuple[float, float]:
        """Factors of the bare sum [eV A / e^2] and of the sum of squared charges [eV / e^2]."""
        coulomb_constant = self.norm_factor / (2.0 * math.pi)
        self_interaction = coulomb_constant / (self.sigma * math.sqrt(2.0 * math.pi))
        if periodic:
            # All k-points together contain the interaction of each charge with itself.
            return self.norm_factor, -self_interaction if self.remove_self_interaction else 0.0
        return coulomb_constant, 0.0 if self.remove_self_interaction else self_interaction

    @torch.jit.unused
    def _compiled(
        self,
        charges: Tensor,
        positions: Tensor,
        cell: Tensor,
        batch: Tensor | None,
        pbc: Tensor | None,
        compute_potential: bool,
    ) -> tuple[Tensor, Tensor | None]:
        # Registering operators takes its time, which programs without a compiler need not spend.
        from les.sums.operator import compiled_ewald

        return compiled_ewald(self, charges, positions, cell, batch, pbc, compute_potential)

    def _crossovers(self, positions: Tensor) -> tuple[int, int]:
        """Numbers of atoms from which on periodic and open structures are summed on a mesh.

        They depend on nothing that changes in a simulation, so that the method does not, but
        that of open structures from which an atom leaves.
        """
        if torch.jit.is_scripting():
            if self.method == "mesh":
                raise ValueError(
                    "`method` must be 'auto' or 'direct' in TorchScript, which has no "
                    "particle mesh, got 'mesh'"
                )
        elif self.method != "direct":
            return self._measured_crossovers(positions)
        return 1 << 62, 1 << 62

    @torch.jit.unused
    def _measured_crossovers(self, positions: Tensor) -> tuple[int, int]:
        native = library(positions.device, positions.dtype) is not None
        least = crossover(self._resolution(), positions.is_cuda, native)
        return 0 if self.method == "mesh" else least, WORTH_A_MESH[native][0]

    def _grouped(
        self, kinds: Tensor, system: Batch, compute_potential: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Periodic and open structures, or very different sizes: each kind is a batch."""
        energy = system.charges.new_zeros(system.counts.shape[0])
        potential = torch.zeros_like(system.charges)
        different: list[int] = torch.unique(kinds).tolist()
        for kind in different:
            part, structures, atoms = select(system, kinds == kind)
            of_part, phi = self._one_kind(
                kind, part, int(part.counts.max()), None, compute_potential
            )
            energy = energy.index_add(0, structures, of_part)
            if phi is not None:
                potential = potential.index_add(0, atoms, phi)
        return energy, potential if compute_potential else None

    def _one_kind(
        self,
        kind: int,
        system: Batch,
        width: int,
        extent: list[int] | None,
        compute_potential: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Structures of one boundary condition and method; ``width`` atoms in the largest."""
        charges = system.charges
        if charges.shape[0] == 0:
            nothing = torch.zeros_like(charges) if compute_potential else None
            return charges.new_zeros(system.counts.shape[0]), nothing
        periodic = kind == self.on_mesh or (kind > 0 and kind % 2 == 1)
        if not torch.jit.is_scripting() and kind < 0:
            energy, potential = self._on_mesh(periodic, system, compute_potential)
        else:
            energy, potential = self._packed(periodic, system, width, extent, compute_potential)
        prefactor, self_coefficient = self.coefficients(periodic)
        energy = prefactor * energy
        if self_coefficient != 0.0:
            squares = (charges * charges).sum(dim=1)
            energy = energy.index_add(0, system.owner, self_coefficient * squares)
        if potential is not None:
            potential = prefactor * potential + 2.0 * self_coefficient * charges
        return energy, potential

    @torch.jit.unused
    def _on_mesh(
        self, periodic: bool, system: Batch, compute_potential: bool
    ) -> tuple[Tensor, Tensor | None]:
        if not periodic:
            return open_mesh_sum(system, self.sigma, self._resolution(), compute_potential)
        smooth = self.cutoff == "smooth"
        return mesh_sum(system, self.sigma, self._resolution(), smooth, compute_potential)

    @torch.jit.unused
    def _compact(self, system: Batch) -> Tensor:
        return is_compact(system, self.sigma, self._resolution())

    @torch.jit.unused
    def _resolution(self) -> Resolution:
        return Resolution(self.dl, self.spacing, self.order)

    def _packed(
        self,
        periodic: bool,
        system: Batch,
        width: int,
        extent: list[int] | None,
        compute_potential: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """The direct sum and the one over pairs, which take rectangular arrays."""
        n_structures = system.counts.shape[0]
        equal = system.charges.shape[0] == n_structures * width
        slots = system.owner
        if equal:
            q = system.charges.view(n_structures, width, -1)
            r = system.positions.view(n_structures, width, 3)
        else:
            slots = assign_slots(
                system.owner, system.counts, first_rows(system.counts, width), width
            )
            q = pack_charges(system.charges, slots, n_structures, width)
            r = pack_positions(system.positions, slots, n_structures, width)
        if periodic:
            if extent is None:
                extent = grid_extent(system.cell, self.dl)
            check_grid(extent, n_structures, self.dl)
            energy, potential = reciprocal_sum(
                q,
                r,
                system.cell,
                self.sigma,
                self.dl,
                self.cutoff == "smooth",
                compute_potential,
                extent,
                half_height=system.half_height,
            )
        else:
            energy, potential = open_sum(q, r, self.sigma, compute_potential)
        if potential is not None:
            potential = potential.flatten(0, 1)
            if not equal:
                potential = potential.index_select(0, slots)
        return energy, potential
