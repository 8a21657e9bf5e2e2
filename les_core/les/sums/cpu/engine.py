"""The loops of the sum by compiled kernels, on a CPU."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import torch
from torch import Tensor

from les.sums.bases.splines import MeshShape
from les.sums.cpu.cells import CellKernels
from les.sums.cpu.fourier import CompiledFourier
from les.sums.cpu.greens import greens_function
from les.sums.cpu.multipole_pairs import MultipolePairKernels
from les.sums.cpu.pairs import PairKernels
from les.sums.cpu.splines import CompiledSplines
from les.sums.cpu.survey import look_at as compiled_look_at
from les.sums.cpu.waves import WaveKernels
from les.sums.function import energy_and_gradients
from les.sums.method import Coefficients, Sums, WaveCharges
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

    def waves(self, waves: WaveCharges, weights: Tensor, compute_potential: bool) -> Sums:
        charges, fractional, extent, n_sources = waves
        kernels = WaveKernels(self.library, extent, n_sources)
        energy, potential, *_ = energy_and_gradients(kernels, charges, fractional, weights)
        return energy, potential if compute_potential else None

    def cell_kernels(
        self,
        extent: tuple[int, int, int],
        greens: GreensFunction,
        coefficients: Coefficients,
        of_cell: bool,
        n_sources: int,
    ) -> CellKernels:
        return CellKernels(self.library, extent, greens, coefficients, of_cell, n_sources)

    def pair_kernels(
        self, sigma: float, coefficients: Coefficients, n_sources: int
    ) -> PairKernels | MultipolePairKernels:
        if n_sources == 1:
            return PairKernels(self.library, sigma, coefficients)
        return MultipolePairKernels(self.library, sigma, coefficients, n_sources)

    @property
    def fourier(self) -> CompiledFourier:
        return CompiledFourier(self.library)

    def splines(
        self, fractional: Tensor, owner: Tensor | None, shape: MeshShape, order: int
    ) -> CompiledSplines:
        return CompiledSplines(fractional, owner, shape, order, self.library)
