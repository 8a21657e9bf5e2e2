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
from typing import Any

import numpy as np
from torch import Tensor

from les.sums.cpu.library import DEGREE, END, call
from les.sums.cpu.threads import in_shares, shares_of_atoms
from les.sums.method import Coefficients, FirstAndSecond
from les.sums.pairs import sum_over_pairs

#: Which x is in the middle of the argument of the series.
SCALE = 2.0


class _Task(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("n_structures", "n_channels", "n_atoms")),
        *((name, ctypes.c_int64) for name in ("first", "step")),
        *((name, ctypes.c_double) for name in Coefficients._fields),
        *((name, ctypes.c_double) for name in ("inverse", "scale", "slope", "intercept")),
        ("chebyshev", ctypes.c_double * (DEGREE + 1)),
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
        return _total(energy), _total(to_q), _total(to_r).transpose(1, 2).contiguous()

    def second(
        self, arguments: tuple[Tensor, ...], directions: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        (q, r), (vq, vr) = arguments, directions
        given = (q, r.transpose(1, 2), vq, vr.transpose(1, 2))
        to_q, to_r = self._run(self.compiled.les_pairs_second, given, given[:2])
        return _total(to_q), _total(to_r).transpose(1, 2).contiguous()

    def _run(
        self, kernel: Any, inputs: tuple[Tensor, ...], like: tuple[Tensor, ...]
    ) -> list[Tensor]:
        """Results of a kernel, shaped ``like`` these behind a first axis, over which they add up.

        Threads share the structures, or the pairs of each if there are few.
        """
        n_structures, n_channels, n_atoms = inputs[0].shape
        work = 8 * n_structures * n_atoms**2
        n_shares = shares_of_atoms(n_structures, n_atoms, work)
        arrays = [value.contiguous() for value in inputs]
        results = [value.new_zeros([n_shares, *value.shape]) for value in like]

        def part(structures: slice, share: int) -> None:
            task = _Task(
                *(structures.stop - structures.start, n_channels, n_atoms, share, n_shares),
                *(*self.coefficients, self.inverse, *_series()),
            )
            chosen = [*arrays, *(value[share] for value in results)]
            if structures != slice(0, n_structures):
                chosen = [array[structures] for array in chosen]
            call(kernel, task, *chosen)

        in_shares(part, n_structures, n_shares, work)
        return results


def _total(shares: Tensor) -> Tensor:
    return shares[0] if shares.shape[0] == 1 else shares.sum(dim=0)


@functools.lru_cache(maxsize=1)
def _series() -> tuple[float, float, float, Any]:
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
    return SCALE, slope, intercept, (ctypes.c_double * (DEGREE + 1))(*coefficients.tolist())
