"""Energies of pairs of Gaussian multipoles, and their derivatives, by compiled kernels.

They evaluate the formulas of ``les.sums.multipole_pairs``, in float64 whatever the precision of the
arguments. Nothing is kept but atoms.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any

import torch
from torch import Tensor

from les.sums.cpu.library import STEP
from les.sums.cpu.pairs import Series, in_shares_of_pairs, series, total
from les.sums.method import Coefficients, FirstAndSecond
from les.sums.multipole_pairs import sum_over_multipole_pairs
from les.sums.sources import factors_of_columns


class _Task(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("n_structures", "n_channels", "n_atoms")),
        *((name, ctypes.c_int64) for name in ("n_sources", "first", "step")),
        *((name, ctypes.c_double) for name in ("prefactor", "inverse")),
        ("series", Series),
    )


class MultipolePairKernels(FirstAndSecond):
    """``method.FirstAndSecond`` of sources and positions.

    Arguments of the energies are sources ``[n_structures, n_sources * n_channels, n_atoms]`` and
    positions ``[n_structures, n_atoms, 3]`` [A].

    Args:
        compiled: the kernels that ``library`` returned.
        sigma: width of the Gaussians [A].
        coefficients: what makes energies of the sums.
        n_sources: of an atom and a channel, 4 or 10.
    """

    def __init__(
        self, compiled: ctypes.CDLL, sigma: float, coefficients: Coefficients, n_sources: int
    ) -> None:
        self.compiled, self.sigma, self.n_sources = compiled, sigma, n_sources
        self.coefficients = coefficients
        self.inverse = 1.0 / (math.sqrt(2.0) * sigma)

    def plain(self, *arguments: Tensor) -> Tensor:
        sources, positions = arguments
        bare = sum_over_multipole_pairs(sources, positions, self.sigma, self.n_sources, False)
        factors = self._factors(sources)
        return self.coefficients.energies(bare, sources, None, factors)[0]

    def first(self, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        q, r = _in_steps(arguments)
        of_structures = q.new_zeros(q.shape[0])
        like = (of_structures, q, r, of_structures)
        kernel = self.compiled.les_multipole_pairs_first
        energy, to_q, to_r, closest = self._run(kernel, arguments[0], (q, r), like)
        if bool((closest == 0.0).any()):
            self.plain(*arguments)  # says which atoms
        energy, sources = total(energy), q[..., : arguments[0].shape[2]]
        own = self._of_squares(sources)
        if own is not None:
            energy = energy + 0.5 * (own * sources).sum(dim=(1, 2))
        return energy.to(arguments[0].dtype), *_out_of_steps(to_q, to_r, own, arguments)

    def second(
        self, arguments: tuple[Tensor, ...], directions: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        (q, r), (vq, vr) = _in_steps(arguments), _in_steps(directions)
        kernel = self.compiled.les_multipole_pairs_second
        to_q, to_r = self._run(kernel, arguments[0], (q, r, vq, vr), (q, r))
        own = self._of_squares(vq[..., : arguments[0].shape[2]])
        return _out_of_steps(to_q, to_r, own, arguments)

    def _factors(self, sources: Tensor) -> Tensor:
        return factors_of_columns(sources, sources.shape[1], self.n_sources, self.sigma)

    def _of_squares(self, sources: Tensor) -> Tensor | None:
        """Derivatives of the energies of sources with themselves, where there are such."""
        if self.coefficients.of_squares == 0.0:
            return None
        factors = 2.0 * self.coefficients.of_squares * self._factors(sources)
        return factors.unsqueeze(-1) * sources

    def _run(
        self, kernel: Any, sources: Tensor, inputs: tuple[Tensor, ...], like: tuple[Tensor, ...]
    ) -> list[Tensor]:
        n_structures, n_columns, n_atoms = sources.shape

        def task(n_structures: int, share: int, n_shares: int) -> ctypes.Structure:
            return _Task(
                *(n_structures, n_columns // self.n_sources, n_atoms, self.n_sources),
                *(share, n_shares, self.coefficients.prefactor, self.inverse, series()),
            )

        work = (8 + 2 * n_columns) * n_structures * n_atoms**2
        return in_shares_of_pairs(kernel, task, inputs, like, n_atoms, work)


def _in_steps(arguments: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Sources and positions in float64, with atoms along the last axis, which is filled up."""
    filled = []
    for value in (arguments[0], arguments[1].transpose(1, 2)):
        n_atoms = value.shape[2]
        target = value.new_zeros(
            [*value.shape[:2], -(-n_atoms // STEP) * STEP], dtype=torch.float64
        )
        target[..., :n_atoms] = value
        filled.append(target)
    return filled[0], filled[1]


def _out_of_steps(
    to_q: Tensor, to_r: Tensor, own: Tensor | None, like: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor]:
    """Derivatives in the shapes and the precision of the arguments, from shares of them."""
    n_atoms, dtype = like[0].shape[2], like[0].dtype
    sources, positions = (total(value)[..., :n_atoms] for value in (to_q, to_r))
    if own is not None:
        sources = sources + own
    return sources.to(dtype), positions.transpose(1, 2).to(dtype).contiguous()
