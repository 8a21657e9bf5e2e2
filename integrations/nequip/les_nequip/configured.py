"""Sections of a configuration as plain values, as far as they are known before a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
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


def is_compiled(config: DictConfig) -> bool:
    """Whether the model that ``config`` describes is compiled to be trained."""
    return bool(OmegaConf.select(config, "training_module.model.compile_mode") == "compile")


def differences(stored: Any, configured: Any, place: str) -> Iterator[tuple[str, Any, Any]]:
    """Where a file has other values than the configuration, and both values.

    Args:
        stored: section of the file.
        configured: section of the configuration, as by :func:`resolved`.
        place: name of the section, with which the yielded places start.
    """
    if isinstance(configured, str) and "${" in configured:  # known to the run that has started
        return
    if isinstance(stored, Mapping) and isinstance(configured, Mapping):
        for key in sorted({*map(str, stored), *map(str, configured)} - {"allow_pickle"}):
            yield from differences(stored.get(key), configured.get(key), f"{place}.{key}")
    elif stored != configured:
        yield place, stored, configured


def _item(node: Any, key: Any) -> Any:
    try:
        return node[key]
    except OmegaConfBaseException:  # its resolver is not there yet
        return OmegaConf.to_container(node, resolve=False)[key]  # type: ignore[index, call-overload]
