"""The names that upstream's fields have in the files of a run: one for each."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from nequip.data import AtomicDataDict

from les.data.extxyz import DataError
from les.data.labels import similar_keys
from les_nequip.missing import places

#: Label -> upstream's name of it; ASE's is that of the label.
FIELDS = {
    "energy": AtomicDataDict.TOTAL_ENERGY_KEY,
    "forces": AtomicDataDict.FORCE_KEY,
    "stress": AtomicDataDict.STRESS_KEY,
}


class FieldKeys:
    """The names of fields in the files of a run, each the same throughout.

    Args:
        exact: fields that must have the keys of the data set's ``key_mapping``; others may also
            go by ASE's names.

    Attributes:
        found: field -> its name in the files, of those that were read.
    """

    def __init__(self, exact: Collection[str] = ()) -> None:
        self.exact = frozenset(exact)
        self.found: dict[str, str] = {}
        self._found_in: dict[str, str] = {}

    def names(
        self, field: str, mapping: Mapping[str, str]
    ) -> tuple[list[str], list[str], list[str]]:
        """Names of a field in files: all that count, those of the mapping, and its own."""
        own = [name for name, known in FIELDS.items() if known == field] or [field]
        mapped = [key for key, target in mapping.items() if target == field]
        return mapped if field in self.exact else [*mapped, *own], mapped, own

    def keep_one(
        self, atoms: Any, field: str, allow_nan: bool, mapping: Mapping[str, str], where: str
    ) -> None:
        """Check the label of one frame, and remove others that could be taken for it.

        Args:
            atoms: the frame.
            field: upstream's name of the label.
            allow_nan: whether it may be NaN.
            mapping: the ``key_mapping`` of the data set.
            where: file and frame, for messages.

        Raises:
            les.data.extxyz.DataError: for a label that is missing, under another name than before,
                not numeric or not finite.
        """
        names, mapped, own = self.names(field, mapping)
        where_kept = places(atoms)
        found = [name for name in names if any(name in place for place in where_kept)]
        known = self.found.get(field)
        looked = " or ".join(map(repr, names))
        if not found:
            hint = ""
            if own[0] in FIELDS:
                meant = " or ".join(map(repr, similar_keys(atoms, own[0], names)))
                perhaps = f", perhaps {meant}," if meant else ""
                hint = f"; name the right key{perhaps} with --{own[0]}_key"
            raise DataError(f"{where}: {field} (key {looked}) is missing{hint}")
        if known is not None and known not in found:
            raise DataError(
                f"{where}: {field} is there as {found[0]!r}, but {self._found_in[field]} has it as "
                f"{known!r}; all frames of a run must have the same key"
            )
        if known is None:
            known = self.found[field] = found[0]
            self._found_in[field] = where
        value = next(place[known] for place in reversed(where_kept) if known in place)
        try:
            array = np.asarray(value, dtype=float)
        except (TypeError, ValueError):
            raise DataError(f"{where}: key {known!r} must be numeric, got {value!r}") from None
        if np.isinf(array).any() or not (allow_nan or np.isfinite(array).all()):
            raise DataError(f"{where}: {field} (key {known!r}) must be finite, got NaN or infinity")
        for name in {*mapped, *own} - {known}:
            for place in where_kept:
                place.pop(name, None)
