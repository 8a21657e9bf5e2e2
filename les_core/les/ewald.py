r"""The electrostatic energy of Gaussian charges, for a batch of structures.

This is where boundary condition and method are chosen per structure; the sums themselves
are in ``direct`` (periodic) and ``open`` (vacuum).
"""

from __future__ import annotations

import math
from typing import Any, Optional, Tuple

import torch
from torch import Tensor, nn

from les import checks
from les.checks import has_volume
from les.direct import reciprocal_sum
from les.open import open_sum
from les.units import NORM_FACTOR

METHODS = ("auto", "direct")
CUTOFFS = ("smooth", "sharp")


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
    Channels add up. A charged cell is neutralised by leaving out k = 0. The formulas are
    those of B. Cheng, npj Comput. Mater. 11, 80 (2025).

    Args:
        sigma: width of the Gaussian charges [A].
        dl: resolution of the periodic sum, ``k_max = 2 pi / dl`` [A]. With sigma = 1 A,
            dl = 2 leaves 0.3 % error in the forces, dl = 1.5 less than 0.01 %.
        method: ``"direct"`` or ``"auto"`` (which is the direct sum at present).
        cutoff: ``"smooth"`` tapers the sum towards ``k_max``, so that energy, forces and
            stress are continuous when the cell changes; ``"sharp"`` is what published
            models were trained with.
        remove_self_interaction: leave out the interaction of each charge with itself.
        norm_factor: ``2 pi k_e`` [eV A / e^2].
    """

    def __init__(
        self,
        sigma: float = 1.0,
        dl: float = 2.0,
        method: str = "auto",
        cutoff: str = "smooth",
        remove_self_interaction: bool = True,
        norm_factor: float = NORM_FACTOR,
    ) -> None:
        super().__init__()
        for name, value in (("sigma", sigma), ("dl", dl), ("norm_factor", norm_factor)):
            if not (math.isfinite(value) and value > 0.0):
                raise ValueError(f"`{name}` must be positive and finite, got {value}")
        if method not in METHODS:
            raise ValueError(f"`method` must be one of {METHODS}, got {method!r}")
        if cutoff not in CUTOFFS:
            raise ValueError(f"`cutoff` must be one of {CUTOFFS}, got {cutoff!r}")
        self.sigma = float(sigma)
        self.dl = float(dl)
        self.method = method
        self.cutoff = cutoff
        self.remove_self_interaction = bool(remove_self_interaction)
        self.norm_factor = float(norm_factor)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Unpickle, also what published LES wrote: a missing flag has its old meaning."""
        historical = {
            "method": "auto",
            "cutoff": "sharp",
            "remove_self_interaction": True,
            "norm_factor": NORM_FACTOR,
        }
        super().__setstate__({**historical, **state})

    def extra_repr(self) -> str:
        return (
            f"sigma={self.sigma}, dl={self.dl}, method={self.method!r}, cutoff={self.cutoff!r}, "
            f"remove_self_interaction={self.remove_self_interaction}, "
            f"norm_factor={self.norm_factor}"
        )

    def forward(
        self,
        charges: Tensor,
        positions: Tensor,
        cell: Tensor,
        batch: Optional[Tensor] = None,
        pbc: Optional[Tensor] = None,
        compute_potential: bool = False,
    ) -> Tuple[Tensor, Optional[Tensor]]:
        r"""Energies and, on request, the electrostatic potential at the charges.

        Args:
            charges: ``[n_atoms]`` or ``[n_atoms, n_channels]`` [e].
            positions: ``[n_atoms, 3]`` [A].
            cell: ``[n_structures, 3, 3]`` [A], rows are lattice vectors; zero where open.
            batch: structure of each atom ``[n_atoms]``, ascending; may be left out for one
                structure. A structure may have no atoms; its energy is 0.
            pbc: ``[n_structures, 3]``, boolean. Without it, a structure is open if the
                volume of its cell is below 1e-6 A^3.
            compute_potential: return also :math:`\phi_i=\partial E/\partial q_i`.

        Returns:
            Energy ``[n_structures]`` [eV], and the potential [eV/e], shaped like
            ``charges``, or ``None``. :math:`\frac12\sum_i q_i\phi_i = E`.

        Raises:
            ValueError: wrong shapes, devices or orders, values that are not finite, two or
                one periodic axes, a periodic structure without a cell. The message names
                the argument.
            TypeError: wrong dtypes.
        """
        if not torch.jit.is_scripting():
            checks.check_positions(positions)
            checks.check_charges("charges", charges, positions)
            checks.check_cell(cell, positions)
            checks.check_batch(batch, positions.shape[0], cell.shape[0], positions.device)
            checks.check_pbc(pbc, cell)
        n_structures = cell.shape[0]
        if batch is None:
            batch = torch.zeros(positions.shape[0], dtype=torch.long, device=positions.device)
        if pbc is None:
            periodic = has_volume(cell)
        else:
            periodic = pbc.all(dim=1)
        channels = charges if charges.dim() == 2 else charges.unsqueeze(-1)

        n_periodic = int(periodic.sum())
        if n_periodic == n_structures:
            energy, potential = self._periodic(
                channels, positions, cell, batch, compute_potential
            )
        elif n_periodic == 0:
            energy, potential = self._open(
                channels, positions, batch, n_structures, compute_potential
            )
        else:
            energy, potential = self._mixed(
                channels, positions, cell, batch, periodic, compute_potential
            )
        if potential is not None and charges.dim() == 1:
            potential = potential.squeeze(-1)
        return energy, potential

    def _mixed(
        self,
        charges: Tensor,
        positions: Tensor,
        cell: Tensor,
        batch: Tensor,
        periodic: Tensor,
        compute_potential: bool,
    ) -> Tuple[Tensor, Optional[Tensor]]:
        """Periodic and open structures in one batch: each kind as a batch of its own."""
        energy = charges.new_zeros(periodic.shape[0])
        potential = torch.zeros_like(charges)
        for kind in [True, False]:
            chosen = periodic == kind
            structures = torch.nonzero(chosen).flatten()
            atoms = torch.nonzero(chosen[batch]).flatten()
            q, r = charges.index_select(0, atoms), positions.index_select(0, atoms)
            renumbered = (torch.cumsum(chosen.to(torch.long), dim=0) - 1)[batch[atoms]]
            if kind:
                part, phi = self._periodic(
                    q, r, cell.index_select(0, structures), renumbered, compute_potential
                )
            else:
                part, phi = self._open(
                    q, r, renumbered, structures.shape[0], compute_potential
                )
            energy = energy.index_add(0, structures, part)
            if phi is not None:
                potential = potential.index_add(0, atoms, phi)
        return energy, potential if compute_potential else None

    def _periodic(
        self,
        charges: Tensor,
        positions: Tensor,
        cell: Tensor,
        batch: Tensor,
        compute_potential: bool,
    ) -> Tuple[Tensor, Optional[Tensor]]:
        """Periodic structures, packed into rectangular arrays with zero charges as padding."""
        n_structures, n_atoms = cell.shape[0], positions.shape[0]
        if n_atoms == 0:
            return charges.new_zeros(n_structures), torch.zeros_like(charges)
        slots = torch.empty(0, dtype=torch.long, device=batch.device)
        if n_structures == 1:
            q, r = charges.unsqueeze(0), positions.unsqueeze(0)
        else:
            counts = torch.bincount(batch, minlength=n_structures)
            starts = torch.cumsum(counts, dim=0) - counts
            widest = int(counts.max())
            slots = torch.arange(n_atoms, device=batch.device) - starts[batch] + batch * widest
            shape = [n_structures * widest, charges.shape[1]]
            q = charges.new_zeros(shape).index_copy(0, slots, charges)
            r = positions.new_zeros([n_structures * widest, 3]).index_copy(0, slots, positions)
            q = q.view(n_structures, widest, charges.shape[1])
            r = r.view(n_structures, widest, 3)

        energy, phi = reciprocal_sum(
            q, r, cell, self.sigma, self.dl, self.cutoff == "smooth", compute_potential
        )
        energy = self.norm_factor * energy
        potential: Optional[Tensor] = None
        if phi is not None:
            phi = phi.flatten(0, 1)
            if n_structures > 1:
                phi = phi.index_select(0, slots)
            potential = self.norm_factor * phi
        if self.remove_self_interaction:
            energy = energy - self._self_energy(charges, batch, n_structures)
            if potential is not None:
                potential = potential - 2.0 * self._self_coefficient() * charges
        return energy, potential

    def _open(
        self,
        charges: Tensor,
        positions: Tensor,
        batch: Tensor,
        n_structures: int,
        compute_potential: bool,
    ) -> Tuple[Tensor, Optional[Tensor]]:
        coulomb_constant = self.norm_factor / (2.0 * math.pi)
        energy, potential = open_sum(
            charges, positions, batch, n_structures, self.sigma, compute_potential
        )
        energy = coulomb_constant * energy
        if potential is not None:
            potential = coulomb_constant * potential
        if not self.remove_self_interaction:
            energy = energy + self._self_energy(charges, batch, n_structures)
            if potential is not None:
                potential = potential + 2.0 * self._self_coefficient() * charges
        return energy, potential

    def _self_coefficient(self) -> float:
        """Energy of a unit Gaussian charge with itself, ``k_e / (sigma sqrt(2 pi))``."""
        return self.norm_factor / (2.0 * math.pi) / (self.sigma * math.sqrt(2.0 * math.pi))

    def _self_energy(self, charges: Tensor, batch: Tensor, n_structures: int) -> Tensor:
        squares = (charges * charges).sum(dim=-1)
        summed = charges.new_zeros(n_structures).index_add(0, batch, squares)
        return self._self_coefficient() * summed
