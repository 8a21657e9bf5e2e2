r"""Open boundaries: Gaussian multipoles in vacuum, summed over pairs of atoms.

With :math:`g_n=(\frac1r\frac d{dr})^n\,\mathrm{erf}(r/\sqrt2\sigma)/r` and the vector **d** from
atom j to atom i, what atom i feels of charge, dipole and quadrupole of atom j is

.. math::
    \phi=A_0,\quad \partial_a\phi=A_1d_a+v_a,\quad
    \partial_a\partial_b\phi=A_1\delta_{ab}+A_2d_ad_b+w_ad_b+d_aw_b+Q_{ab}g_2,

    A_n = qg_n-(\mathbf u\cdot\mathbf d)\,g_{n+1}+\tfrac12\mathrm{tr}Q\,g_{n+1}
    +\tfrac12(\mathbf d\cdot Q\mathbf d)\,g_{n+2},\quad
    \mathbf v=-\mathbf ug_1+Q\mathbf dg_2,\quad \mathbf w=-\mathbf ug_2+Q\mathbf dg_3.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from les.sums.boys import boys
from les.sums.checks import coincidence
from les.sums.method import Sums
from les.sums.sources import PAIRS_OF_AXES


def sum_over_multipole_pairs(
    sources: Tensor, positions: Tensor, sigma: float, n_sources: int, compute_potential: bool
) -> Sums:
    """Bare sums over pairs of rows of atoms, as ``pairs.sum_over_pairs`` for sources.

    Args:
        sources: ``[n_structures, n_sources * n_channels, n_atoms]``; zero on padding atoms.
        positions: ``[n_structures, n_atoms, 3]`` [A].
        sigma: width of the Gaussians [A].
        n_sources: of an atom and a channel, 4 or 10.
        compute_potential: also return the derivative with respect to the sources.

    Returns:
        Sum per structure ``[n_structures]``, and a tensor like ``sources`` (or ``None``).

    Raises:
        ValueError: if two atoms are at the same place.
    """
    seen = sources.unflatten(1, (n_sources, -1)).unsqueeze(3)  # of atoms j, the last axis
    r = positions.unsqueeze(1)
    d = [(x.unsqueeze(3) - x.unsqueeze(2)) for x in r.unbind(3)]  # [n_structures, 1, i, j]
    _refuse_coincidence(d, positions)
    g = _interactions(d, sigma, 2 if n_sources == 4 else 4)
    felt = torch.stack(_felt(seen, d, g), dim=1).flatten(1, 2)
    energy = 0.5 * (sources * felt).flatten(1).sum(dim=1)
    return energy, felt if compute_potential else None


def _refuse_coincidence(d: list[Tensor], positions: Tensor) -> None:
    same = (d[0].detach() == 0.0) & (d[1].detach() == 0.0) & (d[2].detach() == 0.0)
    coincident = same.squeeze(1).triu(diagonal=1)
    if bool(coincident.any()):
        found: list[int] = torch.nonzero(coincident)[0].tolist()
        raise coincidence(positions[found[0]], found[1], found[2])


def _interactions(d: list[Tensor], sigma: float, highest: int) -> list[Tensor]:
    """g_0 ... g_``highest``, zero between an atom and itself."""
    squared = d[0].square() + d[1].square() + d[2].square()
    itself = torch.eye(squared.shape[-1], dtype=torch.bool, device=squared.device)
    functions = boys(squared / (2.0 * sigma**2), highest).masked_fill(itself, 0.0)
    first = math.sqrt(2.0 / math.pi) / sigma
    return [first * (-1.0 / sigma**2) ** n * value for n, value in enumerate(functions)]


def _felt(seen: Tensor, d: list[Tensor], g: list[Tensor]) -> list[Tensor]:
    """Potentials and their derivatives ``[n_structures, n_channels, n_atoms]``, source by source.

    Args:
        seen: sources of atoms j ``[n_structures, n_sources, n_channels, 1, n_atoms]``.
        d: vectors from atoms j to atoms i.
        g: interactions.
    """
    q, u = seen[:, 0], [seen[:, 1], seen[:, 2], seen[:, 3]]
    with_quadrupoles = seen.shape[1] > 4
    scalars = [q, -(u[0] * d[0] + u[1] * d[1] + u[2] * d[2])]
    vectors = [[-component] for component in u]
    if with_quadrupoles:
        half, pairs = seen[:, 4:7].unbind(1), seen[:, 7:10].unbind(1)
        xx, yy, zz = (2.0 * value for value in half)
        xy, xz, yz = pairs
        turned = [
            row[0] * d[0] + row[1] * d[1] + row[2] * d[2]
            for row in ((xx, xy, xz), (xy, yy, yz), (xz, yz, zz))
        ]
        scalars[1] = scalars[1] + (half[0] + half[1] + half[2])
        scalars.append(0.5 * (turned[0] * d[0] + turned[1] * d[1] + turned[2] * d[2]))
        for vector, component in zip(vectors, turned, strict=True):
            vector.append(component)

    def series(parts: list[Tensor], n: int) -> Tensor:
        """Parts times g_n, g_(n + 1) and so on."""
        total = parts[0] * g[n]
        for step, part in enumerate(parts[1:], 1):
            total = total + part * g[n + step]
        return total

    along = series(scalars, 1)
    felt = [series(scalars, 0).sum(dim=-1)]
    felt += [(along * d[a] + series(vectors[a], 1)).sum(dim=-1) for a in range(3)]
    if with_quadrupoles:
        twice = series(scalars, 2)
        across = [series(vector, 2) for vector in vectors]
        moments = (xx, yy, zz, xy, xz, yz)
        for (a, b), moment in zip(PAIRS_OF_AXES, moments, strict=True):
            value = twice * (d[a] * d[b]) + across[a] * d[b] + across[b] * d[a] + moment * g[2]
            felt.append((value + along if a == b else value).sum(dim=-1))
    return felt
