"""Settings in YAML files."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ValueError: if the file holds anything else, or is not YAML.
    """
    import yaml  # only files need it

    with open(path, encoding="utf-8") as file:
        try:
            values = yaml.safe_load(file)
        except yaml.YAMLError as error:
            raise ValueError(f"not valid YAML: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ValueError(f"must hold a mapping of keys to values, got {type(values).__name__}")
    return values
