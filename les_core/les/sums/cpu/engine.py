"""The loops of the sum by compiled kernels, on a CPU."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import torch
from torch import Tensor

from les.sums.bases.splines import MeshShape
from les.sums.cpu.cells import CellKernels
from les.sums.cpu.greens import greens_function
from les.sums.cpu.pairs import PairKernels
from les.sums.cpu.splines import CompiledSplines
from les.sums.cpu.survey import look_at as compiled_look_at
from les.sums.cpu.waves import WaveKernels
from les.sums.direct import sum_over_cells
from les.sums.function import energy_and_gradients
from les.sums.method import Cells, Sums, WaveCharges
from les.sums.reciprocal.cutoff import GreensFunction
from les.sums.survey import Look, look_at
from les.sums.system import Given


class CpuEngine(NamedTuple):
    """``les.sums.method.Engine`` with the kernels that ``library`` returned."""

    library: ctypes.CDLL
    compiled: bool = True

    def look(self, given: Given, dl: float) -> Look:
        # What torch.func wraps has no memory that a kernel could look at.
        if torch._C._are_functorch_transforms_active():
            return look_at(given, dl)
        return compiled_look_at(self.library, given, dl)

    def greens_function(self, k_squared: Tensor, greens: GreensFunction) -> Tensor:
        return greens_function(self.library, greens, k_squared)

    def cells(self, cells: Cells, greens: GreensFunction, compute_potential: bool) -> Sums:
        if cells.half_height is not None:
            return sum_over_cells(cells, greens, self, compute_potential)
        charges, positions, cell, _, extent = cells
        # In torch.func and in forward mode cells may not tell that they are differentiated.
        forward = torch.autograd.forward_ad._current_level >= 0
        of_cell = cell.requires_grad or forward or torch._C._are_functorch_transforms_active()
        kernels = self.cell_kernels(extent, greens, of_cell)
        energy, potential, *_ = energy_and_gradients(kernels, charges, positions, cell)
        return energy, potential if compute_potential else None

    def waves(self, waves: WaveCharges, weights: Tensor, compute_potential: bool) -> Sums:
        charges, fractional, extent = waves
        kernels = WaveKernels(self.library, extent)
        energy, potential, *_ = energy_and_gradients(kernels, charges, fractional, weights)
        return energy, potential if compute_potential else None

    def pairs(
        self, charges: Tensor, positions: Tensor, sigma: float, compute_potential: bool
    ) -> Sums:
        energy, potential, _ = energy_and_gradients(self.pair_kernels(sigma), charges, positions)
        return energy, potential if compute_potential else None

    def cell_kernels(
        self, extent: tuple[int, int, int], greens: GreensFunction, of_cell: bool
    ) -> CellKernels:
        return CellKernels(self.library, extent, greens, of_cell)

    def pair_kernels(self, sigma: float) -> PairKernels:
        return PairKernels(self.library, sigma)

    def splines(
        self, fractional: Tensor, owner: Tensor | None, shape: MeshShape, order: int
    ) -> CompiledSplines:
        return CompiledSplines(fractional, owner, shape, order, self.library)
