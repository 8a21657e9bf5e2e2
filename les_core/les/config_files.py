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


def purpose(path: Path) -> str:
    """What a configuration is for: the first sentence of the comment that it begins with."""
    comment: list[str] = []
    with path.open(encoding="utf-8") as file:
        for line in file:
            if not line.startswith("# "):
                break
            comment.append(line[2:].strip())
            sentence, end, _ = f"{' '.join(comment)} ".partition(". ")
            if end:
                return sentence
    return " ".join(comment)
