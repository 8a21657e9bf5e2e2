r"""Energies of pairs of Gaussian charges, and their derivatives, by compiled kernels.

.. math:: E=\sum_{i<j}\mathbf q_i\cdot\mathbf q_j\,h(s_{ij}),\quad
    h(s)=\mathrm{erf}(\sqrt s)/\sqrt s,\quad s_{ij}=|\mathbf r_i-\mathbf r_j|^2.

The derivatives :math:`h_{n+1}=-dh_n/ds` of h are Boys functions, which follow from one another:
:math:`(2n+1)h_n=2sh_{n+1}+2e^{-s}/\sqrt\pi`. Nothing is kept but atoms.
"""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from les.native.library import DEGREE, END, call
from les.native.threads import in_parallel, threads_for

#: Energies ``[n_structures]`` of charges ``[n_structures, n_channels, n_atoms]`` and positions
#: ``[n_structures, 3, n_atoms]``.
PairEnergy = Callable[[Tensor, Tensor], Tensor]

#: Which x is in the middle of the argument of the series.
SCALE = 2.0


class _Task(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("n_structures", "n_channels", "n_atoms")),
        *((name, ctypes.c_int64) for name in ("first", "step")),
        *((name, ctypes.c_double) for name in ("scale", "slope", "intercept")),
        ("chebyshev", ctypes.c_double * (DEGREE + 1)),
    )


def pair_sum(
    compiled: ctypes.CDLL, charges: Tensor, positions: Tensor, plain: PairEnergy
) -> tuple[Tensor, Tensor, Tensor]:
    """Energies, their derivatives with respect to charges, and smallest squared distances.

    Args:
        compiled: as of ``library``.
        charges: ``[n_structures, n_channels, n_atoms]``.
        positions: ``[n_structures, 3, n_atoms]``, in the units of h.
        plain: the energies by operations of torch, for derivatives beyond the second.

    Returns:
        ``[n_structures]``, like ``charges``, and ``[n_structures]``, which is infinite where
        there are no pairs and not differentiable.
    """
    energy, potential, _, closest = _First.apply(charges, positions, compiled, plain)
    return energy, potential, closest


class _First(torch.autograd.Function):
    @staticmethod
    def forward(
        q: Tensor, r: Tensor, compiled: ctypes.CDLL, plain: PairEnergy
    ) -> tuple[Tensor, ...]:
        of_structures = q.new_zeros(q.shape[0])
        like = (of_structures, q, r, of_structures)
        energy, potential, gradient, closest = _run(compiled.les_pairs_first, (q, r), like)
        return energy.sum(dim=0), potential.sum(dim=0), gradient.sum(dim=0), closest.amin(dim=0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        q, r, *ctx.settings = inputs
        _, potential, gradient, closest = output
        ctx.mark_non_differentiable(closest)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(q, r, potential, gradient)

    @staticmethod
    def backward(ctx: Any, energy: Tensor | None, *incoming: Tensor | None) -> tuple[Any, ...]:
        q, r, *first = ctx.saved_tensors
        found: list[Tensor | None] = [None, None]
        if energy is not None:
            found = [energy.view(-1, 1, 1) * gradient for gradient in first]
        if incoming[0] is not None or incoming[1] is not None:
            vq, vr = (
                torch.zeros_like(like) if given is None else given
                for given, like in zip(incoming, (q, r), strict=False)
            )
            for i, second in enumerate(_Second.apply(q, r, vq, vr, *ctx.settings)):
                own = found[i]
                found[i] = second if own is None else own + second
        return *found, None, None


class _Second(torch.autograd.Function):
    """Derivatives by q and r of ``first . (vq, vr)``."""

    @staticmethod
    def forward(
        q: Tensor, r: Tensor, vq: Tensor, vr: Tensor, compiled: ctypes.CDLL, plain: PairEnergy
    ) -> tuple[Tensor, Tensor]:
        to_q, to_r = _run(compiled.les_pairs_second, (q, r, vq, vr), (q, r))
        return to_q.sum(dim=0), to_r.sum(dim=0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.plain = inputs[5]
        ctx.save_for_backward(*inputs[:4])

    @staticmethod
    def backward(ctx: Any, *incoming: Tensor) -> tuple[Tensor | None, ...]:
        def first(q: Tensor, r: Tensor) -> Any:
            energy, pull, *_ = torch.func.vjp(ctx.plain, q, r)
            return pull(torch.ones_like(energy))

        def second(q: Tensor, r: Tensor, vq: Tensor, vr: Tensor) -> Any:
            return torch.func.vjp(first, q, r)[1]((vq, vr))

        return *torch.func.vjp(second, *ctx.saved_tensors)[1](incoming), None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], *arguments: Any
    ) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
        """What is vectorised over, as the rows of a Hessian, are structures."""
        size = info.batch_size
        tensors = [
            (value.expand(size, *value.shape) if dim is None else value.movedim(dim, 0))
            for value, dim in zip(arguments[:4], in_dims[:4], strict=True)
        ]
        found = _Second.apply(*(tensor.flatten(0, 1) for tensor in tensors), *arguments[4:])
        to_q, to_r = (value.unflatten(0, (size, -1)) for value in found)
        return (to_q, to_r), (0, 0)


def _run(kernel: Any, inputs: tuple[Tensor, ...], like: tuple[Tensor, ...]) -> list[Tensor]:
    """Results of a kernel, shaped ``like`` these behind a first axis, over which they add up.

    Threads share the structures, or the pairs of each if there are few.
    """
    n_structures, n_channels, n_atoms = inputs[0].shape
    work = 8 * n_structures * n_atoms**2
    by_structure = threads_for(n_structures, work) >= threads_for(n_atoms, work)
    n_parts = 1 if by_structure else threads_for(n_atoms, work)
    arrays = [value.contiguous() for value in inputs]
    results = [value.new_zeros([n_parts, *value.shape]) for value in like]

    def part(structures: slice, first: int) -> None:
        task = _Task(
            structures.stop - structures.start, n_channels, n_atoms, first, n_parts, *_series()
        )
        chosen = [array[structures] for array in (*arrays, *(value[first] for value in results))]
        call(kernel, task, *chosen)

    def shares(start: int, stop: int) -> None:
        if by_structure:
            part(slice(start, stop), 0)
        else:
            for first in range(start, stop):
                part(slice(0, n_structures), first)

    in_parallel(shares, n_structures if by_structure else n_parts, work)
    return results


@functools.lru_cache(maxsize=1)
def _series() -> tuple[float, float, float, Any]:
    r"""Of :math:`e^{x^2}\mathrm{erfc}(x)`, 0 < x < ``END``, with what its argument follows from.

    The variable is (x - ``SCALE``) / (x + ``SCALE``), mapped to -1 ... 1.
    """
    last = (END - SCALE) / (END + SCALE)
    slope, intercept = 2.0 / (last + 1.0), (1.0 - last) / (1.0 + last)

    def function(argument: Any) -> Any:
        t = (argument - intercept) / slope
        x = SCALE * (1.0 + t) / (1.0 - t)
        return np.array([math.exp(value * value) * math.erfc(value) for value in x])

    coefficients = np.polynomial.chebyshev.chebinterpolate(function, DEGREE)
    return SCALE, slope, intercept, (ctypes.c_double * (DEGREE + 1))(*coefficients.tolist())
