"""Plane waves by way of a mesh, as a basis of ``adjoint``: splines and a transform."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from les.sums.bases.adjoint import Basis, Derivative
from les.sums.bases.fourier import Fourier
from les.sums.bases.power import weighted_power
from les.sums.bases.splines import MeshShape

#: Mesh points of the structures that are done at a time, so that their meshes stay in cache
#: (CPU), or keep many cores busy (elsewhere). One structure may have more.
POINTS_AT_A_TIME, POINTS_AT_A_TIME_ELSEWHERE = 2**17, 2**27


class Splines(Basis, Protocol):
    """Splines of a mesh at the places of atoms; see ``splines.SplineMesh``."""

    @property
    def owner(self) -> Tensor | None:
        """Mesh of each atom ``[n_atoms]``; ``None`` for one mesh."""

    @property
    def shape(self) -> MeshShape:
        """The meshes."""

    def of_atoms(self, atoms: slice, owner: Tensor, shape: MeshShape) -> Splines:
        """Those of some of the atoms, on meshes of their own."""


class MeshWaves(NamedTuple):
    """Components up to an extent of the densities that the splines spread."""

    splines: Splines
    #: Largest number of a component along each axis.
    extent: tuple[int, int, int]
    fourier: Fourier

    def spread(self, values: Tensor, derivatives: tuple[Derivative, ...]) -> Tensor:
        """``[n_channels, n_structures, 2 n1 + 1, 2 n2 + 1, n3 + 1]``; see ``fourier.analyse``."""
        parts = []
        for splines, atoms in self._blocks(values.shape[1]):
            mesh = splines.spread(values[..., atoms], derivatives)
            components = self.fourier.analyse(mesh.flatten(0, 1), self.extent)
            parts.append(components.unflatten(0, mesh.shape[:2]))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def gather(self, components: Tensor, derivatives: tuple[Derivative, ...]) -> Tensor:
        """The transpose of :meth:`spread`."""
        parts, done = [], 0
        for splines, _ in self._blocks(components.shape[0]):
            n_structures, *sizes = splines.shape
            chosen = components[:, done : done + n_structures]
            mesh = self.fourier.synthesise(chosen.flatten(0, 1), (sizes[0], sizes[1], sizes[2]))
            parts.append(splines.gather(mesh.unflatten(0, chosen.shape[:2]), derivatives))
            done += n_structures
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)

    def weighted_power(self, components: Tensor, weights: Tensor) -> Tensor:
        """Sums ``[n_structures]`` of powers; weights are real, for each component."""
        return weighted_power(components, weights)

    def weighted(self, components: Tensor, weights: Tensor) -> Tensor:
        """Components times the same weights."""
        return weights * components

    def _blocks(self, n_channels: int) -> Iterator[tuple[Splines, slice]]:
        """A few structures at a time, and their atoms."""
        owner, shape = self.splines.owner, self.splines.shape
        n_structures, k1, k2, k3 = shape
        cpu = owner is None or owner.device.type == "cpu"
        most = POINTS_AT_A_TIME if cpu else POINTS_AT_A_TIME_ELSEWHERE
        width = max(1, most // (n_channels * k1 * k2 * k3))
        if owner is None or width >= n_structures:
            yield self.splines, slice(None)
            return
        firsts = torch.arange(0, n_structures + width, width, device=owner.device)
        atoms: list[int] = torch.searchsorted(owner, firsts).tolist()
        for first, start, stop in zip(range(0, n_structures, width), atoms, atoms[1:]):
            block = slice(start, stop)
            of_block = shape._replace(n_structures=min(width, n_structures - first))
            yield self.splines.of_atoms(block, owner[block] - first, of_block), block
