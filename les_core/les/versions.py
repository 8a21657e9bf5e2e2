"""Versions of what models are stored in, and what brings the settings of an older one up to date.

A file of a model has a mark, such as ``les_mace.MACELES/2``, and the settings in a state dictionary
have a version beside them. Where neither is there, as in what release 0.1.0 wrote, it is version 1.
Each version but the last has one function, which makes of its settings those of the next.

| version | written by | what is new |
|---|---|---|
| 1 | release 0.1.0 | |
| 2 | release 1.0.0 | settings say whether charges have the right sum, and elements charges |
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from les.neutrality import UNSAID_NEUTRALITY

#: Version of what this release writes.
CURRENT = 2

#: Name of the version where it stands among settings.
FORMAT_VERSION = "format_version"

#: What models mean that do not say it: published ones, and those of release 0.1.0.
UNSAID: dict[str, Any] = {"neutrality": UNSAID_NEUTRALITY, "element_charges": False}


def from_version_1(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of version 2: the sums of charges were free, and elements had no charges."""
    return {**UNSAID, **settings}


#: Version -> the function that makes settings of the next version of its own.
UPGRADES: dict[int, Callable[[Mapping[str, Any]], dict[str, Any]]] = {1: from_version_1}


def upgraded(settings: Mapping[str, Any], version: int) -> dict[str, Any]:
    """Stored settings of LES as this release means them.

    Args:
        settings: fields of ``les.LESConfig``.
        version: the version that they were stored with.

    Raises:
        ValueError: as :func:`check_version`.
    """
    check_version(version, "the settings of the model have")
    current = dict(settings)
    for each in range(version, CURRENT):
        current = UPGRADES[each](current)
    return current


def check_version(version: Any, subject: str) -> None:
    """Raise ``ValueError`` for what this release cannot read.

    Args:
        version: a version as it is stored.
        subject: what has it, for the message, with its verb.
    """
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ValueError(f"{subject} the format version {version!r}, which is no whole number >= 1")
    if version > CURRENT:
        raise ValueError(
            f"{subject} the format version {version}, and this release of les reads versions 1 to "
            f"{CURRENT}; install a newer release"
        )


def mark(name: str) -> str:
    """What marks a file of this release.

    Args:
        name: what the file holds, such as ``les_mace.MACELES``.
    """
    return f"{name}/{CURRENT}"


def read_mark(found: Any, names: Collection[str], path: Any, kind: str) -> tuple[str, int]:
    """What a file holds and its version, from its mark.

    Args:
        found: the mark in the file.
        names: what it may hold, as for :func:`mark`.
        path: the file, for messages.
        kind: what it should hold, for messages, e.g. ``"MACE model"``.

    Raises:
        ValueError: if it is the mark of something else, and as :func:`check_version`.
    """
    name, _, version = str(found).rpartition("/")
    if name not in names or not version.isdecimal():
        known = " or ".join(repr(mark(each)) for each in names)
        raise ValueError(f"{path} is no {kind}: its format is {found!r}, not {known}")
    check_version(int(version), f"{path} has")
    return name, int(version)
