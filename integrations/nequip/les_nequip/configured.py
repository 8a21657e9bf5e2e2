"""Sections of a configuration as plain values, as far as they are known before a run."""

from __future__ import annotations

from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException


def resolved(node: Any) -> Any:
    """``node`` of a configuration in dictionaries, lists, texts and numbers.

    Interpolations that only a run can resolve, such as statistics of its data, stay texts.
    """
    if OmegaConf.is_dict(node):
        return {key: resolved(_item(node, key)) for key in node}
    if OmegaConf.is_list(node):
        return [resolved(_item(node, index)) for index in range(len(node))]
    return node


def is_open(value: Any) -> bool:
    """Whether ``value`` is a text that is yet to be resolved."""
    return isinstance(value, str) and "${" in value


def _item(node: Any, key: Any) -> Any:
    try:
        return node[key]
    except OmegaConfBaseException:  # its resolver is not there yet
        return OmegaConf.to_container(node, resolve=False)[key]  # type: ignore[index, call-overload]
