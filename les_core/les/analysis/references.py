"""Which references a file of structures has, found before anything is computed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from les.data.extxyz import DataError
from les.data.labels import NAMES, PREDICTED, find_label, similar_keys
from les.data.structure_files import read_structures

#: Labels that are compared, and those that a file may have besides.
COMPARED, OTHERS = ("charges", "dipole", "quadrupole"), ("bec",)


@dataclass
class References:
    """What a file has to compare charges with.

    Attributes:
        n_structures: number of its structures.
        charges: the key of the charges that are compared, ``None`` without any.
        unused: key -> number of structures, of what seems to be a reference and is not used.
    """

    n_structures: int = 0
    charges: str | None = None
    unused: Counter[str] = field(default_factory=Counter)

    def labels(self, atoms: Any, where: str) -> dict[str, Any]:
        """The references of one structure by the names of :data:`COMPARED`, ``None`` for none.

        Raises:
            DataError: for one that is not numeric, not finite, or has another shape.
        """
        names = {label: NAMES[label] for label in COMPARED}
        names["charges"] = () if self.charges is None else (self.charges,)
        return {label: find_label(atoms, label, where, names[label]) for label in COMPARED}


def survey(structures: Path, charges: str | None = None) -> References:
    """Look through a file for references.

    Args:
        structures: a file of any format that ASE reads.
        charges: the key of the charges to compare with. Without it, these are the first of
            ``les.data.labels.NAMES`` that any structure has.

    Raises:
        DataError: if the file cannot be read or has no structures; if no structure has charges
            under the key that is given; and for references with another shape, or that are not
            finite. The message names file, frame and key.
    """
    keys: Counter[str] = Counter()
    # Read twice, which takes a small part of the time that a model needs: what is wrong with the
    # last reference is told before the first structure is computed.
    n_structures = 0
    for _, atoms in read_structures(structures):
        n_structures += 1
        keys.update(_keys(atoms, charges))
    if charges is None:
        charges = next((name for name in NAMES["charges"] if keys[name]), None)
    elif not keys[charges]:
        raise DataError(f"{structures}: {_missing(charges, keys)}")
    used = {charges, *NAMES["dipole"], *NAMES["quadrupole"]}
    unused = Counter({key: count for key, count in keys.items() if key not in used})
    references = References(n_structures, charges, unused)
    for where, atoms in read_structures(structures):
        references.labels(atoms, where)
    return references


def _keys(atoms: Any, asked_for: str | None) -> set[str]:
    """The keys of one structure that are references, or seem to be."""
    given = {**atoms.info, **atoms.arrays, **(atoms.calc.results if atoms.calc else {})}
    found: set[str] = set()
    for label in (*COMPARED, *OTHERS):
        found.update(name for name in NAMES[label] if given.get(name) is not None)
        found.update(similar_keys(atoms, label, NAMES[label]))
    # Predictions of another model are compared where they are asked for.
    found = {key for key in found if not key.startswith(PREDICTED)}
    if asked_for is not None and given.get(asked_for) is not None:
        found.add(asked_for)
    return found


def _missing(name: str, keys: Counter[str]) -> str:
    """The message that no structure has charges under ``name``, and what was perhaps meant."""
    others = {*NAMES["dipole"], *NAMES["quadrupole"], *NAMES["bec"]}
    there = sorted(keys.keys() - others)
    closest = get_close_matches(name, there, n=1)
    hint = f"; did you mean {closest[0]!r}?" if closest else ""
    return (
        f"no structure has charges under {name!r}{hint} (there is "
        f"{', '.join(there) or 'nothing that could be meant'})"
    )
