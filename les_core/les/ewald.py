r"""The electrostatic energy of Gaussian charges, for a batch of structures.

This is the front of ``les.sums``: settings, which pickles hold, and the ways in. ``sums.plan``
decides how structures are summed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import les.sums.operator  # noqa: F401  (which registers the operators)
from les.multipoles import checked_moments, multipole_energies
from les.ranges import check_number
from les.sums.checks import as_indices, check_tensors, open_cells
from les.sums.method import Settings
from les.sums.plan import evaluate, make_plan
from les.sums.reciprocal.accuracy import CUTOFFS, DEFAULT_DL, METHODS, resolve
from les.sums.sources import Fields
from les.sums.system import Given
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
    Slabs, with two periodic axes, have the periodic sum with a truncated Green's function. It is
    independent of the vacuum and of the position of the slab in it
    (``les.sums.reciprocal.greens.slab_greens_function``).
    Channels add up. A charged cell is neutralised by leaving out k = 0, a charged slab is not
    neutralised. The formulas are those of B. Cheng, npj Comput. Mater. 11, 80 (2025).

    Args:
        sigma: width of the Gaussian charges [A].
        dl: resolution of the periodic sum, ``k_max = 2 pi / dl`` [A]. ``docs/accuracy.md`` has a
            table of the errors; a model is trained with its ``dl``.
        method: ``"direct"``, ``"mesh"``, or ``"auto"``, which takes the faster one for the number
            of atoms of a structure. Open structures of less than 20 000 atoms (2500 without
            compiled kernels), and sparse ones, are always summed over pairs.
        cutoff: ``"smooth"`` tapers the sum towards ``k_max``, so that energy, forces and
            stress are continuous when the cell changes; ``"sharp"`` is the cutoff of published
            models.
        remove_self_interaction: leave out the interaction of each charge with itself.
        norm_factor: ``2 pi k_e`` [eV A / e^2].
        accuracy: largest relative error of forces (root mean square), which determines ``dl`` and
            the mesh. A ``dl`` other than the default is kept, and has to be fine enough.
            Without it, the mesh differs from the direct sum by less than 1e-5. Both hold for
            charges; with dipoles and quadrupoles errors are larger.
        spacing: largest distance of mesh points along a lattice vector [A], below ``dl / 2``,
            in place of ``accuracy``.
        order: order of the splines of the mesh, 4 to 8; together with ``spacing``.
    """

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
                that results are meaningless (``les.sums.checks`` has the limits), one periodic
                axis, a periodic structure without a cell, atoms at the same place in an open
                structure that is summed over pairs, a cell too large for ``dl``. The message
                names the argument.
            TypeError: wrong dtypes, and arguments that are no tensors.
            NotImplementedError: within ``torch.vmap`` over any of the arguments.
            RuntimeError: within ``torch.autocast``.
        """
        if not torch.jit.is_scripting():
            return self._evaluate(charges, positions, cell, batch, pbc, compute_potential)
        if cell is None:
            cell = open_cells(positions, batch, pbc)
        return self.by_operator(charges, positions, cell, as_indices(batch), pbc, compute_potential)

    def _evaluate(
        self,
        charges: Tensor,
        positions: Tensor,
        cell: Tensor | None,
        batch: Tensor | None,
        pbc: Tensor | None,
        compute_potential: bool,
    ) -> tuple[Tensor, Tensor | None]:
        check_tensors(charges=charges, positions=positions)
        check_tensors(True, cell=cell, batch=batch, pbc=pbc)
        if cell is None:
            cell = open_cells(positions, batch, pbc)
        batch = as_indices(batch)
        if torch.compiler.is_compiling():
            return self.by_operator(charges, positions, cell, batch, pbc, compute_potential)
        plan = make_plan(Given(charges, positions, cell, batch, pbc), self.settings())
        energy, potential = evaluate(plan, compute_potential)
        if potential is not None and charges.dim() == 1:
            potential = potential.squeeze(-1)
        return energy, potential

    @torch.jit.unused
    def multipoles(
        self,
        charges: Tensor,
        positions: Tensor,
        cell: Tensor | None = None,
        batch: Tensor | None = None,
        pbc: Tensor | None = None,
        *,
        dipoles: Tensor | None = None,
        quadrupoles: Tensor | None = None,
        compute_fields: bool = False,
    ) -> tuple[Tensor, Fields | None]:
        r"""Energies of charges, dipoles and quadrupoles, under the same boundary conditions.

        Each multipole has the Gaussian shape of the charges (``les.sums.sources``). Channels add
        up. On a mesh, relative errors of forces are about 10 times as large with dipoles as with
        charges alone, and 200 times with quadrupoles.

        Args:
            charges, positions, cell, batch, pbc: as for :meth:`forward`.
            dipoles: ``[n_atoms, 3]`` or ``[n_atoms, n_channels, 3]`` [e A].
            quadrupoles: ``[n_atoms, 3, 3]`` or ``[n_atoms, n_channels, 3, 3]`` [e A^2], symmetric
                and traceless, :math:`Q_{ab}=\sum q(r_ar_b-\delta_{ab}r^2/3)`.
            compute_fields: return also potentials, fields and their derivatives at the atoms.

        Returns:
            Energy ``[n_structures]`` [eV], and potentials, their gradients and second derivatives
            at the atoms, all with a dimension for channels, or ``None``.

        Raises:
            ValueError, TypeError: as :meth:`forward`; for quadrupoles that are not symmetric or not
                traceless; within compiled code.
        """
        moments = checked_moments(charges, positions, dipoles, quadrupoles)
        return multipole_energies(
            self.settings(), moments, positions, cell, batch, pbc, compute_fields
        )

    def by_operator(
        self,
        charges: Tensor,
        positions: Tensor,
        cell: Tensor,
        batch: Tensor | None,
        pbc: Tensor | None,
        compute_potential: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """The results of :meth:`forward`, computed by the operator ``les::ewald_sum``.

        TorchScript, compilers and exported graphs use it, because they cannot inspect values.
        """
        differentiable = torch.is_grad_enabled()
        wanted = [
            compute_potential or (differentiable and charges.requires_grad),
            differentiable and positions.requires_grad,
            differentiable and cell.requires_grad,
        ]
        energy, potential, _, _ = torch.ops.les.ewald_sum(
            charges,
            positions,
            cell,
            batch,
            pbc,
            self.sigma,
            self.dl,
            self.method,
            self.cutoff,
            self.remove_self_interaction,
            self.norm_factor,
            self.spacing,
            self.order,
            wanted,
        )
        return energy, potential if compute_potential else None

    def settings(self) -> Settings:
        """The settings as plain values."""
        return Settings(
            self.sigma,
            self.dl,
            self.method,
            self.cutoff,
            self.remove_self_interaction,
            self.norm_factor,
            self.spacing,
            self.order,
        )
