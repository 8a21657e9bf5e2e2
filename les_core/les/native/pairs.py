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

from les.native.threads import in_parallel

#: Energies ``[n_structures]`` of charges ``[n_structures, n_channels, n_atoms]`` and positions
#: ``[n_structures, 3, n_atoms]``.
PairEnergy = Callable[[Tensor, Tensor], Tensor]

#: Of the series in the kernels, where it ends, and which x is in the middle of its argument.
DEGREE, END, SCALE = 16, 6.0, 2.0


class _Task(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("n_structures", "n_channels", "n_atoms")),
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
        q, r = q.contiguous(), r.contiguous()
        energy, closest = q.new_zeros(q.shape[0]), q.new_zeros(q.shape[0])
        potential, gradient = torch.zeros_like(q), torch.zeros_like(r)
        arrays = (q, r, energy, potential, gradient, closest)
        _for_all_structures(compiled.les_pairs_first, arrays)
        return energy, potential, gradient, closest

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
        inputs = [value.contiguous() for value in (q, r, vq, vr)]
        to_q, to_r = torch.zeros_like(inputs[0]), torch.zeros_like(inputs[1])
        _for_all_structures(compiled.les_pairs_second, (*inputs, to_q, to_r))
        return to_q, to_r

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.plain = inputs[5]
        ctx.save_for_backward(*inputs[:4])

    @staticmethod
    def backward(ctx: Any, *incoming: Tensor) -> tuple[Tensor | None, ...]:
        further = torch.is_grad_enabled()
        with torch.enable_grad():
            # Views, so that what they were made from is not differentiated as well.
            q, r, vq, vr = (
                (value if value.requires_grad else value.detach().requires_grad_()).view_as(value)
                for value in ctx.saved_tensors
            )
            value = ctx.plain(q, r).sum()
            for vectors in ((vq, vr), incoming):
                gradients = torch.autograd.grad(value, (q, r), create_graph=True)
                value = sum(
                    ((g * v).sum() for g, v in zip(gradients, vectors, strict=True)),
                    start=value.new_zeros(()),
                )
            found = torch.autograd.grad(value, (q, r, vq, vr), create_graph=further)
        return *found, None, None

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


def _for_all_structures(kernel: Any, arrays: tuple[Tensor, ...]) -> None:
    """``kernel(task, *arrays)``, the first of which are charges."""
    n_structures, n_channels, n_atoms = arrays[0].shape

    def structures(first: int, last: int) -> None:
        task = _Task(last - first, n_channels, n_atoms, *_series())
        addresses = (array[first:].data_ptr() for array in arrays)
        kernel(ctypes.byref(task), *map(ctypes.c_void_p, addresses))

    in_parallel(structures, n_structures, work=8 * n_structures * n_atoms**2)


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
