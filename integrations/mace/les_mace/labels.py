"""Refusal of training data that lacks labels.

mace-torch gives a frame without energy or forces the weight zero, and says so at most in
its log; NaN labels make every weight of the model NaN.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.io import iread

if TYPE_CHECKING:
    from collections.abc import Callable

    from ase import Atoms

#: Labels checked for NaN where they exist.
LABELS = ("energy", "forces", "stress", "virials")


def checked_loader(load: Callable[..., Any], required: tuple[str, ...]) -> Callable[..., Any]:
    """Upstream's ``load_from_xyz``, which raises if a frame lacks one of ``required``.

    A frame may do without a label if it says so with ``config_energy_weight=0`` or
    ``config_forces_weight=0``. Files are read a second time only if something is wrong.
    """

    @functools.wraps(load)
    def checked(file_path: str, key_specification: Any, *args: Any, **kwargs: Any) -> Any:
        loaded = load(file_path, key_specification, *args, **kwargs)
        keys = {**key_specification.info_keys, **key_specification.arrays_keys}
        complete = all(
            _problem(config.properties, name, name in required) is None
            for config in loaded[1]
            for name in LABELS
        )
        if not complete and not kwargs.get("no_data_ok", False):
            _raise_for_first(file_path, keys, required)
        return loaded

    return checked


def _problem(labels: dict[str, Any], name: str, required: bool) -> str | None:
    """What is wrong with the label ``name``, or ``None``."""
    value = labels.get(name)
    if value is None:
        return "is missing" if required else None
    try:
        finite = np.isfinite(np.asarray(value, dtype=float)).all()
    except (TypeError, ValueError):
        return f"must be numeric, got {value!r}"
    return None if finite else "must be finite, got NaN or infinity"


def _raise_for_first(file_path: str, keys: dict[str, str], required: tuple[str, ...]) -> None:
    """Raise ``ValueError`` for the first bad label; it names file, frame and key."""
    for frame, atoms in enumerate(iread(file_path, ":")):
        isolated = len(atoms) == 1 and atoms.info.get("config_type") == "IsolatedAtom"
        for name in LABELS:
            waived = isolated or atoms.info.get(f"config_{name}_weight") == 0
            problem = _problem(_labels(atoms, keys), name, name in required and not waived)
            if problem is not None:
                hint = ""
                if problem == "is missing":
                    hint = (
                        f"; name the right key with --{name}_key, or set config_{name}_weight=0 "
                        "for frames that are meant to have none"
                    )
                raise ValueError(
                    f"{file_path}, frame {frame}: {name} (key {keys[name]!r}) {problem}{hint}"
                )


def _labels(atoms: Atoms, keys: dict[str, str]) -> dict[str, Any]:
    """The labels of one frame, found where upstream looks for them."""
    results = atoms.calc.results if atoms.calc is not None else {}
    # ASE moves what has its own names into a calculator; upstream takes these three back.
    plain = {name: results[name] for name in ("energy", "forces", "stress") if name in results}
    given = {**plain, **atoms.info, **atoms.arrays}
    return {name: given.get(keys[name]) for name in LABELS if name in keys}
