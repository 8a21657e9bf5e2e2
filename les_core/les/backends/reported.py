"""Charges and what follows from them among the results of a calculator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ase.calculators.calculator import PropertyNotImplementedError
from ase.outputs import Properties, all_outputs

from les.backends.charge_results import (
    array_of,
    charge_results,
    equilibration_results,
    scale_of_charges,
)
from les.backends.charge_state import ChargeStateOfAtoms
from les.data.atoms import has_stress
from les.latent_moments import ATOMIC_MOMENTS
from les.response.born import BORN_CHARGES
from les.response.gauge import ChargeSign

if TYPE_CHECKING:
    from ase import Atoms

    from les.config import LESConfig

#: Results that there are besides the energy and its derivatives, of a model with LES.
LONG_RANGE_RESULTS = ("charges", "dipole", "quadrupole", "les_energy")

#: Results that depend on the branch of the polarisation where periodic structures are in a field.
ENERGIES = (
    "energy",
    "free_energy",
    "energies",
    "node_energy",
    "interaction_energy",
    "les_energy",
    "stress",
    "stresses",
)

#: Field of the configuration -> the result that there is besides.
MOMENT_RESULTS = {
    "use_dipole": "atomic_dipoles",
    "use_quadrupole": "atomic_quadrupoles",
    "use_induced_charge": "charge_responses",
    "use_induced_dipole": "atomic_polarisabilities",
}

#: Results that there are besides of a model that equilibrates charges.
EQUILIBRATION_RESULTS = ("electronegativity", "hardness")


def results_of_charges(config: LESConfig) -> tuple[str, ...]:
    """Names of results that a model with this configuration has besides energies."""
    if config.n_channels > 1:
        return ("latent_charges", "les_energy")
    moments = [name for key, name in MOMENT_RESULTS.items() if getattr(config, key)]
    if config.use_induced_dipole:
        moments.append("atomic_dipoles")
    more = EQUILIBRATION_RESULTS if config.charge_equilibration else ()
    return tuple(dict.fromkeys((*LONG_RANGE_RESULTS, *more, *moments)))


class ResultsOfCharges(ChargeStateOfAtoms):
    """The part of a calculator that reports charges, with their sign fixed.

    Attributes:
        bec: whether Born effective charges are computed.
        acoustic_sum: one of ``les.response.sum_rules.ACOUSTIC_SUMS``.
        charge_sign: the sign of all charges.
        results: by name.
    """

    bec: bool = False
    acoustic_sum: str
    charge_sign: ChargeSign
    results: dict[str, Any]

    def add_charge_results(
        self,
        atoms: Atoms,
        les_energy: float,
        charges: torch.Tensor,
        dipole: torch.Tensor | None,
        bec: torch.Tensor | None = None,
        parameters: torch.Tensor | None = None,
        others: Mapping[str, torch.Tensor | None] | None = None,
    ) -> None:
        """Put charges and what follows from them into ``results``, with their sign fixed.

        Args:
            atoms: the structure.
            les_energy: the long-range part of the energy [eV].
            charges: ``[n_atoms]`` [e], or ``[n_atoms, n_channels]`` of a model with several; their
                sign has no meaning, and there is neither a dipole nor ``bec`` then.
            dipole: ``[3]`` [e A]; ``None`` for a model with several charges on each atom.
            bec: Born effective charges ``[n_atoms, 3, 3]`` [e].
            parameters: electronegativities and hardnesses ``[n_atoms, 2]`` of latent charges, of a
                model that equilibrates them.
            others: further results of the model, among which may be moments of atoms
                (``les.latent_moments.reported_moments``).
        """
        self.results["les_energy"] = les_energy
        if "latent_charges" in self.implemented_properties:
            self.results["latent_charges"] = array_of(charges)
            return
        assert dipole is not None
        assert self.les_config is not None
        numbers = torch.as_tensor(atoms.numbers, device=charges.device)
        sign = self._sign(atoms, charges, numbers)
        others = others or {}
        self.results |= charge_results(
            atoms,
            charges,
            dipole,
            bec,
            self.les_config.moments_without_mean,
            sign * scale_of_charges(self.les_config, self.eps_inf),
            self.acoustic_sum,
            {name: x for name in ATOMIC_MOMENTS if (x := others.get(name)) is not None},
        )
        if parameters is not None:
            self.results |= equilibration_results(parameters, sign)

    def add_charge_outputs(self, atoms: Atoms, out: Mapping[str, torch.Tensor]) -> None:
        """As :meth:`add_charge_results`, for what a model gives for one structure.

        Args:
            atoms: the structure.
            out: ``les_energy`` [eV], ``charges`` ``[n_atoms]`` [e], or ``latent_charges``
                ``[n_atoms, n_channels]`` of a model with several, ``dipole`` ``[3]`` [e A], and
                where there are any ``born_effective_charges`` ``[n_atoms, 3, 3]`` [e],
                ``equilibration_parameters`` ``[n_atoms, 2]`` and moments of atoms.
        """
        self.add_charge_results(
            atoms,
            out["les_energy"].item(),
            out["charges"] if "charges" in out else out["latent_charges"],
            out.get("dipole"),
            out.get(BORN_CHARGES) if self.bec else None,
            out.get("equilibration_parameters"),
            out,
        )

    def _sign(self, atoms: Atoms, charges: torch.Tensor, numbers: torch.Tensor) -> int:
        """The sign of the charges, which a total charge leaves no choice of.

        Raises:
            ValueError: for a structure with a total charge, and a model whose charges have the
                opposite sign.
        """
        sign: int = self.charge_sign(charges, numbers)
        charge = self.charge_of_a_part(atoms)
        if sign < 0 and charge != 0.0:
            raise ValueError(
                f"the charges of this model are reported with the opposite sign, and would sum to "
                f"{-charge:g} instead of the total charge {charge:g}: training on neutral "
                "structures alone leaves their sign open. Train on charged ones, too, or on "
                "dipoles; sign=1 takes the charges as they are"
            )
        if sign < 0 and self.external_field(atoms).any():
            raise ValueError(
                "the charges of this model are reported with the opposite sign of those that are "
                "in the external field of the structure: train on structures in fields, which have "
                "a sign; sign=1 takes the charges as they are"
            )
        return sign

    def finish_results(self, atoms: Atoms) -> None:
        """Leave out what has no value for ``atoms``, and check the others.

        Raises:
            ValueError: as :meth:`check_results`.
        """
        if not has_stress(atoms):
            self.results.pop("stress", None)
        if not self.has_energy(atoms):
            for name in ENERGIES:
                self.results.pop(name, None)
        self.check_results()

    def check_results(self) -> None:
        """Raise ``ValueError`` if a result is not finite; there are no results then."""
        for name, value in self.results.items():
            if not np.isfinite(value).all():
                self.results = {}
                raise ValueError(
                    f"the model gives NaN or infinite values for the {name} of this structure; it "
                    "may be far from what the model was trained on, or the model is broken"
                )

    def export_properties(self) -> Properties:
        """As ASE's, of the results that ASE knows, which would refuse the others.

        Born effective charges have the shape ``[n_atoms, 3, 3]`` there.
        """
        known = {name: value for name, value in self.results.items() if name in all_outputs}
        if BORN_CHARGES in known:
            known[BORN_CHARGES] = np.reshape(known[BORN_CHARGES], (-1, 3, 3))
        return Properties(known)

    def get_property(
        self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True
    ) -> Any:
        """As ASE's; says why there is no ``name`` if it is a result of LES.

        Raises:
            PropertyNotImplementedError: where the model has none, or was not asked for it.
        """
        ours = name in (
            *LONG_RANGE_RESULTS,
            *EQUILIBRATION_RESULTS,
            *ATOMIC_MOMENTS,
            "latent_charges",
            BORN_CHARGES,
        )
        structure = atoms if atoms is not None else self.atoms
        if name in ENERGIES and structure is not None and not self.has_energy(structure):
            raise PropertyNotImplementedError(
                f"a periodic structure in an external field has no {name}: it depends on the "
                "branch of the polarisation; take the field out of atoms.info for "
                "les.spectra.field.HomogeneousField, whose energy follows one branch"
            )
        in_a_cell = name == "quadrupole" and structure is not None and structure.pbc.any()
        if ours and (in_a_cell or name not in self.implemented_properties):
            raise PropertyNotImplementedError(self._why_not(name))
        return super().get_property(name, atoms, allow_calculation)

    def _why_not(self, name: str) -> str:
        if not self.long_range:
            return f"the model has no LES, and so no {name}"
        if name in EQUILIBRATION_RESULTS:
            return f"the model does not equilibrate charges, and so has no {name}"
        if name in ATOMIC_MOMENTS:
            return f"the model reads charges alone off its features, and so has no {name}"
        if "latent_charges" in self.implemented_properties:
            return f"the model has several charges on each atom, latent_charges, and so no {name}"
        if name == BORN_CHARGES:
            return f"{name} are computed on request: make the calculator with bec=True"
        if name == "quadrupole":
            return (
                "a periodic structure has no quadrupole: what it would be depends on which atoms "
                "are taken for one cell"
            )
        return f"the model has one charge on each atom: see charges instead of {name}"
