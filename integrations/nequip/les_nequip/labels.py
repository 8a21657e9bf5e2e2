"""Refusal of training data that lacks labels.

nequip does not say in which file and frame a label is missing, and it trains on NaN until
every weight of the model is NaN.
"""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any

import torch
from hydra.utils import instantiate
from nequip.data import AtomicDataDict
from nequip.data.dataset import ASEDataset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from omegaconf import DictConfig

#: Where ASE's name of a label, which nequip always understands, is not nequip's.
ASE_NAMES = {AtomicDataDict.TOTAL_ENERGY_KEY: "energy"}


def labels_in_loss(config: DictConfig) -> dict[str, bool]:
    """Fields that the loss compares, and whether it allows NaN in them."""
    if config.training_module.get("loss") is None:
        return {}
    type_names = config.training_module.model.get("type_names")
    loss = instantiate(config.training_module.loss, type_names=type_names)
    return {
        entry.field.field: entry.ignore_nan
        for entry in loss.entries.values()
        if entry.field is not None and entry.coeff
    }


@contextlib.contextmanager
def checked_datasets(labels: Mapping[str, bool]) -> Iterator[None]:
    """Upstream's ASE datasets, read in here, raise if a frame lacks one of ``labels``."""
    original = ASEDataset.__init__
    ASEDataset.__init__ = _checked(original, labels)
    try:
        yield
    finally:
        ASEDataset.__init__ = original


def _checked(initialise: Callable[..., None], labels: Mapping[str, bool]) -> Callable[..., None]:
    @functools.wraps(initialise)
    def checked(dataset: ASEDataset, *args: Any, **kwargs: Any) -> None:
        initialise(dataset, *args, **kwargs)
        mapping = kwargs.get("key_mapping") or {}
        if not dataset.data_list:
            raise ValueError(f"{dataset.file_path} has no frames")
        for frame, data in enumerate(dataset.data_list):
            for field, allow_nan in labels.items():
                problem = _problem(data.get(field), allow_nan)
                if problem is not None:
                    keys = [key for key, name in mapping.items() if name == field]
                    named = " or ".join(map(repr, [*keys, ASE_NAMES.get(field, field)]))
                    raise ValueError(
                        f"{dataset.file_path}, frame {frame}: {field} (key {named}) {problem}"
                    )

    return checked


def _problem(value: Any, allow_nan: bool) -> str | None:
    if value is None:
        return (
            "is missing; map the key that the file has to the name that nequip expects with "
            "`data.key_mapping`, e.g. {REF_energy: total_energy, REF_forces: forces}"
        )
    if torch.isinf(value).any() or not (allow_nan or torch.isfinite(value).all()):
        return "must be finite, got NaN or infinity"
    return None
