r"""The sum as operators of torch, which TorchScript, ``torch.compile`` and ``torch.export`` take.

``les.Ewald`` looks at the values of its input, which a compiler that traces it cannot. It need not
trace it: to a compiler the sum is one operator, ``les::ewald_sum``, that gives energies together
with all first derivatives,

.. math:: (q, r, A) \to (E, \partial E/\partial q, \partial E/\partial r, \partial E/\partial A),

so that forces are one of its outputs times the gradient that comes in. Derivatives of those outputs
are the other operator, ``les::ewald_product``. Both evaluate the sum where the model runs, with its
checks and its choice of method, whatever the sizes. Derivatives beyond these are those of torch,
which no compiler can trace.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from les.sums.operator_autograd import (
    Product,
    Sum,
    evaluate_product,
    evaluate_sum,
    with_autograd,
)
from les.sums.vectorised import not_vectorised

#: Arguments of ``Ewald.forward``, then those of ``method.Settings``, and which derivatives by
#: charges, positions and cell are wanted.
_ARGUMENTS = (
    "Tensor charges, Tensor positions, Tensor cell, Tensor? batch, Tensor? pbc, float sigma, "
    "float dl, str method, str cutoff, bool remove_self_interaction, float norm_factor, "
    "float spacing, int order, bool[] wanted"
)

#: How charges, positions and cell change, for a product with second derivatives.
_DIRECTIONS = "Tensor? along_charges, Tensor? along_positions, Tensor? along_cell"

#: What holds kernels of operators as long as it exists.
_LIBRARY = torch.library.Library("les", "FRAGMENT")

#: What autograd relies on besides its own: it makes tensors of zeros without data, for instance.
_DISPATCHED_AGAIN = [
    getattr(torch._C.DispatchKey, name)
    for name in ("Conjugate", "Negative", "ZeroTensor", "ADInplaceOrView")
]


@contextlib.contextmanager
def _as_outside() -> Iterator[None]:
    """Operators run below autograd, and below more where torch checks them: not in here.

    Where something is differentiated in here, ``torch.enable_grad`` says so.
    """
    excluded = torch._C._dispatch_tls_local_exclude_set()
    for key in _DISPATCHED_AGAIN:
        excluded = excluded.remove(key)
    included = torch._C._dispatch_tls_local_include_set()
    with (
        torch._C._ForceDispatchKeyGuard(included, excluded),
        torch.inference_mode(False),  # which also brings autograd back
        torch.no_grad(),
    ):
        yield


def _first_shapes(*arguments: Any) -> tuple[Tensor, ...]:
    charges, cell = arguments[0], arguments[2]
    return charges.new_empty(cell.shape[:1]), *_second_shapes(None, None, None, *arguments)


def _second_shapes(*arguments: Any) -> tuple[Tensor, ...]:
    leaves, wanted = arguments[3:6], arguments[-1]
    shapes = [leaf.shape if chosen else [0] for leaf, chosen in zip(leaves, wanted, strict=True)]
    return tuple(leaf.new_empty(shape) for leaf, shape in zip(leaves, shapes, strict=True))


def _refuse_rows(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> Any:
    raise NotImplementedError(not_vectorised("the arguments"))


def _second_of_rows(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, ...]:
    """Rows of a Hessian, one after the other."""
    if any(dim is not None for dim in in_dims[3:8]):
        raise NotImplementedError(not_vectorised("the arguments"))
    found = []
    for row in range(info.batch_size):
        given = [
            value if value is None or dim is None else value.select(dim, row)
            for value, dim in zip(arguments[:3], in_dims[:3], strict=True)
        ]
        found.append(torch.ops.les.ewald_product(*given, *arguments[3:]))
    results = tuple(torch.stack(values) for values in zip(*found, strict=True))
    return results, (0,) * len(results)


def _register() -> None:
    # Not `custom_op`, whose checks of results take longer than the sum of a small structure.
    energies, second = "les::ewald_sum", "les::ewald_product"
    outputs = "(Tensor, Tensor, Tensor)"
    torch.library.define(second, f"({_DIRECTIONS}, {_ARGUMENTS}) -> {outputs}")
    torch.library.define(energies, f"({_ARGUMENTS}) -> (Tensor, Tensor, Tensor, Tensor)")
    for name, function, evaluate, shapes in (
        (energies, Sum, evaluate_sum, _first_shapes),
        (second, Product, evaluate_product, _second_shapes),
    ):
        torch.library.impl(name, "CompositeExplicitAutograd", _as_outside()(evaluate))
        torch.library.register_fake(name, shapes)
        _register_autograd(name, function, evaluate)
    torch.library.register_vmap(energies, _refuse_rows)
    torch.library.register_vmap(second, _second_of_rows)


def _register_autograd(name: str, function: Any, evaluate: Callable[..., Any]) -> None:
    operator = getattr(torch.ops.les, name.removeprefix("les::")).default

    def redispatch(keys: Any, *arguments: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            return operator.redispatch(keys & torch._C._after_autograd_keyset, *arguments)

    def kernel(keys: Any, *arguments: Any) -> tuple[Tensor, ...]:
        below = functools.partial(redispatch, keys)
        return with_autograd(function, evaluate, below, arguments)

    # Not `torch.library.register_autograd`, which always redispatches.
    _LIBRARY.impl(name, kernel, "Autograd", with_keyset=True)


# A copy of this module, as ``torch.package`` makes them, must not take the place of the first.
if not hasattr(torch.ops.les, "ewald_sum"):
    _register()
