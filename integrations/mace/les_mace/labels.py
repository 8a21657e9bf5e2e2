"""Reading training data: every frame that a file has, under whichever keys it has its labels.

mace-torch reads one frame of a file with blank lines between frames, gives a frame without energy
or forces the weight zero, takes no energies under the names of ASE unless it is told to, and then
those of isolated atoms as zero; it says so at most in its log. NaN labels make every weight of the
model NaN.
"""

from __future__ import annotations

import copy
import functools
import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import ase.io
import numpy as np
from mace.data import utils

from les.data.atoms import UnusedLabels, has_stress
from les.data.external_field import has_energy
from les.data.extxyz import DataError
from les.data.fragments import FRAGMENT, FRAGMENT_CHARGE, put_fragments
from les.data.labels import LabelKeys, find_label
from les.data.requirements import ChargeStates, Requirements
from les.data.structure_files import read_structures
from les.response.labels import ResponseLabels
from les_mace.keys import STATE_KEYS
from les_mace.replaced import replaced

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

logger = logging.getLogger("les")

#: Labels checked where they exist.
LABELS = ("energy", "forces", "stress", "virials")

#: Losses of upstream that have the stress, and the virials, in them.
STRESS_LOSSES = ("stress", "huber", "universal")
VIRIALS_LOSSES = ("virials",)


class UnnamedKey(str):
    """The key of a label for which nobody has named one: the plain name will do as well."""

    LABELS: ClassVar = ("energy", "forces", "stress")


@dataclass(frozen=True)
class Checks:
    """What the frames of training data must have.

    Attributes:
        required: labels that every frame needs.
        loss: upstream's name of the loss.
        requirements: what the model asks of structures.
        used: names of entries of ``atoms.info`` that the model makes use of.
        responses: label -> key, or ``None`` where nobody has named one, of the responses that are
            trained on.
        with_responses: files that must have each of these in some frame.
        field_key: entry of ``atoms.info`` that may hold the external field beside the usual ones.
    """

    required: tuple[str, ...]
    loss: str
    requirements: Requirements
    used: Collection[str] = ()
    responses: Mapping[str, str | None] = field(default_factory=dict)
    with_responses: Collection[str] = ()
    field_key: str | None = None

    @property
    def without_effect(self) -> tuple[str, ...]:
        """Labels that the loss does not have."""
        stress = () if self.loss in STRESS_LOSSES else ("stress",)
        return (*stress, *(() if self.loss in VIRIALS_LOSSES else ("virials",)))


def checked_loader(load: Callable[..., Any], checks: Checks) -> Callable[..., Any]:
    """Upstream's ``load_from_xyz``, for whole files, with labels that can be trained on.

    A frame may do without a required label if it says so with ``config_energy_weight=0`` or
    ``config_forces_weight=0``.
    """
    # Each head may be of another method, with keys of its own.
    named = {label: key for label, key in checks.responses.items() if key is not None}
    found: defaultdict[str | None, LabelKeys] = defaultdict(lambda: LabelKeys(named))

    @functools.wraps(load)
    def checked(file_path: str, key_specification: Any, *args: Any, **kwargs: Any) -> Any:
        frames = list(read_structures(file_path))
        specification = copy.deepcopy(key_specification)
        for label, keys in (
            ("energy", specification.info_keys),
            ("forces", specification.arrays_keys),
            ("stress", specification.info_keys),
        ):
            keys[label] = _settle(label, keys[label], frames, found[kwargs.get("head_name")])
        given = {**specification.info_keys, **specification.arrays_keys}
        required = () if kwargs.get("no_data_ok") else checks.required
        tally = ResponseLabels(file_path, checks.responses)
        if checks.field_key is not None:
            specification.update({"external_field": checks.field_key})
        _settle_charge_states(file_path, frames, specification, checks.requirements)
        for where, atoms in frames:
            responses = _responses(where, atoms, found[kwargs.get("head_name")], tally)
            _check(where, atoms, given, () if responses else required, checks)
            tally.count({**responses, **_labels(atoms, given)})
        tally.tell(required, needed=file_path in checks.with_responses)
        if "bec" in checks.responses:
            specification.update({"bec_weight": "config_bec_weight"}, {"bec": "REF_bec"})
        if "dipole" in checks.responses:
            specification.update({"dipole": "REF_dipole"})
        used = (*checks.used, *checks.requirements.names)
        _warn(file_path, [atoms for _, atoms in frames], given, checks, used)
        read = SimpleNamespace(read=lambda *_, **__: [atoms for _, atoms in frames])
        with replaced(utils, "ase", SimpleNamespace(io=read, data=ase.data, Atoms=ase.Atoms)):
            return load(file_path, specification, *args, **kwargs)

    return checked


def _settle(label: str, key: str, frames: Iterable[tuple[str, Atoms]], found: LabelKeys) -> str:
    """The key under which all ``frames`` have the label, if any.

    Labels that ASE has moved into a calculator, because their key is a name of its own, go back
    under the key that begins with ``REF_``.

    Args:
        label: which one.
        key: under which it is to be; one that nobody has named is what the frames have.
        frames: of one file, with their places.
        found: what all files share.

    Raises:
        DataError: if some frames have it under ``REF_`` and others under the plain name, in this
            file or another one.
    """
    reference = f"REF_{label}"
    if isinstance(key, UnnamedKey):
        keys = {found.find(atoms, label, where) for where, atoms in frames}
        if keys <= {None, reference}:
            return reference
    elif key != label:
        return str(key)
    for _, atoms in frames:
        value = _plain(atoms, label)
        store = atoms.arrays if label == "forces" else atoms.info
        store.pop(reference, None)
        if value is not None:
            store[reference] = value
    return reference


def _settle_charge_states(
    path: str,
    frames: Iterable[tuple[str, Atoms]],
    keys: utils.KeySpecification,
    given: Requirements,
) -> None:
    """Put total charges, spins, fields and fragments where upstream looks for those that are used.

    The energy of a periodic structure in a field has no one value, and is taken out.

    Args:
        path: the file.
        frames: its frames, with their places.
        keys: upstream's names of what it reads, and their keys in the file; what is not there is
            added.
        given: what the model is given.

    Raises:
        DataError: for what is no total charge, spin or field and for wrong fragments, for one that
            is needed and missing, and for the stress of a periodic structure in a field.
    """
    wanted = {
        "total_charge": given.total_charge,
        "spin": "spin" in given.embedded,
        "external_field": given.external_field,
    }
    names = {name: STATE_KEYS[name] for name, is_wanted in wanted.items() if is_wanted}
    own = {name: keys.info_keys.setdefault(key, key) for name, key in names.items()}
    states = ChargeStates(given, **own)
    for where, atoms in frames:
        state = states.read(atoms, where)
        parts = state.pop("fragments", None)
        if given.fragments:
            put_fragments(atoms, parts, state["total_charge"])
            keys.arrays_keys.update({name: name for name in (FRAGMENT, FRAGMENT_CHARGE)})
        atoms.info.update({own[name]: value for name, value in state.items()})
        if given.external_field and not has_energy(atoms, state["external_field"]):
            _take_out_energy(atoms, where, keys)
    states.tell(path)


def _take_out_energy(atoms: Atoms, where: str, keys: utils.KeySpecification) -> None:
    """Take out what depends on the branch of the polarisation, of a periodic structure in a field.

    Raises:
        DataError: for a stress, which is no label of such a structure.
    """
    for label in ("stress", "virials"):
        if keys.info_keys[label] in atoms.info:
            raise DataError(
                f"{where}: has a {label} (key {keys.info_keys[label]!r}) and is periodic and in an "
                "external field, in which it is not trained on; take the label out"
            )
    atoms.info.pop(keys.info_keys["energy"], None)
    atoms.info["config_energy_weight"] = 0.0


def _plain(atoms: Atoms, label: str) -> Any:
    """The label under its plain name, which ASE moves into a calculator; ``None`` if missing."""
    results = atoms.calc.results if atoms.calc is not None else {}
    return {**results, **atoms.info, **atoms.arrays}.get(label)


def _labels(atoms: Atoms, keys: Mapping[str, str]) -> dict[str, Any]:
    """Labels of a frame under the keys that they have, ``None`` where there are none."""
    return {
        label: {**atoms.info, **atoms.arrays}.get(key)
        for label, key in keys.items()
        if label in LABELS
    }


def _responses(
    where: str, atoms: Atoms, keys: LabelKeys, tally: ResponseLabels
) -> dict[str, NDArray[np.float64]]:
    """The responses of a frame, which are put where upstream looks for them.

    Upstream's batches need those of all frames: where there are none, they have the weight zero.
    """
    found = tally.usable(atoms, {x: keys.label(atoms, x, where) for x in tally.responses})
    for label in found:
        for place in (atoms.info, atoms.arrays):
            place.pop(f"REF_{label}", None)
    if "bec" in found:
        missing = found["bec"] is None
        atoms.arrays["REF_bec"] = np.zeros((len(atoms), 9)) if missing else found["bec"]
        given = float(atoms.info.get("config_bec_weight", 1.0))
        atoms.info["config_bec_weight"] = 0.0 if missing else given
    if found.get("dipole") is not None:
        atoms.info["REF_dipole"] = found["dipole"]
    return {label: value for label, value in found.items() if value is not None}


def _check(
    where: str, atoms: Atoms, keys: dict[str, str], required: Collection[str], checks: Checks
) -> None:
    """Refuse a frame that cannot be trained on; the error names file, frame and key."""
    checks.requirements.check(atoms, where)
    isolated = len(atoms) == 1 and atoms.info.get("config_type") == "IsolatedAtom"
    for label in LABELS:
        shape_of = "stress" if label == "virials" else label
        value = find_label(atoms, shape_of, where, [keys[label]])
        waived = isolated or atoms.info.get(f"config_{label}_weight") == 0
        if value is None and label in required and not waived:
            raise DataError(
                f"{where}: {label} (key {keys[label]!r}) is missing; name the right key with "
                f"--{label}_key, or set config_{label}_weight=0 for frames that are meant to have "
                "none"
            )
        trained = label == "stress" and checks.loss in STRESS_LOSSES and not waived
        if value is not None and trained and not has_stress(atoms):
            raise DataError(
                f"{where}: has a stress (key {keys[label]!r}), but "
                + ("no periodic axis" if not atoms.pbc.any() else "its cell has no volume")
            )


def _warn(
    path: str,
    frames: list[Atoms],
    keys: dict[str, str],
    checks: Checks,
    used: Collection[str],
) -> None:
    """Say what in a file has no effect on the training; labels that are ``used`` have one."""
    unused = UnusedLabels(used)
    for atoms in frames:
        unused.add(atoms)
    unused.warn(path)
    for label in checks.without_effect:
        n_labels = sum(keys[label] in atoms.info for atoms in frames)
        if n_labels:
            logger.warning(
                "%s: %d of %d frames have %s (key %r), which have no effect with --loss %s",
                *(path, n_labels, len(frames), label, keys[label], checks.loss),
            )
