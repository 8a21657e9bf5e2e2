r"""The sum as operators of torch, which ``torch.compile`` and ``torch.export`` take as they are.

``les.Ewald`` looks at the values of its input, which a compiler that traces it cannot. It need not
trace it: to a compiler the sum is one operator, ``les::ewald``, that gives energies together with
all first derivatives,

.. math:: (q, r, A) \to (E, \partial E/\partial q, \partial E/\partial r, \partial E/\partial A),

so that forces are one of its outputs times the gradient that comes in. Derivatives of those outputs
are the other operator, ``les::ewald_second``, and end there. Both evaluate ``les.Ewald`` eagerly
where the compiled model runs, with its checks and its choice of method, whatever the sizes.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from les.sums.rows import not_vectorised, takes_rows

if TYPE_CHECKING:
    from les.ewald import Ewald

#: Arguments of ``Ewald`` that both operators take, after those of ``Ewald.forward``. The last
#: argument is which derivatives by charges, positions and cell are wanted.
_SETTINGS = (
    "sigma", "dl", "method", "cutoff", "remove_self_interaction", "norm_factor", "spacing", "order",
)  # fmt: skip
_ARGUMENTS = (
    "Tensor charges, Tensor positions, Tensor cell, Tensor? batch, Tensor? pbc, float sigma, "
    "float dl, str method, str cutoff, bool remove_self_interaction, float norm_factor, "
    "float spacing, int order, bool[] wanted"
)

#: What autograd relies on besides its own: it makes tensors of zeros without data, for instance.
_DISPATCHED_AGAIN = [
    getattr(torch._C.DispatchKey, name)
    for name in ("Conjugate", "Negative", "ZeroTensor", "ADInplaceOrView")
]


def compiled_ewald(
    ewald: Ewald,
    charges: Tensor,
    positions: Tensor,
    cell: Tensor,
    batch: Tensor | None,
    pbc: Tensor | None,
    compute_potential: bool,
) -> tuple[Tensor, Tensor | None]:
    """What ``Ewald.forward`` returns for the same arguments, by the operators."""
    n_atoms = charges.shape[:1]
    fits = batch is None or (batch.dtype == torch.long and batch.shape == n_atoms)
    if not (fits and cell.dim() == 3):
        # The operator will refuse them, if no derivative is traced for them before.
        charges, positions, cell = charges.detach(), positions.detach(), cell.detach()
    differentiable = torch.is_grad_enabled()
    wanted = [differentiable and leaf.requires_grad for leaf in (charges, positions, cell)]
    wanted[0] = wanted[0] or compute_potential
    energy, potential, _, _ = torch.ops.les.ewald(
        charges,
        positions,
        cell,
        batch,
        pbc,
        *(getattr(ewald, name) for name in _SETTINGS),
        wanted,
    )
    return energy, potential if compute_potential else None


@contextlib.contextmanager
def _as_outside() -> Iterator[None]:
    """Operators run below autograd, and below more where torch checks them: not in here."""
    excluded = torch._C._dispatch_tls_local_exclude_set()
    for key in _DISPATCHED_AGAIN:
        excluded = excluded.remove(key)
    included = torch._C._dispatch_tls_local_include_set()
    with torch._C._ForceDispatchKeyGuard(included, excluded), torch.inference_mode(False):
        yield


@functools.lru_cache(maxsize=64)
def _ewald(*settings: Any) -> Ewald:
    from les.ewald import Ewald  # which imports this module

    return Ewald(**dict(zip(_SETTINGS, settings, strict=True)))


def _energy(arguments: tuple[Any, ...], differentiated: list[bool]) -> tuple[Tensor, list[Tensor]]:
    """Energies, and the charges, positions and cell that they can be differentiated by."""
    # Autograd cannot save tensors of inference mode.
    charges, positions, cell, batch, pbc = (
        value.clone() if value is not None and value.is_inference() else value
        for value in arguments[:5]
    )
    leaves = [
        leaf.detach().requires_grad_(chosen)
        for leaf, chosen in zip((charges, positions, cell), differentiated, strict=True)
    ]
    energy, _ = _ewald(*arguments[5:-1])(*leaves, batch, pbc)
    return energy, leaves


def _of(chosen: list[bool], values: Sequence[Any]) -> list[Any]:
    return [value for flag, value in zip(chosen, values, strict=True) if flag]


def _gradients(value: Tensor, leaves: list[Tensor], create_graph: bool = False) -> list[Tensor]:
    if not value.requires_grad:  # without atoms
        return [torch.zeros_like(leaf) for leaf in leaves]
    found = torch.autograd.grad(
        value, leaves, create_graph=create_graph, allow_unused=True, materialize_grads=True
    )
    return list(found)


def _outputs(gradients: list[Tensor], wanted: list[bool], like: Tensor) -> list[Tensor]:
    """A tensor also for what is not wanted: operators cannot return None."""
    remaining = iter(gradients)
    return [next(remaining).contiguous() if chosen else like.new_empty(0) for chosen in wanted]


@torch.library.custom_op(
    "les::ewald", mutates_args=(), schema=f"({_ARGUMENTS}) -> (Tensor, Tensor, Tensor, Tensor)"
)
def _first(*arguments: Any) -> tuple[Tensor, ...]:
    wanted = arguments[-1]
    with _as_outside():
        energy, leaves = _energy(arguments, wanted)
        first = _gradients(energy.sum(), _of(wanted, leaves))
        return energy.detach(), *_outputs(first, wanted, energy)


@torch.library.custom_op(
    "les::ewald_second",
    mutates_args=(),
    schema=f"(Tensor?[] incoming, {_ARGUMENTS}) -> (Tensor, Tensor, Tensor)",
)
def _second(incoming: list[Tensor | None], *arguments: Any) -> tuple[Tensor, ...]:
    wanted, given = arguments[-1], [gradient is not None for gradient in incoming]
    with _as_outside():
        energy, leaves = _energy(arguments, [a or b for a, b in zip(wanted, given, strict=True)])
        first = _gradients(energy.sum(), _of(given, leaves), create_graph=True)
        products = [
            (value * gradient.clone()).sum()
            for value, gradient in zip(first, _of(given, incoming), strict=True)
        ]
        second = _gradients(torch.stack(products).sum(), _of(wanted, leaves))
        return tuple(_outputs(second, wanted, energy))


@_second.register_fake
def _second_shapes(incoming: list[Tensor | None], *arguments: Any) -> tuple[Tensor, ...]:
    leaves, wanted = arguments[:3], arguments[-1]
    shapes = [leaf.shape if chosen else [0] for leaf, chosen in zip(leaves, wanted, strict=True)]
    return tuple(leaf.new_empty(shape) for leaf, shape in zip(leaves, shapes, strict=True))


@_second.register_vmap
def _second_of_rows(
    info: Any, in_dims: tuple[Any, ...], incoming: list[Tensor | None], *arguments: Any
) -> tuple[Any, ...]:
    """Rows of a Hessian, one after the other."""
    dims = in_dims[0] or [None] * len(incoming)
    if any(dim is not None for dim in in_dims[1:6]):
        raise NotImplementedError(not_vectorised("the arguments"))
    found = []
    for row in range(info.batch_size):
        given = [
            value if value is None or dim is None else value.select(dim, row)
            for value, dim in zip(incoming, dims, strict=True)
        ]
        found.append(torch.ops.les.ewald_second(given, *arguments))
    results = tuple(torch.stack(values) for values in zip(*found, strict=True))
    return results, (0,) * len(results)


@_first.register_vmap
def _refuse_rows(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> Any:
    raise NotImplementedError(not_vectorised("the arguments"))


@_first.register_fake
def _first_shapes(*arguments: Any) -> tuple[Tensor, ...]:
    charges, cell = arguments[0], arguments[2]
    return charges.new_empty(cell.shape[:1]), *_second_shapes([], *arguments)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs[:5], *output[1:])
    ctx.settings, ctx.wanted = inputs[5:-1], inputs[-1]


@takes_rows
def _backward(ctx: Any, to_energy: Tensor | None, *incoming: Tensor | None) -> tuple[Any, ...]:
    tensors, first = ctx.saved_tensors[:5], ctx.saved_tensors[5:]
    batch = tensors[3]
    needed = list(ctx.needs_input_grad[:3])
    if any(n and not w for n, w in zip(needed, ctx.wanted, strict=True)):
        raise RuntimeError("`wanted` must be true for what requires gradients")
    found: list[Any] = [None] * 3
    if to_energy is not None:
        of_atoms = to_energy[0] if batch is None else to_energy[batch]
        for i, gradient in enumerate(first):
            if needed[i]:
                factor = to_energy if i == 2 else of_atoms
                shape = [-1] + [1] * (gradient.dim() - 1)
                found[i] = factor.view(shape) * gradient
    given = [g if chosen else None for g, chosen in zip(incoming, ctx.wanted, strict=True)]
    if any(gradient is not None for gradient in given):
        second = torch.ops.les.ewald_second(given, *tensors, *ctx.settings, needed)
        for i in range(3):
            if needed[i]:
                found[i] = second[i] if found[i] is None else found[i] + second[i]
    return *found, *[None] * (3 + len(ctx.settings))


def _refuse(ctx: Any, *incoming: Tensor | None) -> None:
    raise RuntimeError(
        "third derivatives of the compiled sum are not supported: evaluate it without torch.compile"
    )


_first.register_autograd(_backward, setup_context=_save)
_second.register_autograd(_refuse)
