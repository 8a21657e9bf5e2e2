"""Reading labelled structures from extended XYZ files.

Needs ASE, which is imported where a file is read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from les.data.atoms import UnusedLabels, has_stress
from les.data.extxyz import DataError, read_extxyz
from les.data.requirements import ChargeStates, Requirements
from les.response.labels import ResponseLabels

#: Label -> names it goes by in files, in order of preference.
#: Units: eV, eV/A, eV/A^3, Bohr magnetons, e A, e A^2, e, e.
NAMES: dict[str, tuple[str, ...]] = {
    "energy": ("REF_energy", "energy"),
    "forces": ("REF_forces", "forces"),
    "stress": ("REF_stress", "stress"),
    "magmoms": ("REF_magmoms", "magmoms"),
    "dipole": ("REF_dipole", "dipole"),
    "quadrupole": ("REF_quadrupole", "quadrupole"),
    "charges": ("REF_charges", "charges", "mbis_charges", "hirshfeld_charges"),
    "bec": ("REF_bec", "bec", "born_effective_charges"),
}

#: Start of the names of predictions in files, which are no labels.
PREDICTED = "LES_"

#: Label -> shape without the number of atoms, and whether there is one entry per atom.
_SHAPES: dict[str, tuple[tuple[int, ...], bool]] = {
    "energy": ((1,), False),
    "forces": ((3,), True),
    "stress": ((6,), False),
    "magmoms": ((), True),
    "dipole": ((3,), False),
    "quadrupole": ((9,), False),
    "charges": ((), True),
    "bec": ((9,), True),
}

#: Label -> parts of names under which a file may hold it, to find what was meant.
_PARTS: dict[str, tuple[str, ...]] = {
    "energy": ("energ", "toten", "e_tot", "etot"),
    "forces": ("force", "gradient"),
    "stress": ("stress", "virial"),
    "magmoms": ("magmom", "magnetic", "spin"),
    "dipole": ("dipole",),
    "quadrupole": ("quadrupole",),
    "charges": ("charge", "mbis", "hirshfeld", "wannier", "wc_"),
    "bec": ("bec", "born"),
}


#: What a model asks of structures that nothing is known of.
ANYTHING = Requirements()


class LabelKeys:
    """The keys of the labels in all files of a run: one for each label.

    Energies under ``REF_energy`` and under ``energy`` may come from different methods; to train on
    both at once is hardly meant.

    Args:
        keys: label -> key, for those whose key is known; that of another label is the first of
            :data:`NAMES` that a frame has.
    """

    def __init__(self, keys: Mapping[str, str] | None = None) -> None:
        self._given = dict(keys or {})
        #: Label -> key, and where it was found first.
        self._found: dict[str, tuple[str, str]] = {}

    def names(self, label: str) -> Sequence[str]:
        """Keys under which the label may be."""
        return [self._given[label]] if label in self._given else NAMES[label]

    def find(self, atoms: Any, label: str, where: str) -> str | None:
        """The key under which a frame has the label; ``None`` if it has none.

        Raises:
            DataError: if an earlier frame has it under another key.
        """
        given = _given(atoms)
        key = next((name for name in self.names(label) if given.get(name) is not None), None)
        if key is None:
            return None
        known, first = self._found.setdefault(label, (key, where))
        if known != key:
            raise DataError(
                f"{where} has the {label} under {key!r}, {first} under {known!r}: all frames of a "
                f"run must have the same key; name the right one with --{label}_key"
            )
        return key

    def label(self, atoms: Any, label: str, where: str) -> NDArray[np.float64] | None:
        """The label of a frame, ``None`` if it has none.

        Raises:
            DataError: as :meth:`find` and :func:`find_label`.
        """
        key = self.find(atoms, label, where)
        return None if key is None else find_label(atoms, label, where, [key])


def labelled_frames(
    path: str | Path,
    required: Sequence[str],
    optional: Sequence[str] = (),
    *,
    keys: LabelKeys | Mapping[str, str] | None = None,
    requirements: Requirements = ANYTHING,
    told: bool = False,
    responses: Collection[str] = (),
    responses_needed: bool = True,
) -> Iterator[tuple[str, Any, dict[str, NDArray[np.float64] | None]]]:
    """Frames fit to train on: ``"<file>: frame <n>"``, ``ase.Atoms`` and labels.

    When all have been read, a warning tells how many have labels that have no effect, such as a
    total charge.

    Args:
        path: extxyz file, plain or ``.gz``.
        required: labels that every frame has; stress only together with pbc.
        optional: labels that are ``None`` where a frame has none.
        keys: label -> key in the file, for those that differ from :data:`NAMES`; or what the files
            of a run share, which then have one key for each label.
        requirements: what the model asks of structures.
        told: the file has been read before, and the warning given.
        responses: labels of ``les.response.labels.RESPONSES`` that are trained on. They are
            ``None`` where a frame has none; a frame that has one may do without the required
            labels, which are ``None`` then.
        responses_needed: whether the file must have each of them in some frame.

    Raises:
        DataError: naming file, frame and key, for missing or bad labels, for those under another
            key than in earlier frames, for what is no total charge or no spin, or is missing, where
            the model is given it, and for structures on which a model has no meaningful result.
    """
    shared = keys if isinstance(keys, LabelKeys) else LabelKeys(keys)
    unused = UnusedLabels(requirements.names)
    states = ChargeStates(requirements)
    tally = ResponseLabels(path, responses)
    for where, atoms in read_extxyz(path):
        unused.add(atoms)
        requirements.check(atoms, where)
        states.read(atoms, where)
        labels = tally.usable(atoms, {x: shared.label(atoms, x, where) for x in responses})
        waived = any(value is not None for value in labels.values())
        asked_for = not waived or shared.find(atoms, "stress", where) is not None
        if "stress" in required and asked_for and not atoms.pbc.any():
            raise DataError(f"{where}: an open structure (pbc false) has no stress to train on")
        if "stress" in required and asked_for and not has_stress(atoms):
            raise DataError(
                f"{where}: a cell without a volume, {atoms.cell[:].tolist()}, has no stress to "
                "train on"
            )
        for label in (*required, *optional):
            labels[label] = shared.label(atoms, label, where)
            if labels[label] is None and label in required and not waived:
                names = shared.names(label)
                looked = " or ".join(map(repr, names))
                found = " or ".join(map(repr, similar_keys(atoms, label, names)))
                hint = f", perhaps {found}," if found else ""
                raise DataError(
                    f"{where}: has no {label} (looked for the key {looked}); name the right key"
                    f"{hint} with --{label}_key"
                )
        tally.count(labels)
        yield where, atoms, labels
    if not told:
        unused.warn(path)
        states.tell(path)
        tally.tell(required, needed=responses_needed)


def similar_keys(atoms: Any, label: str, names: Sequence[str]) -> list[str]:
    """Keys of one frame whose names say that they may hold the label, besides ``names``.

    What is of each atom is sought among what has an entry for each atom.
    """
    per_atom = _SHAPES[label][1]
    return [
        key
        for key, value in _given(atoms).items()
        if key not in names
        and not key.startswith(PREDICTED)
        and any(part in key.lower() for part in _PARTS[label])
        and (not per_atom or (hasattr(value, "__len__") and len(value) == len(atoms)))
    ]


def find_label(
    atoms: Any, label: str, where: str, names: Sequence[str] | None = None
) -> NDArray[np.float64] | None:
    """The label of one frame, ``None`` where it has none.

    Args:
        atoms: ``ase.Atoms`` as read from a file.
        label: a key of :data:`NAMES`.
        where: file and frame, for messages.
        names: what to look for instead of the names in :data:`NAMES`.

    Returns:
        float64, per atom ``[n_atoms, ...]``; ``energy`` ``[1]``, ``stress`` ``[6]`` in the order
        of Voigt.

    Raises:
        DataError: for a label that is not numeric, not finite, or has another shape.
    """
    given = _given(atoms)
    names = NAMES[label] if names is None else names
    key = next((name for name in names if given.get(name) is not None), None)
    if key is None:
        return None
    where = f"{where}: key {key!r}"
    value = given[key]
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{where} must be numeric, got {value!r}") from None
    if label == "stress" and array.size == 9:
        from ase.stress import full_3x3_to_voigt_6_stress

        array = full_3x3_to_voigt_6_stress(array.reshape(3, 3))
    shape, per_atom = _SHAPES[label]
    if per_atom:
        shape = (len(atoms), *shape)
    if array.size != np.prod(shape):
        raise DataError(f"{where} must have shape {list(shape)}, got {list(array.shape)}")
    if not np.isfinite(array).all():
        raise DataError(f"{where} holds NaN or infinite values")
    return array.reshape(shape)


def _given(atoms: Any) -> dict[str, Any]:
    """All that a frame says besides its structure, by key."""
    return {**atoms.info, **atoms.arrays, **(atoms.calc.results if atoms.calc else {})}
