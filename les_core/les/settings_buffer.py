"""The configuration of a model as a buffer, which goes wherever its weights go."""

from __future__ import annotations

import json

import torch
from torch import Tensor

from les.config import LESConfig
from les.config_checks import OF_ELEMENTS, OF_FIELDS, OF_MULTIPOLES
from les.versions import CURRENT, FORMAT_VERSION

#: Name of the buffer that carries the configuration through a ``state_dict``.
SETTINGS = "settings"

#: Length of that buffer. It is fixed because tools that copy weights from one model to
#: another skip what differs in shape.
SETTINGS_BYTES = 1024

#: Settings that the weights of the charge readout depend on.
READOUT_SETTINGS = (
    "use_atomwise",
    "n_features",
    "n_channels",
    "n_layers",
    "n_hidden",
    "add_linear_nn",
    "element_charges",
    "charge_equilibration",
)


def encode(config: LESConfig) -> Tensor:
    """The configuration as bytes: an integer buffer, so that casting a model leaves it alone.

    The version of the settings stands among them (``les.versions``).

    Raises:
        ValueError: for one that does not fit into :data:`SETTINGS_BYTES`.
    """
    values, defaults = config.to_dict(), LESConfig().to_dict()
    for name in (*OF_MULTIPOLES, *OF_ELEMENTS, *OF_FIELDS):
        if values[name] == defaults[name]:  # most models have none of these
            del values[name]
    text = json.dumps({FORMAT_VERSION: CURRENT, **values}).encode()
    if len(text) > SETTINGS_BYTES:
        raise ValueError(f"the configuration takes {len(text)} bytes, more than {SETTINGS_BYTES}")
    return torch.tensor(list(text.ljust(SETTINGS_BYTES)), dtype=torch.uint8)


def decode(buffer: Tensor) -> LESConfig:
    """The configuration that :func:`encode`, of this release or an earlier one, has written."""
    return LESConfig.from_stored(json.loads(bytes(buffer.tolist()).decode()))


def check_same_readout(loaded: LESConfig, own: LESConfig) -> None:
    """Raise ``ValueError`` if the readout of a model cannot take the weights of another one.

    Args:
        loaded: the configuration that comes with the weights.
        own: that of the model which takes them; one without a readout takes any.
    """
    for name in READOUT_SETTINGS:
        if own.use_atomwise and getattr(loaded, name) != getattr(own, name):
            raise ValueError(
                f"the state dict is of a model with `{name}` = {getattr(loaded, name)!r}, this one "
                f"was built with {getattr(own, name)!r}"
            )
    if loaded.use_atomic_alpha != own.use_atomic_alpha:
        raise ValueError(
            f"the state dict is of a model with `use_atomic_alpha` = {loaded.use_atomic_alpha}, "
            f"this one was built with {own.use_atomic_alpha}"
        )
