"""The electrostatic sum done plainly, to measure ``les.Ewald`` against.

One structure after the other; in periodic cells cos and sin of every pair of atom and
k-point of a half space, in open ones the full matrix of distances. This is how published
implementations evaluate it; the numbers are those of ``les.Ewald(cutoff="sharp")``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from les.units import NORM_FACTOR


def naive_energy(
    charges: Tensor,
    positions: Tensor,
    cell: Tensor,
    batch: Tensor,
    sigma: float = 1.0,
    dl: float = 2.0,
) -> Tensor:
    """Energies ``[n_structures]`` [eV]; arguments as for ``les.Ewald``."""
    energies = []
    for structure in range(cell.shape[0]):
        chosen = batch == structure
        q, r, vectors = charges[chosen], positions[chosen], cell[structure]
        if torch.linalg.det(vectors).abs() > 1e-6:
            energies.append(_periodic(q, r, vectors, sigma, dl))
        else:
            energies.append(_open(q, r, sigma))
    return torch.stack(energies)


def _periodic(q: Tensor, r: Tensor, cell: Tensor, sigma: float, dl: float) -> Tensor:
    k_max = 2.0 * math.pi / dl
    reciprocal = 2.0 * math.pi * torch.linalg.inv(cell).T
    extent = [int(length / dl) for length in torch.linalg.norm(cell, dim=1)]
    ranges = [torch.arange(-n, n + 1) for n in extent]
    ranges[0] = torch.arange(extent[0] + 1)
    n = torch.cartesian_prod(*ranges).to(r.dtype)
    k = n @ reciprocal
    k_squared = (k * k).sum(dim=1)
    inside = (k_squared > 0.0) & (k_squared <= k_max**2)
    k, k_squared, n = k[inside], k_squared[inside], n[inside]
    # Of an inverse pair of k-points only one has n_1 > 0; with n_1 = 0 both are there.
    weight = torch.where(n[:, 0] > 0, 2.0, 1.0)
    phase = r @ k.T
    real = (q[:, None] * torch.cos(phase)).sum(dim=0)
    imaginary = (q[:, None] * torch.sin(phase)).sum(dim=0)
    kernel = weight * torch.exp(-0.5 * sigma**2 * k_squared) / k_squared
    total = (kernel * (real**2 + imaginary**2)).sum() / torch.linalg.det(cell).abs()
    self_energy = (q * q).sum() / (sigma * (2.0 * math.pi) ** 1.5)
    return NORM_FACTOR * (total - self_energy)


def _open(q: Tensor, r: Tensor, sigma: float) -> Tensor:
    separation = r[None, :, :] - r[:, None, :]
    # The diagonal would give NaN derivatives.
    diagonal = torch.eye(len(q), dtype=r.dtype)
    distance = torch.sqrt((separation**2).sum(dim=-1) + diagonal)
    kernel = (1.0 - diagonal) * torch.erf(distance / (math.sqrt(2.0) * sigma)) / distance
    return NORM_FACTOR / (4.0 * math.pi) * (q[:, None] * q[None, :] * kernel).sum()
