"""Models as releases up to 0.1.0 wrote them: without the settings that are younger."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from les.config import LESConfig
from les.settings_buffer import SETTINGS
from les.versions import FORMAT_VERSION, UNSAID

#: Settings of a model that means what those of earlier releases do.
AS_BEFORE = dict(UNSAID)

#: Settings that are younger than the release 0.1.0.
YOUNGER = (*UNSAID, "embed_total_charge", "embed_spin")


def earlier_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without those that earlier releases did not have."""
    younger = (*YOUNGER, FORMAT_VERSION)
    return {name: value for name, value in values.items() if name not in younger}


def earlier_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state dictionary whose settings, if it holds any, are :func:`earlier_settings`."""
    changed = dict(state)
    for name, value in state.items():
        if name.split(".")[-1] == SETTINGS:
            text = json.dumps(earlier_settings(json.loads(bytes(value.tolist()).decode())))
            changed[name] = torch.tensor(list(text.encode().ljust(len(value))), dtype=torch.uint8)
    return changed


def earlier_pickle(model: nn.Module) -> bytes:
    """The pickle of a model, made ``AS_BEFORE``, less attributes that earlier releases lacked."""
    older = copy.deepcopy(model)
    for module in older.modules():
        attributes = vars(module)
        for name in ("neutrality", "of_elements", "uses_total_charge", "embedded"):
            attributes.pop(name, None)
        if isinstance(module._modules, dict):  # not of what e3nn has scripted
            module._modules.pop("charge_states", None)
        for config in attributes.values():
            if isinstance(config, LESConfig):
                for name in YOUNGER:
                    vars(config).pop(name)
        if SETTINGS in module._buffers:
            module._buffers[SETTINGS] = earlier_state({SETTINGS: module._buffers[SETTINGS]})[
                SETTINGS
            ]
    return pickle.dumps(older)
