"""Upstream's losses and metrics with terms of responses, which some structures do not have."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from nequip.data import BaseModifier
from nequip.train import MeanAbsoluteError, MeanSquaredError, MetricsManager, RootMeanSquaredError
from torch import Tensor

#: Names of errors, as upstream's.
ERRORS: Final = {"mse": MeanSquaredError, "rmse": RootMeanSquaredError, "mae": MeanAbsoluteError}


def WithResponses(
    metrics: Callable[..., MetricsManager],
    coeffs: Mapping[str, float],
    error: str = "mse",
    type_names: Sequence[str] | None = None,
) -> MetricsManager:
    """A loss or metrics of upstream with terms of responses, in which structures may lack labels.

    For the sections ``loss`` and ``val_metrics`` of a configuration::

        loss:
          _target_: les_nequip.WithResponses
          coeffs: {born_effective_charges: 10.0}
          metrics:
            _target_: nequip.train.EnergyForceLoss
            _partial_: true

    Labels that are NaN count in no term. A term is zero if a batch has no labels for it.

    Args:
        metrics: makes upstream's metrics, which must not have terms per type.
        coeffs: field -> coefficient, in addition to those of ``metrics``.
        error: ``"mse"``, ``"rmse"`` or ``"mae"``.
        type_names: names of the model's atom types (upstream passes them).

    Raises:
        ValueError: for terms per type and an unknown ``error``.
    """
    if error not in ERRORS:
        raise ValueError(f"`error` must be one of {', '.join(ERRORS)}, got {error!r}")
    ours = [
        {
            "name": f"{field}_{error}",
            "field": _Response(field),
            "coeff": coeff,
            "metric": ERRORS[error](),
            "ignore_nan": True,
        }
        for field, coeff in coeffs.items()
    ]
    # Upstream's functions take further terms by one name, its class all terms by another.
    taken = inspect.signature(metrics).parameters
    name = "extra_metrics" if "extra_metrics" in taken else "metrics"
    given = getattr(metrics, "keywords", {}).get(name) or []
    manager = metrics(type_names=type_names, **{name: [*given, *ours]})
    #: Field -> whether upstream's own term allows NaN, of all that have a coefficient.
    strict = {}
    for name, entry in manager.entries.items():
        if entry.per_type:
            raise ValueError(
                f"the term {name!r} of the loss or metrics is one per type, which is not possible "
                "beside responses: structures may lack its label"
            )
        if entry.field is not None and entry.coeff and entry.field.field not in coeffs:
            strict[entry.field.field] = entry.ignore_nan
        entry.ignore_nan = entry.field is not None
        _of_any(manager[name])
    manager.before_responses = strict
    return manager


class _Response(BaseModifier):  # type: ignore[misc]
    """A response of the model and its labels; without labels in a batch it is not computed."""

    def __call__(self, data1: Any, data2: Any = None) -> Any:
        if data2 is None:
            return data1[self.field]
        target = data2[self.field]
        if self.field in data1:
            return data1[self.field], target
        if not torch.isnan(target).all():
            raise ValueError(
                f"the model has not computed {self.field}, of which the batch has labels; name the "
                "callback les_nequip.ComputeResponses in the configuration"
            )
        return torch.zeros_like(target), target


def _of_any(metric: Any) -> None:
    """Let the mean of nothing be zero."""
    if not hasattr(metric, "count"):
        return
    compute = metric.compute

    @functools.wraps(compute)
    def mean() -> Tensor:
        value: Tensor = compute() if bool(metric.count) else metric.sum * 1.0
        return value

    metric.compute = mean
