"""The loops of the sum by operations of torch, on any device."""

from __future__ import annotations

from torch import Tensor

from les.sums.bases.fourier import TorchFourier
from les.sums.bases.splines import MeshShape, SplineMesh
from les.sums.direct import sum_over_waves
from les.sums.method import Coefficients, Sums, WaveCharges
from les.sums.reciprocal.cutoff import GreensFunction
from les.sums.reciprocal.greens import periodic_greens_function
from les.sums.survey import Look, look_at
from les.sums.system import Given


class TorchEngine:
    """``les.sums.method.Engine`` without kernels."""

    @property
    def compiled(self) -> bool:
        return False

    def look(self, given: Given, dl: float) -> Look:
        return look_at(given, dl)

    def greens_function(self, k_squared: Tensor, greens: GreensFunction) -> Tensor:
        return periodic_greens_function(k_squared, greens)

    def waves(self, waves: WaveCharges, weights: Tensor, compute_potential: bool) -> Sums:
        return sum_over_waves(waves, weights, compute_potential)

    def cell_kernels(
        self,
        extent: tuple[int, int, int],
        greens: GreensFunction,
        coefficients: Coefficients,
        of_cell: bool,
        n_sources: int,
    ) -> None:
        return None

    def pair_kernels(self, sigma: float, coefficients: Coefficients, n_sources: int) -> None:
        return None

    @property
    def fourier(self) -> TorchFourier:
        return TorchFourier()

    def splines(
        self, fractional: Tensor, owner: Tensor | None, shape: MeshShape, order: int
    ) -> SplineMesh:
        return SplineMesh(fractional, owner, shape, order)
