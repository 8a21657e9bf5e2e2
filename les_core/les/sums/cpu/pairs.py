r"""Energies of pairs of Gaussian charges, and their derivatives, by compiled kernels.

.. math:: E=\sum_{i<j}\mathbf q_i\cdot\mathbf q_j\,h(s_{ij})/u,\quad
    h(s)=\mathrm{erf}(\sqrt s)/\sqrt s,\quad s_{ij}=|\mathbf r_i-\mathbf r_j|^2/u^2.

The derivatives :math:`h_{n+1}=-dh_n/ds` of h are Boys functions, which follow from one another:
:math:`(2n+1)h_n=2sh_{n+1}+2e^{-s}/\sqrt\pi`. Nothing is kept but atoms.
"""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from les.sums.cpu.library import DEGREE, END, call
from les.sums.cpu.threads import in_shares, shares_of_atoms
from les.sums.method import Coefficients, FirstAndSecond
from les.sums.pairs import sum_over_pairs

#: Which x is in the middle of the argument of the series.
SCALE = 2.0


class Series(ctypes.Structure):
    """What :func:`series` returns."""

    _fields_ = (
        *((name, ctypes.c_double) for name in ("scale", "slope", "intercept")),
        ("chebyshev", ctypes.c_double * (DEGREE + 1)),
    )


class _Task(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("n_structures", "n_channels", "n_atoms")),
        *((name, ctypes.c_int64) for name in ("first", "step")),
        *((name, ctypes.c_double) for name in Coefficients._fields),
        ("inverse", ctypes.c_double),
        ("series", Series),
    )


class PairKernels(FirstAndSecond):
    """``method.FirstAndSecond`` of charges and positions.

    Arguments of the energies are charges ``[n_structures, n_channels, n_atoms]`` and positions
    ``[n_structures, n_atoms, 3]`` [A].

    Args:
        compiled: the kernels that ``library`` returned.
        sigma: width of the Gaussian charges [A].
        coefficients: what makes energies of the sums.
    """

    def __init__(self, compiled: ctypes.CDLL, sigma: float, coefficients: Coefficients) -> None:
        self.compiled, self.sigma, self.coefficients = compiled, sigma, coefficients
        self.inverse = 1.0 / (math.sqrt(2.0) * sigma)

    def plain(self, *arguments: Tensor) -> Tensor:
        charges, positions = arguments
        bare = sum_over_pairs(charges, positions, self.sigma, False)
        return self.coefficients.energies(bare, charges)[0]

    def first(self, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        q, r = arguments[0], arguments[1].transpose(1, 2)
        of_structures = q.new_zeros(q.shape[0])
        like = (of_structures, q, r, of_structures)
        energy, to_q, to_r, closest = self._run(self.compiled.les_pairs_first, (q, r), like)
        if bool((closest == 0.0).any()):
            self.plain(*arguments)  # says which atoms
        return total(energy), total(to_q), total(to_r).transpose(1, 2).contiguous()

    def second(
        self, arguments: tuple[Tensor, ...], directions: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        (q, r), (vq, vr) = arguments, directions
        given = (q, r.transpose(1, 2), vq, vr.transpose(1, 2))
        to_q, to_r = self._run(self.compiled.les_pairs_second, given, given[:2])
        return total(to_q), total(to_r).transpose(1, 2).contiguous()

    def _run(
        self, kernel: Any, inputs: tuple[Tensor, ...], like: tuple[Tensor, ...]
    ) -> list[Tensor]:
        n_structures, n_channels, n_atoms = inputs[0].shape

        def task(n_structures: int, share: int, n_shares: int) -> ctypes.Structure:
            return _Task(
                *(n_structures, n_channels, n_atoms, share, n_shares),
                *(*self.coefficients, self.inverse, series()),
            )

        work = 8 * n_structures * n_atoms**2
        return in_shares_of_pairs(kernel, task, inputs, like, n_atoms, work)


def in_shares_of_pairs(
    kernel: Any,
    task: Callable[[int, int, int], ctypes.Structure],
    inputs: Sequence[Tensor],
    like: Sequence[Tensor],
    n_atoms: int,
    work: int,
) -> list[Tensor]:
    """Results of a kernel of pairs, ``like`` these behind a first axis, over which they add up.

    They are zero before. Threads share the structures, or the pairs of each if there are few.

    Args:
        kernel: takes a task, arrays of structures, and results.
        task: makes it for so many structures, and for a share of the atoms and their number.
        inputs: arrays, of which the first axis is that of structures.
        like: what results are like.
        n_atoms: of the largest structure.
        work: as for ``threads.in_shares``.
    """
    n_structures = len(inputs[0])
    n_shares = shares_of_atoms(n_structures, n_atoms, work)
    arrays = [value.contiguous() for value in inputs]
    results = [value.new_zeros([n_shares, *value.shape]) for value in like]

    def part(structures: slice, share: int) -> None:
        chosen = [*arrays, *(value[share] for value in results)]
        if structures != slice(0, n_structures):
            chosen = [array[structures] for array in chosen]
        call(kernel, task(structures.stop - structures.start, share, n_shares), *chosen)

    in_shares(part, n_structures, n_shares, work)
    return results


def total(shares: Tensor) -> Tensor:
    """The sum over the first axis."""
    return shares[0] if shares.shape[0] == 1 else shares.sum(dim=0)


@functools.lru_cache(maxsize=1)
def series() -> Series:
    r"""Series of :math:`e^{x^2}\mathrm{erfc}(x)`, 0 < x < ``END``.

    It comes with what its argument follows from. The variable is (x - ``SCALE``) /
    (x + ``SCALE``), mapped to -1 ... 1.
    """
    last = (END - SCALE) / (END + SCALE)
    slope, intercept = 2.0 / (last + 1.0), (1.0 - last) / (1.0 + last)

    def function(argument: Any) -> Any:
        t = (argument - intercept) / slope
        x = SCALE * (1.0 + t) / (1.0 - t)
        return np.array([math.exp(value * value) * math.erfc(value) for value in x])

    coefficients = np.polynomial.chebyshev.chebinterpolate(function, DEGREE)
    return Series(SCALE, slope, intercept, tuple(coefficients.tolist()))
