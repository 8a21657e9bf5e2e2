"""What a file holds of a model, in plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from les_nequip.sections import build, in_precision


def is_state(value: Any) -> bool:
    """Whether ``value`` is a mapping of names, as the weights of a model are."""
    return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)


@dataclass(frozen=True)
class Stored:
    """What a file holds of a model, in plain values."""

    path: Path
    #: The section of a configuration that builds the model; names no other file.
    section: dict[str, Any]
    state_dict: dict[str, Any]
    #: Averages of the parameters, in their order, to be used instead of them.
    averages: list[Tensor] | None = None

    @property
    def has_les(self) -> bool:
        """Whether the model has latent charges."""
        return any(".readout.network." in name for name in self.state_dict)

    def model(self, dtype: str = "", compile_mode: str = "eager") -> Any:
        """The model in evaluation mode on the CPU, in ``dtype`` or else its own precision.

        Raises:
            ValueError: if it cannot be built here, or its weights do not fit.
        """
        section = in_precision(self.section, dtype) if dtype else self.section
        try:
            model = build(section, compile_mode)
            model.load_state_dict(self.state_dict)
            if self.averages is not None:
                with torch.no_grad():
                    for parameter, average in zip(model.parameters(), self.averages, strict=True):
                        parameter.copy_(average)
        except (AttributeError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                f"{self.path} does not fit nequip {metadata.version('nequip')}: {error}"
            ) from error
        model.les_section = self.section
        return model.eval()
