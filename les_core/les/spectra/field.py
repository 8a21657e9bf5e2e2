r"""A homogeneous electric field on any model with Born effective charges.

.. math:: E = E_0 - P \cdot \mathcal{E}, \qquad F_{i\beta} = F^0_{i\beta}
    + \mathcal{E}_\alpha Z^*_{i\alpha\beta}

P is the dipole of a molecule. The dipole of a periodic cell has many values, so it is followed from
the first structure on, along one branch (``les.Polarisation``). Its energy in the field starts from
zero, and depends on the path of the structure if charges do not sum to a constant. Along a periodic
axis there are two ways to drive a crystal:

- at constant field ``"E"``, as between electrodes that a battery connects: longitudinal
  modes are as soft as transverse ones, and a conductor never comes to rest (I. Souza,
  J. Iniguez, D. Vanderbilt, Phys. Rev. Lett. 89, 117602 (2002));
- at constant displacement ``"D"``, as between electrodes that are not connected: the field
  is :math:`(D - P/V)/(\epsilon_{vac}\epsilon_\infty)`, its energy
  :math:`V(D - P/V)^2/(2\epsilon_{vac}\epsilon_\infty)` (M. Stengel, N. A. Spaldin,
  D. Vanderbilt, Nat. Phys. 5, 304 (2009)).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from numpy.typing import ArrayLike, NDArray

from les.data.atoms import labels_without_effect
from les.data.total_charge import TOTAL_CHARGE_NAMES
from les.ranges import check_number
from les.response.polarisation import Polarisation
from les.spectra.frames import born_charges, kept_born_charges, require_charges
from les.units import COULOMB_CONSTANT

if TYPE_CHECKING:
    from ase import Atoms

#: What may be held constant along a periodic axis.
CONSTANTS = ("E", "D")
#: Acoustic sum of a molecule that is taken for rounding [e].
NEUTRAL = 1e-3


class HomogeneousField(Calculator):
    """A calculator in a homogeneous field.

    Results are ``energy`` and ``forces`` with the field, and ``charges``, ``dipole`` and
    ``born_effective_charges`` of the model without the field. They are taken in the frame of the
    centre of mass, so that the field does not move the system as a whole. There is no stress, and
    the cell must not change.

    Only terms that are linear in the field are included. Electrons respond only through
    ``eps_inf``, with which the Born effective charges have to be computed. (The energy of
    equilibrated charges also has a term that is quadratic in the field. It is left out of energies
    and forces.)

    Args:
        calculator: the calculator of a model, with ``bec=True``.
        field: ``[3]`` [V/A], or a function of the time [fs] that returns it; with ``constant="D"``
            the displacement, divided by the vacuum permittivity. See :meth:`follow` for the time.
        constant: ``"E"`` or ``"D"``; required if the field has a component along a periodic axis.
        eps_inf: high-frequency dielectric constant, with ``constant="D"``.

    Attributes:
        time: the time at which the field is evaluated [fs].
        polarisation: ``[3]`` [e A], the dipole of a molecule, or the change of the dipole of a
            cell since the first structure.

    Raises:
        ValueError: for a model without Born effective charges, a field that is not three finite
            numbers, another ``constant``, and an ``eps_inf`` that is not positive or has no effect.
    """

    implemented_properties: list[str] = [  # noqa: RUF012
        "energy",
        "forces",
        "charges",
        "dipole",
        "born_effective_charges",
    ]

    def __init__(
        self,
        calculator: Any,
        field: ArrayLike | Callable[[float], ArrayLike],
        *,
        constant: str | None = None,
        eps_inf: float | None = None,
    ) -> None:
        super().__init__()
        require_charges(calculator)
        if constant is not None and constant not in CONSTANTS:
            raise ValueError(f"`constant` must be 'E' or 'D', got {constant!r}")
        if eps_inf is not None:
            check_number("eps_inf", eps_inf, "epsilon_factor")
            if constant != "D":
                raise ValueError("`eps_inf` has no effect without constant='D'")
        self.calculator = calculator
        self.constant = constant
        self.eps_inf = 1.0 if eps_inf is None else eps_inf
        self.time = 0.0
        self.polarisation: NDArray[np.float64] = np.zeros(3)
        self._field = field
        self._followed: Polarisation | None = None
        if not callable(field):
            self.field_at(0.0)

    def field_at(self, time: float) -> NDArray[np.float64]:
        """The field, or the displacement, at a time [fs].

        Returns:
            ``[3]`` [V/A].

        Raises:
            ValueError: if it is not three finite numbers.
        """
        given = self._field(time) if callable(self._field) else self._field
        field = np.array(given, dtype=np.float64)
        if field.shape != (3,) or not np.isfinite(field).all():
            raise ValueError(
                f"`field` must be three finite numbers in V/A, got {given!r} at {time:g} fs"
            )
        return field

    def follow(self, dynamics: Any) -> None:
        """Take the time of the field from a molecular dynamics of ASE.

        Forces are evaluated once in each step, at its end, so the field of a step is the field at
        its end. Call this before the first step.
        """
        from ase import units

        def ahead() -> None:
            self.time = (dynamics.get_time() + dynamics.dt) / units.fs

        dynamics.attach(ahead, interval=1)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Compute all results for ``atoms``.

        Raises:
            ValueError: for a field of the structure that the model takes itself, one along a
                periodic axis without ``constant``, a charged structure, a cell or atoms other than
                before, and steps between structures that are too long to follow.
        """
        super().calculate(atoms, properties, system_changes)
        structure = self.atoms
        assert structure is not None
        field_of = getattr(self.calculator, "external_field", None)
        if field_of is not None and field_of(structure).any():
            raise ValueError(
                f"the structure has an external field, {field_of(structure).tolist()} V/A, which "
                "the model itself takes: leave it out of atoms.info, or do without HomogeneousField"
            )
        field = self.field_at(self.time)
        self._require_constant(structure, field)
        _require_neutral(structure)
        energy = self.calculator.get_property("energy", structure)
        forces = self.calculator.get_property("forces", structure)
        _require_no_sum(structure, kept_born_charges(self.calculator, structure))
        born = born_charges(self.calculator, structure)
        if not structure.pbc.any():
            self.polarisation = np.array(self.calculator.get_property("dipole", structure))
        elif self._followed is None:
            self._followed = Polarisation(structure, born)
        else:
            self.polarisation = self._followed.update(structure, born)
        if self.constant == "D":
            density = 4.0 * math.pi * COULOMB_CONSTANT / (structure.get_volume() * self.eps_inf)
            field = field / self.eps_inf - density * self.polarisation
            extra = 0.5 * float(field @ field) / density
        else:
            extra = -float(self.polarisation @ field)
        self.results = {
            "energy": energy + extra,
            "forces": forces + np.einsum("a,iab->ib", field, born),
            "charges": self.calculator.get_property("charges", structure),
            "dipole": self.calculator.get_property("dipole", structure),
            "born_effective_charges": born.reshape(-1, 9),
        }

    def _require_constant(self, atoms: Atoms, field: NDArray[np.float64]) -> None:
        if self.constant == "D":
            if not atoms.pbc.all():
                raise ValueError(
                    "constant='D' is for structures with three periodic axes, got pbc "
                    f"{atoms.pbc.tolist()}: elsewhere the field given is the one outside"
                )
            return
        if self.constant is None:
            along = np.abs(atoms.cell[:][atoms.pbc] @ field)
            if along.max(initial=0.0) > 1e-12:
                axis = int(np.flatnonzero(atoms.pbc)[along.argmax()])
                raise ValueError(
                    f"the field {field.tolist()} V/A has a part along the periodic axis {axis}: "
                    "say what is held constant, the field by constant='E' or the displacement by "
                    "constant='D'"
                )


def _require_neutral(atoms: Atoms) -> None:
    """Refuse what says that it is charged: its energy in a field depends on the origin."""
    charged = labels_without_effect(atoms)
    for name in TOTAL_CHARGE_NAMES:
        if name in charged:
            raise ValueError(
                f"the structure has {name} = {charged[name]}: a field drives ions away, and "
                "their energy in it depends on the origin; it must be neutral"
            )


def _require_no_sum(atoms: Atoms, born: NDArray[np.float64]) -> None:
    """Refuse a molecule whose Born effective charges are those of an ion."""
    total = np.abs(born.sum(axis=0)).max()
    if not atoms.pbc.any() and total > NEUTRAL:
        raise ValueError(
            f"the Born effective charges of the molecule must sum to zero, got {total:.3g} e: its "
            "energy in a field depends on the origin"
        )
