"""What a model asks of structures, and what of their state it is given."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from les.config import LESConfig
from les.data.atoms import ANY_AXES, LONG_RANGE_AXES, check_atoms, check_elements
from les.data.external_field import FIELD_KEYS, ExternalFields
from les.data.extxyz import DataError
from les.data.fragments import FRAGMENT, FRAGMENT_CHARGE, fragments
from les.data.spin import SPIN_NAMES, spin_multiplicity
from les.data.total_charge import TOTAL_CHARGE_NAMES, TotalCharges


@dataclass(frozen=True)
class Requirements:
    """What structures must be like for a model, and what they say that it makes use of.

    Attributes:
        elements: atomic numbers that the model knows; all without.
        axes: numbers of periodic axes that it takes.
        total_charge: whether it is given the total charge of a structure, and of its fragments.
        embedded: what it embeds, as ``les.LESConfig.embedded``, and every structure must say.
        whole: whether it takes no structure with fragments, though it is given total charges.
        external_field: whether it is given the external field of a structure.
    """

    elements: Collection[int] | None = None
    axes: Collection[int] = LONG_RANGE_AXES
    total_charge: bool = False
    embedded: tuple[str, ...] = ()
    whole: bool = False
    external_field: bool = False

    @classmethod
    def of(cls, config: LESConfig | None, elements: Collection[int] | None = None) -> Requirements:
        """Those of a model.

        Args:
            config: how it does its long-range part, ``None`` without LES.
            elements: atomic numbers that it knows.
        """
        if config is None:
            return cls(elements, ANY_AXES)
        return cls(
            elements,
            LONG_RANGE_AXES,
            config.uses_total_charge,
            config.embedded,
            config.reads_moments,
            config.external_field,
        )

    @property
    def fragments(self) -> bool:
        """Whether it is given the fragments of a structure."""
        return self.total_charge and not self.whole

    @property
    def names(self) -> tuple[str, ...]:
        """Entries of ``Atoms.info``, and arrays, about the state that the model uses."""
        charges = (*TOTAL_CHARGE_NAMES, FRAGMENT, FRAGMENT_CHARGE) if self.total_charge else ()
        spins = SPIN_NAMES if "spin" in self.embedded else ()
        return (*charges, *spins, *(FIELD_KEYS if self.external_field else ()))

    def check(self, atoms: Any, where: str) -> None:
        """Check a structure, but for its charge state.

        Args:
            atoms: ``ase.Atoms``.
            where: file and frame, for messages.

        Raises:
            les.data.extxyz.DataError: for one on which the model has no meaningful result.
        """
        try:
            check_atoms(atoms, self.axes)
            if self.elements is not None:
                check_elements(atoms, self.elements)
        except ValueError as error:
            raise DataError(f"{where}: {error}") from error
        if self.whole and FRAGMENT in atoms.arrays:
            raise DataError(
                f"{where}: has fragments ({FRAGMENT!r}), which a model cannot keep apart that is "
                "compiled for its training or reads moments of atoms (`use_dipole`, ...); take the "
                "array out"
            )


class ChargeStates:
    """Reads charge states and fields of the structures of one file, as far as a model takes them.

    Args:
        requirements: what the model is given.
        names: entries of ``Atoms.info``, beside the usual ones, that may hold the total charge, the
            spin and the field, under ``"total_charge"``, ``"spin"`` and ``"external_field"``.

    Attributes:
        has_charged: whether a structure that was read, or one of its fragments, has a charge that
            the model is given: it fixes the sign of all charges.
    """

    def __init__(self, requirements: Requirements, **names: str) -> None:
        self.requirements = requirements
        self._names = {name: (key,) for name, key in names.items()}
        needed = "total_charge" in requirements.embedded
        self._charges = TotalCharges(*self._names.get("total_charge", ()), needed=needed)
        self._fields = ExternalFields(*self._names.get("external_field", ()))
        self.has_charged = False

    @property
    def has_field(self) -> bool:
        """Whether a structure that was read is in a field that the model is given."""
        return bool(self._fields.strengths)

    def read(self, atoms: Any, where: str) -> dict[str, Any]:
        """What the model is given of a structure, by name.

        That is the ``total_charge`` [e] with the ``fragments``, ``les.fragments.Fragments`` or
        ``None`` where the structure tells none, the ``spin`` multiplicity, and the
        ``external_field`` ``[3]`` [V/A].

        Args:
            atoms: ``ase.Atoms``.
            where: file and frame, for messages.

        Raises:
            les.data.extxyz.DataError: for what is none, and for one that is needed and missing.
        """
        state: dict[str, Any] = {}
        try:
            if self.requirements.total_charge:
                state["total_charge"] = self._charges.add(atoms)
                found = state["fragments"] = fragments(atoms, state["total_charge"])
                of_fragments = [] if found is None else found.charges.tolist()
                self.has_charged |= any((state["total_charge"], *of_fragments))
            if "spin" in self.requirements.embedded:
                state["spin"] = spin_multiplicity(atoms, *self._names.get("spin", ()))
            if self.requirements.external_field:
                state["external_field"] = self._fields.add(atoms)
        except ValueError as error:
            raise DataError(f"{where}: {error}") from error
        return state

    def tell(self, path: Any) -> None:
        """Log what total charges the structures of the file ``path`` have, and their fields."""
        self._charges.tell(path)
        self._fields.tell(path)
