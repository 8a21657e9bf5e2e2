r"""Open boundaries: Gaussian charges in vacuum, summed over pairs of atoms.

Two Gaussian charges of width sigma a distance r apart interact with
:math:`k_e q_i q_j\,\mathrm{erf}(r/\sqrt2\sigma)/r`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from les.sums.checks import coincidence
from les.sums.function import energy_and_gradients
from les.sums.method import Engine, Part, Settings, Sums
from les.sums.multipole_pairs import sum_over_multipole_pairs
from les.sums.packed import PackedKernels
from les.sums.packing import in_rows, out_of_rows
from les.sums.sources import self_factors


def open_sum(part: Part, settings: Settings, engine: Engine, compute_potential: bool) -> Sums:
    r"""Energies of :math:`\sum_{i<j} q_i q_j\,\mathrm{erf}(r_{ij}/\sqrt2\sigma)/r_{ij}`.

    Args:
        part: open structures; their cells are not used.
        settings: of the sum.
        engine: who does the loops.
        compute_potential: also return the derivative with respect to the charges.

    Returns:
        Energy per structure ``[n_structures]`` [eV], and its derivative with respect to the charges
        ``[n_atoms, n_channels]`` [eV/e] (or ``None``).

    Raises:
        ValueError: if two atoms are at the same place.
    """
    kernels = pair_kernels(part, settings, engine)
    if kernels is not None:
        system = part.system
        found = energy_and_gradients(kernels, system.charges, system.positions)
        return found[0], found[1] if compute_potential else None
    charges, positions, slots = in_rows(part.system, part.width)
    n_sources, sigma = part.system.n_sources, settings.sigma
    if n_sources == 1:
        bare = sum_over_pairs(charges, positions, sigma, compute_potential)
    else:
        bare = sum_over_multipole_pairs(charges, positions, sigma, n_sources, compute_potential)
    factors = self_factors(part.system, sigma)
    energy, potential = settings.coefficients(False).energies(bare, charges, None, factors)
    return energy, None if potential is None else out_of_rows(potential, slots)


def pair_kernels(
    part: Part, settings: Settings, engine: Engine, of_cell: bool = False
) -> PackedKernels | None:
    """Kernels for all of :func:`open_sum`, where there are some."""
    coefficients, n_sources = settings.coefficients(False), part.system.n_sources
    kernels = engine.pair_kernels(settings.sigma, coefficients, n_sources)
    return None if kernels is None else PackedKernels(kernels, part)


def sum_over_pairs(
    charges: Tensor, positions: Tensor, sigma: float, compute_potential: bool
) -> Sums:
    """Bare sums over pairs of rows of atoms, by operations of torch.

    Args:
        charges: ``[n_structures, n_channels, n_atoms]``; zero on padding atoms.
        positions: ``[n_structures, n_atoms, 3]`` [A]; all places are different, those of
            padding atoms too.
        sigma: width of the Gaussian charges [A].
        compute_potential: also return the derivative with respect to the charges.

    Returns:
        Sum per structure ``[n_structures]``, and a tensor like ``charges`` (or ``None``).

    Raises:
        ValueError: if two atoms are at the same place.
    """
    n_atoms = positions.shape[1]
    first, second = torch.triu_indices(n_atoms, n_atoms, offset=1, device=charges.device).unbind(0)
    # Structures last: pairs are the same for all, so whole rows are gathered and, in the
    # derivatives, scattered. Put together from components, so that derivatives with respect to
    # positions are contiguous. In units of sqrt(2) sigma the kernel is erf(x) / x; distances are
    # taken before they are scaled, so that where the structure is does not matter.
    unit = math.sqrt(2.0) * sigma
    r = torch.stack([component.t() for component in positions.unbind(2)])
    q = charges.permute(1, 2, 0).contiguous()
    distance = (r.index_select(1, second) - r.index_select(1, first)).square().sum(dim=0).sqrt()
    distance = distance / unit
    _refuse_coincidence(distance, positions, first, second)
    kernel = torch.erf(distance) / distance  # [n_pairs, n_structures]

    q_first, q_second = q.index_select(1, first), q.index_select(1, second)
    energy = ((q_first * q_second).sum(dim=0) * kernel).sum(dim=0) / unit
    if not compute_potential:
        return energy, None
    potential = torch.zeros_like(q)
    potential = potential.index_add(1, first, q_second * kernel)
    potential = potential.index_add(1, second, q_first * kernel) / unit
    return energy, potential.permute(2, 0, 1)


def _refuse_coincidence(distance: Tensor, positions: Tensor, first: Tensor, second: Tensor) -> None:
    coincident = distance.detach() == 0.0
    if bool(coincident.any()):
        found: list[int] = torch.nonzero(coincident)[0].tolist()
        raise coincidence(positions[found[1]], int(first[found[0]]), int(second[found[0]]))
