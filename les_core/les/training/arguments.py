"""Command lines of training whose options may also stand in a YAML file."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from les.config import read_yaml, refuse_unknown


def mapping(text: str) -> dict[str, Any]:
    """A YAML mapping, such as ``'{sigma: 1.0}'``, or the path of a YAML file that holds one."""
    import yaml

    if not text.lstrip().startswith("{") and Path(text).is_file():
        try:
            return read_yaml(text)
        except (OSError, ValueError) as error:
            raise argparse.ArgumentTypeError(f"{text}: {error}") from error
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(
            f"must be a mapping such as '{{key: 1}}', or a YAML file of one, got {text!r}"
        )
    return value


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the defaults of options that have one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False:
            return action.help
        return super()._get_help_string(action)


def positive(text: str) -> int:
    """A whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def rate(text: str) -> float:
    """A finite number above 0."""
    value = float(text)
    if not 0.0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text}")
    return value


def weight(text: str) -> float:
    """A finite number of at least 0."""
    value = float(text)
    if not 0.0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number of at least 0, got {text}")
    return value


def parse(
    parser: argparse.ArgumentParser, arguments: Sequence[str], also_known: Sequence[str] = ()
) -> argparse.Namespace:
    """Options from the command line and the file that ``--config`` names; the former win.

    Args:
        parser: has the option ``--config``; others take one value, or none and are false.
        arguments: the command line.
        also_known: keys that the file may hold for another form of this command, left alone.

    Raises:
        ValueError: for an unknown key in the file; the message names the closest one.
        SystemExit: for what argparse refuses.
    """
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--config", type=Path)
    path = finder.parse_known_args(arguments)[0].config
    if path is None:
        return parser.parse_args(arguments)
    options = {text for action in parser._actions for text in action.option_strings}
    known = {text[2:] for text in options if text.startswith("--")} - {"help", "config"}
    try:
        values = read_yaml(path)
        refuse_unknown(values, known | set(also_known))
    except (OSError, ValueError) as error:
        raise ValueError(f"--config {path}: {error}") from error
    own = {key: value for key, value in values.items() if key in known}
    return parser.parse_args([*_as_arguments(own), *arguments])


def _as_arguments(values: Mapping[str, Any]) -> list[str]:
    """What one would type for ``values``."""
    arguments = []
    for key, value in values.items():
        if value is True:
            arguments.append(f"--{key}")
        elif isinstance(value, (dict, list)):
            arguments.append(f"--{key}={json.dumps(value)}")
        elif value is not None and value is not False:
            arguments.append(f"--{key}={value}")
    return arguments
