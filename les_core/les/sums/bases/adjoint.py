r"""From atoms to components and back, differentiable any number of times.

A basis :math:`\Phi_m(\mathbf s)=\prod_a\phi_{a,m_a}(s_a)` of functions of an atom's place is
what a periodic sum sees of it: splines of a mesh, or plane waves. :func:`spread` and
:func:`gather` are each other's transpose,

.. math::
    \rho_m = \sum_{d,i} f_{di}\,\partial^d\Phi_m(\mathbf s_i), \qquad
    g_{di} = \sum_m V_m\,\partial^d\Phi_m(\mathbf s_i),

for a list of derivatives d. The gradient of each is the other one with one derivative more, so
that they can be differentiated again and again, and keep only their arguments for it.
"""

from __future__ import annotations

import functools
from typing import Any, Protocol

import torch
from torch import Tensor

from les.sums.vectorised import not_vectorised, takes_batched_gradients

#: How often along each axis something is differentiated.
Derivative = tuple[int, int, int]

NONE: Derivative = (0, 0, 0)


class Basis(Protocol):
    """Functions at the places of some atoms. Not differentiable by itself."""

    def spread(self, values: Tensor, derivatives: tuple[Derivative, ...]) -> Tensor:
        """Components ``[n_channels, ...]`` of ``values [n_derivatives, n_channels, *atoms]``."""

    def gather(self, components: Tensor, derivatives: tuple[Derivative, ...]) -> Tensor:
        """Values ``[n_derivatives, n_channels, *atoms]`` of ``components [n_channels, ...]``."""


class Expansion(Basis, Protocol):
    """A basis whose components have powers, which are weighted. These are differentiable."""

    def weighted_power(self, components: Tensor, weights: Tensor) -> Tensor:
        """Sums of the weighted powers of all components, ``[n_structures]``."""

    def weighted(self, components: Tensor, weights: Tensor) -> Tensor:
        """Components times their weights, in the shape of ``components``."""


def expand(
    values: Tensor,
    places: Tensor,
    basis: Expansion,
    weights: Tensor,
    compute_potential: bool,
    derivatives: tuple[Derivative, ...] = (NONE,),
) -> tuple[Tensor, Tensor | None]:
    r"""The sum :math:`\sum_m W_m|\rho_m|^2` of the components of values at atoms.

    Args:
        values: ``[n_derivatives, n_channels, *atoms]``.
        places: coordinates ``[3, *atoms]`` that the basis depends on.
        basis: functions at these places.
        weights: of the powers, in the shape that the basis takes.
        compute_potential: also return the derivative with respect to ``values``.
        derivatives: what ``values`` multiply, with respect to ``places``.

    Returns:
        ``[n_structures]``, and a tensor like ``values`` (or ``None``).
    """
    components = spread(values, places, basis, derivatives)
    total = basis.weighted_power(components, weights)
    if not compute_potential:
        return total, None
    weighted = basis.weighted(components, 2.0 * weights)
    return total, gather(weighted, places, basis, derivatives)


def spread(
    values: Tensor, places: Tensor, basis: Basis, derivatives: tuple[Derivative, ...] = (NONE,)
) -> Tensor:
    r"""Components :math:`\rho` of values at atoms.

    Args:
        values: ``[n_derivatives, n_channels, *atoms]``.
        places: coordinates ``[3, *atoms]`` that the functions depend on.
        basis: the functions at these places.
        derivatives: what ``values`` multiply, with respect to ``places``.

    Returns:
        ``[n_channels, ...]``, in the shape of the basis.
    """
    components: Tensor = _Spread.apply(values, places, basis, derivatives)
    return components


def gather(
    components: Tensor, places: Tensor, basis: Basis, derivatives: tuple[Derivative, ...] = (NONE,)
) -> Tensor:
    """Values ``[n_derivatives, n_channels, *atoms]`` at atoms; see :func:`spread`."""
    values: Tensor = _Gather.apply(components, places, basis, derivatives)
    return values


@functools.lru_cache(maxsize=64)
def _with_gradient(
    derivatives: tuple[Derivative, ...],
) -> tuple[tuple[Derivative, ...], list[list[int]]]:
    """All first derivatives of some derivatives, each once, and where those of each axis are."""
    places: dict[Derivative, int] = {derivative: i for i, derivative in enumerate(derivatives)}
    axes: list[list[int]] = []
    for axis in range(3):
        found = []
        for derivative in derivatives:
            raised = list(derivative)
            raised[axis] += 1
            found.append(places.setdefault((raised[0], raised[1], raised[2]), len(places)))
        axes.append(found)
    return tuple(places), axes


def _gradients(
    components: Tensor,
    values: Tensor,
    places: Tensor,
    basis: Basis,
    derivatives: tuple[Derivative, ...],
    wanted: tuple[bool, bool],
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of ``(components * spread(values)).sum()``.

    With respect to ``values`` and ``places``, as far as they are ``wanted``.
    """
    to_values = to_places = None
    n = len(derivatives)
    if wanted[1]:
        all_, axes = _with_gradient(derivatives)
        skipped = 0 if wanted[0] else n
        # Derivatives of the list itself come first, unless they are first derivatives as well.
        if skipped and any(place < n for axis in axes for place in axis):
            skipped = 0
        seen = gather(components, places, basis, all_[skipped:])
        if n == 1:
            raised = seen[axes[0][0] - skipped : axes[2][0] - skipped + 1].unsqueeze(1)
        else:
            raised = seen[torch.tensor(axes, device=seen.device) - skipped]
        to_places = (values * raised).sum(dim=(1, 2))
        if wanted[0]:
            to_values = seen[:n]
    elif wanted[0]:
        to_values = gather(components, places, basis, derivatives)
    return to_values, to_places


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(
        values: Tensor, places: Tensor, basis: Basis, derivatives: tuple[Derivative, ...]
    ) -> Tensor:
        return basis.spread(values, derivatives)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        values, places, *ctx.settings = inputs
        ctx.save_for_backward(values, places)
        ctx.save_for_forward(values, places)

    @staticmethod
    @takes_batched_gradients
    def backward(ctx: Any, components: Tensor) -> tuple[Tensor | None, ...]:
        values, places = ctx.saved_tensors
        basis, derivatives = ctx.settings
        found = _gradients(components, values, places, basis, derivatives, ctx.needs_input_grad[:2])
        return *found, None, None

    @staticmethod
    def jvp(ctx: Any, of_values: Tensor | None, of_places: Tensor | None, *_: None) -> Tensor:
        values, places = ctx.saved_tensors
        basis, derivatives = ctx.settings
        if of_values is None:
            of_values = torch.zeros_like(values)
        if of_places is None:
            return spread(of_values, places, basis, derivatives)
        all_, axes = _with_gradient(derivatives)
        changes = list(of_values) + [torch.zeros_like(values[0])] * (len(all_) - len(derivatives))
        for axis, raised in enumerate(axes):
            for place, value in zip(raised, values, strict=True):
                changes[place] = changes[place] + value * of_places[axis]
        return spread(torch.stack(changes), places, basis, all_)

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        values: Tensor,
        places: Tensor,
        basis: Basis,
        derivatives: tuple[Derivative, ...],
    ) -> tuple[Tensor, int]:
        """A batch of values, such as the rows of a Hessian, is taken as channels."""
        values = values.movedim(_batched(in_dims), 1)
        components = _Spread.apply(values.flatten(1, 2), places, basis, derivatives)
        return components.unflatten(0, (info.batch_size, -1)), 0


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(
        components: Tensor, places: Tensor, basis: Basis, derivatives: tuple[Derivative, ...]
    ) -> Tensor:
        return basis.gather(components, derivatives)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        components, places, *ctx.settings = inputs
        ctx.save_for_backward(components, places)
        ctx.save_for_forward(components, places)

    @staticmethod
    @takes_batched_gradients
    def backward(ctx: Any, values: Tensor) -> tuple[Tensor | None, ...]:
        components, places = ctx.saved_tensors
        to_components = to_places = None
        if ctx.needs_input_grad[0]:
            to_components = spread(values, places, *ctx.settings)
        if ctx.needs_input_grad[1]:
            basis, derivatives = ctx.settings
            wanted = (False, True)
            _, to_places = _gradients(components, values, places, basis, derivatives, wanted)
        return to_components, to_places, None, None

    @staticmethod
    def jvp(ctx: Any, of_components: Tensor | None, of_places: Tensor | None, *_: None) -> Tensor:
        components, places = ctx.saved_tensors
        basis, derivatives = ctx.settings
        if of_components is None:
            of_components = torch.zeros_like(components)
        change = gather(of_components, places, basis, derivatives)
        if of_places is None:
            return change
        all_, axes = _with_gradient(derivatives)
        seen = gather(components, places, basis, all_)
        for axis, raised in enumerate(axes):
            change = change + torch.stack([seen[place] for place in raised]) * of_places[axis]
        return change

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        components: Tensor,
        places: Tensor,
        basis: Basis,
        derivatives: tuple[Derivative, ...],
    ) -> tuple[Tensor, int]:
        """A batch of components is one of channels."""
        components = components.movedim(_batched(in_dims), 0)
        values = _Gather.apply(components.flatten(0, 1), places, basis, derivatives)
        return values.unflatten(1, (info.batch_size, -1)), 1


def _batched(in_dims: tuple[int | None, ...]) -> int:
    """Dimension of the batch of values or components, the only ones there may be."""
    if in_dims[0] is None or in_dims[1] is not None:
        raise NotImplementedError(not_vectorised("`positions`"))
    return in_dims[0]
