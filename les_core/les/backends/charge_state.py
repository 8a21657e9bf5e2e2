"""Total charge, spin, field and fragments of the structures that a calculator computes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ase.calculators.calculator import Calculator

from les.backends.charge_results import scale_of_charges
from les.data.external_field import FIELD_KEYS, external_field, has_energy
from les.data.fragments import FRAGMENT, FRAGMENT_CHARGE, Fragments, fragments
from les.data.spin import SPIN_NAMES, spin_multiplicity
from les.data.total_charge import TOTAL_CHARGE_NAMES, is_fractional, total_charge

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

    from les.config import LESConfig

logger = logging.getLogger("les")


class ChargeStateOfAtoms(Calculator):
    """The part of a calculator that reads the charge state of structures.

    Attributes:
        les_config: how the model does its long-range part, ``None`` without LES.
        eps_inf: high-frequency dielectric constant in the place of the model's, or ``None``.
        total_charge_names: entries of ``Atoms.info`` that may hold the total charge.
        spin_names: entries that may hold the spin multiplicity.
        field_names: entries that may hold the external field.
    """

    les_config: LESConfig | None = None
    eps_inf: float | None = None
    total_charge_names: tuple[str, ...] = TOTAL_CHARGE_NAMES
    spin_names: tuple[str, ...] = SPIN_NAMES
    field_names: tuple[str, ...] = FIELD_KEYS
    _told_of_fractional = False

    @property
    def long_range(self) -> bool:
        """Whether the model has LES."""
        return self.les_config is not None

    @property
    def uses_total_charge(self) -> bool:
        """Whether charges sum to the total charge of a structure, and of each of its fragments."""
        return self.les_config is not None and self.les_config.uses_total_charge

    @property
    def embedded(self) -> tuple[str, ...]:
        """What the model embeds in its features, as ``les.LESConfig.embedded``."""
        return () if self.les_config is None else self.les_config.embedded

    def total_charge(self, atoms: Atoms) -> float:
        """Total charge of ``atoms`` that the model is given [e]; 0 if it cannot use one.

        Raises:
            ValueError: as ``les.data.total_charge.total_charge``, where a model that embeds the
                total charge needs it.
        """
        if not self.uses_total_charge:
            return 0.0
        needed = "total_charge" in self.embedded
        return total_charge(atoms, *self.total_charge_names, needed=needed)

    def spin(self, atoms: Atoms) -> float:
        """Spin multiplicity of ``atoms`` that the model is given; 1 if it embeds none.

        Raises:
            ValueError: as ``les.data.spin.spin_multiplicity``.
        """
        return spin_multiplicity(atoms, *self.spin_names) if "spin" in self.embedded else 1.0

    def charge_state(self, atoms: Atoms) -> dict[str, Any]:
        """What the model has a use for of the state of ``atoms``, by name.

        That is the ``total_charge`` [e], the ``spin`` and the ``external_field`` ``[3]`` [V/A].

        Raises:
            ValueError: as :meth:`total_charge`, :meth:`spin` and :meth:`external_field`.
        """
        state: dict[str, Any] = {}
        if self.uses_total_charge:
            state["total_charge"] = self.total_charge(atoms)
        if "spin" in self.embedded:
            state["spin"] = self.spin(atoms)
        if self.uses_external_field:
            state["external_field"] = self.external_field(atoms)
        return state

    @property
    def uses_external_field(self) -> bool:
        """Whether the model is given the external field of a structure."""
        return self.les_config is not None and self.les_config.external_field

    def external_field(self, atoms: Atoms) -> NDArray[np.float64]:
        """The field that ``atoms`` are in ``[3]`` [V/A]; zero if the model does not take one.

        Raises:
            ValueError: as ``les.data.external_field.external_field``.
        """
        return external_field(atoms, *self.field_names) if self.uses_external_field else np.zeros(3)

    def has_energy(self, atoms: Atoms) -> bool:
        """Whether ``atoms`` have one energy: periodic ones in a field have not."""
        return has_energy(atoms, self.external_field(atoms))

    def fragments(self, atoms: Atoms) -> Fragments | None:
        """The fragments of ``atoms`` that the model is given; ``None`` where there are none.

        Raises:
            ValueError: as ``les.data.fragments.fragments``.
        """
        return fragments(atoms, self.total_charge(atoms)) if self.uses_total_charge else None

    def fragment_tensors(self, atoms: Atoms) -> dict[str, torch.Tensor]:
        """Labels and charges of the fragments of ``atoms``, by the names of their arrays."""
        found = self.fragments(atoms)
        if found is None:
            return {}
        return {
            FRAGMENT: torch.as_tensor(found.labels),
            FRAGMENT_CHARGE: torch.as_tensor(found.charges),
        }

    def charge_of_a_part(self, atoms: Atoms) -> float:
        """A charge other than 0 [e] that ``atoms``, or one of their fragments, must have, or 0."""
        found = self.fragments(atoms)
        of_fragments = [] if found is None else found.charges.tolist()
        charges = (self.total_charge(atoms), *of_fragments)
        return next((charge for charge in charges if charge != 0.0), 0.0)

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """As ASE's: what has changed since the last calculation, charge state included."""
        changes: list[str] = super().check_state(atoms, tol)
        for change, uses, names in (
            ("total_charge", self.uses_total_charge, self.total_charge_names),
            ("spin", "spin" in self.embedded, self.spin_names),
            ("external_field", self.uses_external_field, self.field_names),
        ):
            if uses and self.atoms is not None:
                last = {name: self.atoms.info.get(name) for name in names}
                if any(not _same(atoms.info.get(name), value) for name, value in last.items()):
                    changes.append(change)
        if self.uses_total_charge and self.atoms is not None:
            for name in (FRAGMENT, FRAGMENT_CHARGE):
                if not _same(atoms.arrays.get(name), self.atoms.arrays.get(name)):
                    changes.append(name)
        return changes

    def charge_state_names(self) -> tuple[str, ...]:
        """Entries of ``Atoms`` that the model takes a charge, spin, field or fragments from."""
        of_charge = (*self.total_charge_names, FRAGMENT, FRAGMENT_CHARGE)
        spin = self.spin_names if "spin" in self.embedded else ()
        field = self.field_names if self.uses_external_field else ()
        return (*(of_charge if self.uses_total_charge else ()), *spin, *field)

    def check_charge_state(self, atoms: Atoms) -> None:
        """Check the charge state of ``atoms``; a fractional charge is logged once.

        Raises:
            ValueError: as :meth:`total_charge`, :meth:`spin`, :meth:`external_field` and
                :meth:`fragments`; for a field of a model whose charges are scaled by ``eps_inf`` or
                have the opposite sign; for fragments of a model that reads moments of atoms; for a
                charge of a model with several charges on each atom, and of one whose charges are
                scaled by ``eps_inf``.
        """
        charge = self.charge_of_a_part(atoms)
        moments = self.les_config is not None and self.les_config.reads_moments
        if moments and self.fragments(atoms) is not None:
            raise ValueError(
                f"the structure has fragments ({FRAGMENT!r}), which a model with moments of atoms "
                "(`use_dipole`, `use_quadrupole`, `use_induced_charge` or `use_induced_dipole`) "
                "cannot keep apart; take the array out"
            )
        self.spin(atoms)
        field = self.external_field(atoms)
        config = self.les_config
        if config is not None and field.any() and scale_of_charges(config, self.eps_inf) != 1.0:
            raise ValueError(
                f"`eps_inf` must be {config.epsilon_factor:g}, the `epsilon_factor` of "
                f"the model, for a structure in an external field, got {self.eps_inf:g}: the "
                "energy would not be that of the charges"
            )
        if charge == 0.0:
            return
        assert self.les_config is not None
        if self.les_config.n_channels > 1:
            raise ValueError(
                f"the total charge must be 0 for a model with {self.les_config.n_channels} charges "
                f"on each atom, among which nothing says how it is divided, got {charge:g}"
            )
        if scale_of_charges(self.les_config, self.eps_inf) != 1.0:
            raise ValueError(
                f"`eps_inf` must be {self.les_config.epsilon_factor:g}, the `epsilon_factor` of "
                f"the model, for a structure with a total charge, got {self.eps_inf:g}: the "
                "charges would not sum to it"
            )
        if is_fractional(charge) and not self._told_of_fractional:
            self._told_of_fractional = True
            logger.warning("a fractional total charge, %g e, is taken as it is", charge)


def _same(first: Any, second: Any) -> bool:
    """Whether two entries of ``Atoms.info`` are one, whatever they are."""
    return first is second or bool(np.array_equal(first, second))
