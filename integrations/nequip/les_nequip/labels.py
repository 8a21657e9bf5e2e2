"""Labelled structures from files, for upstream's data sets, which are read through here.

nequip does not say in which file and frame a label is missing, trains on NaN until every weight
of the model is NaN, and takes one of several energies in a frame without a word. ASE ends at the
first blank line of a file. Here, each frame counts, and has the labels that the loss needs under
the same names throughout a run.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ase.calculators.calculator import all_properties
from ase.data import atomic_numbers
from hydra.utils import instantiate
from nequip.data.dataset import ASEDataset, ase_dataset
from omegaconf import DictConfig, OmegaConf

from les.data.atoms import UnusedLabels, spanning_cell
from les.data.external_field import has_energy
from les.data.extxyz import DataError
from les.data.fragments import put_fragments
from les.data.labels import LabelKeys, find_label
from les.data.requirements import ChargeStates, Requirements
from les.response.labels import ResponseLabels
from les_nequip.field_keys import FIELDS, FieldKeys
from les_nequip.frames import frames_of
from les_nequip.keys import (
    EXTERNAL_FIELD_KEY,
    FRAGMENT_CHARGE_KEY,
    FRAGMENT_KEY,
    RESPONSE_FIELDS,
    SPIN_KEY,
    STATE_KEYS,
    TOTAL_CHARGE_KEY,
)
from les_nequip.missing import MISSING, all_of, places, put

#: Fields of the labels and of the charges of fragments.
FRAGMENT_KEYS = (FRAGMENT_KEY, FRAGMENT_CHARGE_KEY)

#: What depends on the branch of the polarisation, where periodic structures are in a field.
OF_BRANCHES = (FIELDS["energy"], FIELDS["stress"])


def labels_in_loss(config: DictConfig) -> dict[str, bool]:
    """Fields that the loss compares, and whether it allows NaN in them."""
    if config.training_module.get("loss") is None:
        return {}
    type_names = config.training_module.model.get("type_names")
    loss = instantiate(config.training_module.loss, type_names=type_names)
    if hasattr(loss, "before_responses"):
        return dict(loss.before_responses)
    return {
        entry.field.field: entry.ignore_nan
        for entry in loss.entries.values()
        if entry.field is not None and entry.coeff
    }


class LabelledFiles:
    """The files of a run.

    Args:
        fields: upstream's names of the labels in the loss, and whether they may be NaN.
        requirements: what the model asks of structures.
        exact: fields that must have the keys of the data set's ``key_mapping``; others may also
            go by ASE's names.
        responses: label -> key, or ``None`` where nobody has named one, of the responses that are
            trained on.
        external_field_key: entry of ``atoms.info`` that may hold the external field beside the
            usual ones.

    Attributes:
        field_keys: names of the fields in the files.
        ase_args: the files that were read, each with the data set's arguments of reading it.
    """

    def __init__(
        self,
        fields: Mapping[str, bool],
        requirements: Requirements,
        *,
        exact: Collection[str] = (),
        responses: Mapping[str, str | None] | None = None,
        external_field_key: str | None = None,
    ) -> None:
        self.responses = tuple(responses or ())
        given = {x: key for x, key in (responses or {}).items() if key is not None}
        self.response_keys = LabelKeys(given)
        self.requirements = requirements
        self.state_names = (
            {} if external_field_key is None else {"external_field": external_field_key}
        )
        self._reported: set[str] = set()
        self.fields = dict(fields)
        self.field_keys = FieldKeys(exact)
        self.ase_args: dict[str, dict[str, Any]] = {}

    @classmethod
    def of(
        cls,
        config: DictConfig,
        requirements: Requirements,
        *,
        exact: Collection[str] = (),
        responses: Mapping[str, str | None] | None = None,
        external_field_key: str | None = None,
    ) -> LabelledFiles:
        """Those of the run that ``config`` describes; the class says what the others are.

        ``requirements`` are completed by the elements that the model knows.
        """
        types = OmegaConf.select(config, "training_module.model.type_names") or []
        numbers = [atomic_numbers.get(name) for name in types]
        known = None if None in numbers or not numbers else numbers
        requirements = replace(requirements, elements=known)
        return cls(
            labels_in_loss(config),
            requirements,
            exact=exact,
            responses=responses,
            external_field_key=external_field_key,
        )

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """In here, upstream's ASE data sets get their frames from :meth:`frames`."""
        original, signature = ASEDataset.__init__, inspect.signature(ASEDataset.__init__)
        library = ase_dataset.ase

        def initialise(*args: Any, **kwargs: Any) -> None:
            given = signature.bind(*args, **kwargs).arguments
            path, mapping = given["file_path"], self._with_defaults(given.get("key_mapping") or {})
            ase_args = dict(given.get("ase_args") or {})
            for key in ("index", "filename"):  # upstream does not say which it refuses
                if key in ase_args:
                    raise DataError(f"{path}: `ase_args` must not have {key!r}: all frames count")
            frames = (atoms for _, atoms in self.frames(path, mapping, ase_args))
            # Upstream reads with `ase.io.iread`, by this name.
            ase_dataset.ase = SimpleNamespace(io=SimpleNamespace(iread=lambda **_: frames))
            try:
                original(**{**given, "key_mapping": mapping})
            finally:
                ase_dataset.ase = library
            if not given["self"].data_list:
                raise DataError(f"{path} has no frames")
            self.ase_args[str(path)] = ase_args

        ASEDataset.__init__ = initialise
        try:
            yield
        finally:
            ASEDataset.__init__ = original

    def frames(
        self,
        path: str | Path,
        mapping: Mapping[str, str],
        ase_args: Mapping[str, Any] | None = None,
        *,
        responses_needed: bool = True,
    ) -> Iterator[tuple[str, Any]]:
        """Frames of a file with one set of labels each, and their places for messages.

        Upstream's batches need the labels of all frames: those of responses, and what a frame
        with a response lacks, are NaN where there are none.

        Raises:
            les.data.extxyz.DataError: naming file, frame and key, for missing, mixed or bad labels
                and for structures on which the model has no meaningful result.
        """
        unused = UnusedLabels(self.requirements.names)
        states = ChargeStates(self.requirements, **self.state_names)
        tally = ResponseLabels(path, self.responses)
        required = [label for label, field in FIELDS.items() if field in self.fields]
        for where, atoms in self._checked(path, ase_args or {}):
            unused.add(atoms)
            state = states.read(atoms, where)
            parts = state.pop("fragments", None)
            if self.requirements.fragments:
                put_fragments(atoms, parts, state["total_charge"])
            atoms.info.update({STATE_KEYS[name]: value for name, value in state.items()})
            found: dict[str, Any] = dict(self._keep_responses(atoms, tally, where))
            waived = any(value is not None for value in found.values())
            if self.requirements.external_field and not has_energy(atoms, state["external_field"]):
                self._refuse_stress(atoms, mapping, where)
                ambiguous: tuple[str, ...] = OF_BRANCHES
            else:
                ambiguous = ()
            for field, allow_nan in self.fields.items():
                if field in ambiguous:
                    names = self.field_keys.names(field, mapping)[0]
                    for place, name in itertools.product(places(atoms), names):
                        place.pop(name, None)
                    put(atoms, _key_of(field, mapping), MISSING[field](len(atoms)))
                    continue
                names = self.field_keys.names(field, mapping)[0]
                if waived and field in MISSING and not any(x in all_of(atoms) for x in names):
                    put(atoms, _key_of(field, mapping), MISSING[field](len(atoms)))
                    continue
                self.field_keys.keep_one(atoms, field, allow_nan, mapping, where)
                found.update({label: True for label in required if FIELDS[label] == field})
            tally.count(found)
            # Upstream takes all results by ASE's names, a dipole as one of each atom.
            for name in set(all_properties) - {*mapping, *self.fields, *FIELDS}:
                for place in places(atoms):
                    place.pop(name, None)
            yield where, atoms
        unused.warn(path)
        if str(path) not in self._reported:  # upstream reads the training data twice
            self._reported.add(str(path))
            states.tell(path)
            tally.tell(required, needed=responses_needed)

    def _refuse_stress(self, atoms: Any, mapping: Mapping[str, str], where: str) -> None:
        """Refuse a stress of a periodic structure in a field."""
        names = self.field_keys.names(FIELDS["stress"], mapping)[0]
        found = [name for name in names if name in all_of(atoms)]
        if found:
            raise DataError(
                f"{where}: has a stress (key {found[0]!r}) and is periodic and in an external "
                "field, in which it is not trained on; take the label out"
            )

    def _keep_responses(self, atoms: Any, tally: ResponseLabels, where: str) -> dict[str, Any]:
        """Put the responses of a frame where upstream finds them; ``None`` for those missing."""
        found = tally.usable(
            atoms, {x: self.response_keys.label(atoms, x, where) for x in self.responses}
        )
        for label, value in found.items():
            for name in {f"REF_{label}", RESPONSE_FIELDS[label], *self.response_keys.names(label)}:
                for place in places(atoms):
                    place.pop(name, None)
            missing = MISSING[RESPONSE_FIELDS[label]](len(atoms))
            put(atoms, f"REF_{label}", missing if value is None else value)
        return found

    def check(self, path: str | Path, mapping: Mapping[str, str] | None = None) -> None:
        """Raise ``les.data.extxyz.DataError`` for a file that the model cannot be tested on.

        Its labels have the same names as those of the files that are read before and after it.

        Args:
            path: the file.
            mapping: the ``key_mapping`` of the data set.
        """
        mapping = self._with_defaults(mapping or {})
        if not sum(1 for _ in self.frames(path, mapping, responses_needed=False)):
            raise DataError(f"{path} has no frames")

    def _checked(self, path: str | Path, ase_args: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        for where, atoms in frames_of(Path(path), ase_args):
            self.requirements.check(atoms, where)
            atoms.cell = spanning_cell(atoms)
            yield where, atoms

    def labelled(self, path: str | Path) -> Iterator[tuple[str, Any, dict[str, Any]]]:
        """Frames of a file with those labels that they have, of the run's names and units."""
        for where, atoms in frames_of(Path(path), self.ase_args.get(str(path), {})):
            labels = {}
            for label, field in FIELDS.items():
                value = None
                with contextlib.suppress(DataError):  # the NaN of one that is left out
                    known = self.field_keys.found.get(field)
                    names = None if known is None else [known]
                    value = find_label(atoms, label, where, names)
                labels[label] = value
            found = {x: self.response_keys.label(atoms, x, where) for x in self.responses}
            labels.update(ResponseLabels(path, self.responses).usable(atoms, found))
            if self.requirements.external_field:
                states = ChargeStates(self.requirements, **self.state_names)
                state = states.read(atoms, where)
                atoms.info[EXTERNAL_FIELD_KEY] = state["external_field"]
            yield where, atoms, labels

    def _with_defaults(self, mapping: Mapping[str, str]) -> dict[str, str]:
        """A ``key_mapping`` in which each label that has no key has that of the other models."""
        mapped = set(mapping.values())
        defaults = {f"REF_{label}": field for label, field in FIELDS.items() if field not in mapped}
        responses = {f"REF_{label}": RESPONSE_FIELDS[label] for label in self.responses}
        needs = self.requirements
        charge = {TOTAL_CHARGE_KEY: TOTAL_CHARGE_KEY} if needs.total_charge else {}
        spin = {SPIN_KEY: SPIN_KEY} if "spin" in needs.embedded else {}
        parts = {key: key for key in FRAGMENT_KEYS} if needs.fragments else {}
        own = {EXTERNAL_FIELD_KEY: EXTERNAL_FIELD_KEY} if needs.external_field else {}
        return {**defaults, **mapping, **responses, **charge, **spin, **parts, **own}


def _key_of(field: str, mapping: Mapping[str, str]) -> str:
    """The name that a ``key_mapping`` has for a field."""
    return next(key for key, target in mapping.items() if target == field)


def require_field(
    paths: Iterable[str | Path],
    ase_args: Mapping[str, Any],
    requirements: Requirements,
    key: str | None,
) -> None:
    """Raise ``les.data.extxyz.DataError`` if no structure of the files is in an external field.

    Args:
        paths: the files that are trained on.
        ase_args: how they are read.
        requirements: what the model asks of structures.
        key: entry of ``atoms.info`` that may hold the field beside the usual ones.
    """
    names = {} if key is None else {"external_field": key}
    states = ChargeStates(requirements, **names)
    for path in paths:
        for where, atoms in frames_of(Path(path), ase_args):
            states.read(atoms, where)
            if states.has_field:
                return
    raise DataError(
        "no structure to train on is in an external field, which `external_field` is for; name "
        "the right key with --external_field_key"
    )


def has_charged(
    paths: Iterable[str | Path], ase_args: Mapping[str, Any], requirements: Requirements
) -> bool:
    """Whether some structure of the files, or a fragment of one, has a charge.

    Raises:
        les.data.extxyz.DataError: as where the files are read, and for what is no total charge.
    """
    states = ChargeStates(requirements)
    for path in paths:
        for where, atoms in frames_of(Path(path), ase_args):
            states.read(atoms, where)
            if states.has_charged:
                return True
    return False
