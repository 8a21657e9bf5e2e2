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
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from les.sums.derivatives import Gradients, change, first_derivatives, second_derivatives
from les.sums.function import apply
from les.sums.method import Settings
from les.sums.system import Given
from les.sums.vectorised import not_vectorised, takes_batched_gradients

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

#: Types of tensors that nothing but torch evaluates.
_ORDINARY = (Tensor, torch.nn.Parameter)

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


def _given(tensors: Sequence[Any]) -> Given:
    # Autograd cannot save tensors of inference mode.
    usable = [
        value.clone() if value is not None and value.is_inference() else value for value in tensors
    ]
    return Given(*usable)


def _outputs(gradients: Gradients, like: Tensor) -> list[Tensor]:
    """A tensor also for what is not wanted: operators cannot return None."""
    return [like.new_empty(0) if value is None else value.contiguous() for value in gradients]


def _first(*arguments: Any) -> tuple[Tensor, ...]:
    settings, wanted = Settings(*arguments[5:-1]), arguments[-1]
    energy, gradients = first_derivatives(_given(arguments[:5]), settings, wanted)
    return energy, *_outputs(gradients, energy)


def _second(*arguments: Any) -> tuple[Tensor, ...]:
    directions, given = arguments[:3], _given(arguments[3:8])
    settings, wanted = Settings(*arguments[8:-1]), arguments[-1]
    gradients = second_derivatives(given, settings, directions, wanted)
    return tuple(_outputs(gradients, given.positions))


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


def _after_second(ctx: Any, *incoming: Tensor | None) -> tuple[Any, ...]:
    """Any number of derivatives more, by those of the sum."""
    if torch._C._len_torch_dispatch_stack() > 0:
        raise RuntimeError(
            "third derivatives of the compiled sum are not supported: evaluate it without "
            "torch.compile"
        )
    directions, given = ctx.saved_tensors[:3], Given(*ctx.saved_tensors[3:])
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        # Aliases, as one of them may depend on another.
        leaves = [_alias(value) for value in given[:3]]
        along = [None if value is None else _alias(value) for value in directions]
        total = change(leaves, given, Settings(*ctx.settings), along)
        differentiable = [leaf for leaf, chosen in zip(leaves, ctx.wanted, strict=True) if chosen]
        options: dict[str, Any] = {"allow_unused": True, "materialize_grads": True}
        second = torch.autograd.grad(total, differentiable, create_graph=True, **options)
        chosen = [value for value, flag in zip(incoming, ctx.wanted, strict=True) if flag]
        products = [
            (value * factor).sum()
            for value, factor in zip(second, chosen, strict=True)
            if factor is not None and value.requires_grad
        ]
        inputs = [*leaves, *(value for value in along if value is not None)]
        if products:
            total = torch.stack(products).sum()
            third = torch.autograd.grad(total, inputs, create_graph=again, **options)
        else:
            third = tuple(torch.zeros_like(value) for value in inputs)
    to_directions = iter(third[3:])
    of_directions = [None if value is None else next(to_directions) for value in along]
    return *of_directions, *third[:3], None, None, None


def _alias(value: Tensor) -> Tensor:
    return value.view_as(value) if value.requires_grad else value.detach().requires_grad_()


class _Sum(torch.autograd.Function):
    """``ewald_sum`` above what evaluates it, which is the first argument.

    The last one are all of the operator's that are no tensors.
    """

    @staticmethod
    def forward(ctx: Any, below: Callable[..., Any], *arguments: Any) -> tuple[Tensor, ...]:
        *tensors, rest = arguments
        output: tuple[Tensor, ...] = below(*tensors, *rest)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, *output[1:])
        ctx.rest = rest
        return output

    @staticmethod
    @takes_batched_gradients
    def backward(ctx: Any, to_energy: Tensor | None, *incoming: Tensor | None) -> tuple[Any, ...]:
        saved, needed, wanted = ctx.saved_tensors, ctx.needs_input_grad[1:4], ctx.rest[-1]
        batch = saved[3]
        found: list[Any] = [None, None, None]
        for i in range(3):
            if not needed[i]:
                continue
            if not wanted[i]:
                raise RuntimeError("`wanted` must be true for what requires gradients")
            if to_energy is not None:
                found[i] = _of_structures(to_energy, None if i == 2 else batch, saved[5 + i])
        directions = [g if chosen else None for g, chosen in zip(incoming, wanted, strict=True)]
        if any(direction is not None for direction in directions):
            second = _product(*directions, *saved[:5], *ctx.rest[:-1], list(needed))
            for i in range(3):
                if needed[i]:
                    found[i] = second[i] if found[i] is None else found[i] + second[i]
        return None, *found, None, None, None


def _of_structures(factors: Tensor, batch: Tensor | None, values: Tensor) -> Tensor:
    """Values times the factors of their structures, without ``batch`` of one or in a row each."""
    if batch is None and values.dim() < 3:
        return factors[0] * values
    if batch is not None:
        factors = factors[batch]
    return factors.view([-1] + [1] * (values.dim() - 1)) * values


class _Product(torch.autograd.Function):
    """``ewald_product`` above what evaluates it; arguments are like those of :class:`_Sum`."""

    @staticmethod
    def forward(ctx: Any, below: Callable[..., Any], *arguments: Any) -> tuple[Tensor, ...]:
        *tensors, rest = arguments
        output: tuple[Tensor, ...] = below(*tensors, *rest)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)
        ctx.settings, ctx.wanted = rest[:-1], rest[-1]
        return output

    @staticmethod
    def backward(ctx: Any, *incoming: Tensor | None) -> tuple[Any, ...]:
        return None, *_after_second(ctx, *incoming), None


def _is_ordinary(arguments: Sequence[Any]) -> bool:
    """Whether nothing stands between autograd and the numbers of the tensors: no tracer, no mode.

    Then the sum is evaluated at once. To have torch find its way back here takes a sixth of the
    time of a small sum.
    """
    if torch._C._len_torch_dispatch_stack() > 0 or torch._C._are_functorch_transforms_active():
        return False
    for value in arguments:
        if value is not None and (type(value) not in _ORDINARY or value.is_meta):
            return False
    return True


def _with_autograd(
    function: Any, evaluate: Callable[..., Any], redispatch: Callable[..., Any], arguments: Any
) -> tuple[Tensor, ...]:
    n_tensors = 5 if function is _Sum else 8
    tensors = arguments[:n_tensors]
    below = evaluate if _is_ordinary(tensors) else redispatch
    differentiable = torch.is_grad_enabled() and torch._C._any_requires_grad(*tensors)
    if differentiable and _can_be_right(*tensors[-5:]):
        found: tuple[Tensor, ...] = apply(function, below, *tensors, arguments[n_tensors:])
    else:
        with torch.no_grad():
            found = below(*arguments)
    return found


def _can_be_right(
    charges: Tensor, positions: Tensor, cell: Tensor, batch: Tensor | None, pbc: Tensor | None
) -> bool:
    """Whether derivatives could be traced. Other arguments are refused when they are evaluated."""
    if cell.dim() != 3 or charges.dim() == 0:
        return False
    return batch is None or (batch.dtype == torch.long and batch.shape[:1] == charges.shape[:1])


def _product(*arguments: Any) -> tuple[Tensor, ...]:
    """``torch.ops.les.ewald_product``, at once where that is possible."""
    operator = torch.ops.les.ewald_product
    if not _is_ordinary(arguments[:8]):
        found: tuple[Tensor, ...] = operator(*arguments)
        return found
    return _with_autograd(_Product, _second, operator, arguments)


def _register() -> None:
    # Not `custom_op`, whose checks of results take longer than the sum of a small structure.
    energies, second = "les::ewald_sum", "les::ewald_product"
    outputs = "(Tensor, Tensor, Tensor)"
    torch.library.define(second, f"({_DIRECTIONS}, {_ARGUMENTS}) -> {outputs}")
    torch.library.define(energies, f"({_ARGUMENTS}) -> (Tensor, Tensor, Tensor, Tensor)")
    for name, function, evaluate, shapes in (
        (energies, _Sum, _first, _first_shapes),
        (second, _Product, _second, _second_shapes),
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

    def with_autograd(keys: Any, *arguments: Any) -> tuple[Tensor, ...]:
        below = functools.partial(redispatch, keys)
        return _with_autograd(function, evaluate, below, arguments)

    # Not `torch.library.register_autograd`, which always redispatches.
    _LIBRARY.impl(name, with_autograd, "Autograd", with_keyset=True)


# A copy of this module, as ``torch.package`` makes them, must not take the place of the first.
if not hasattr(torch.ops.les, "ewald_sum"):
    _register()
