"""What the ASE calculators of all adapters share: charges and what follows from them."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ase.calculators.calculator import all_changes

from les.backends.charge_results import check_charge_options
from les.backends.keywords import refuse_unknown_keywords
from les.backends.reported import ResultsOfCharges, results_of_charges
from les.data.atoms import (
    ANY_AXES,
    LONG_RANGE_AXES,
    UnusedLabelWarning,
    centred,
    check_atoms,
    check_elements,
    labels_without_effect,
)
from les.neighbours import SKIN, VerletList
from les.response.born import BORN_CHARGES
from les.response.gauge import ChargeSign

if TYPE_CHECKING:
    from ase import Atoms

    from les.config import LESConfig
    from les.engines.cluster import ShortRange

#: Rounding of positions that still leaves meaningful results [A].
RESOLUTION = 1e-3


class ChargeCalculator(ResultsOfCharges):
    """The part of a calculator that handles charges, to be mixed into upstream's calculator.

    An adapter calls, in this order, :meth:`refuse_unknown_keywords`, upstream and
    :meth:`set_up_charges` in its ``__init__``. It says which elements the model knows in
    :meth:`elements`, and computes with upstream and :meth:`add_charge_results` in
    :meth:`evaluate`.

    With LES there are further results: ``charges`` [e], ``dipole`` [e A], ``les_energy`` [eV] and,
    with ``bec``, ``born_effective_charges`` ``[n_atoms, 9]`` [e], row by row with the component of
    the polarisation first. Open structures also have a ``quadrupole`` ``[3, 3]`` [e A^2], see
    ``les.quadrupole_moments``. In periodic cells ``dipole`` is one branch of a multivalued
    quantity.

    - With ``neutrality`` ``"shift"`` the ``charges`` sum to the total charge of the structure,
      which is ``charge`` or ``total_charge`` in ``Atoms.info``, or 0. Charges of fragments
      (``les.data.fragments``) sum to the total charges of these. ``dipole`` is the dipole of these
      charges, and depends on the origin for an ion.
    - Other models do not know the total charge, and their charges need not sum to it. ``dipole``
      and Born effective charges are computed from the charges less their mean (unless the model's
      ``remove_mean`` is false), so they do not change when the structure is moved.
    - Models with several charges on each atom have ``latent_charges`` ``[n_atoms, n_channels]``
      [e] instead of ``charges`` and results that are derived from them.
    - Models with ``charge_equilibration`` also have ``electronegativity`` [eV/e] and ``hardness``
      [eV/e^2] of latent charges.
    - Models with moments of atoms also have ``atomic_dipoles`` ``[n_atoms, 3]`` [e A], induced
      ones included, ``atomic_quadrupoles`` ``[n_atoms, 9]`` [e A^2], ``atomic_polarisabilities``
      ``[n_atoms]`` or ``[n_atoms, 9]`` [e^2 A^2/eV] and ``charge_responses`` ``[n_atoms]``
      [e^2/eV], the last two to latent fields and potentials. ``dipole``, ``quadrupole`` and Born
      effective charges include all of these.

    Training leaves the common sign of all charges open. The first structure with more than one
    element determines it, so that its most electronegative element is negative
    (``les.ChargeSign``). The sign is then kept, because it must not change along a trajectory.

    Short-range models work as well, and give upstream's results.

    Args:
        args: arguments of upstream's calculator.
        bec: compute Born effective charges with every calculation: true for exact ones,
            ``"phase"`` for the published approximation, see ``les.born_effective_charges``.
        sign: sign of the charges, +1 or -1, instead of the model's own sign, or of the sign that
            the first structure determines.
        acoustic_sum: ``"kept"``, or ``"spread"`` for Born effective charges that sum to zero, see
            ``les.spread_acoustic_sum``.
        eps_inf: high-frequency dielectric constant, instead of the ``epsilon_factor`` of the
            model: charges, and all results that are derived from them except energies, are
            multiplied by the square root of the ratio of the two.
        skin: how far beyond the cutoff neighbours are searched for [A], which saves the search in
            most steps of dynamics and changes no result but by rounding, see
            ``les.neighbours.VerletList``; 0 to search in every step, with pairs in upstream's
            order.
        kwargs: further arguments of upstream's calculator.

    Attributes:
        les_config: the configuration of the long-range part, ``None`` without LES.
        bec: whether Born effective charges are computed.
        bec_method: ``"exact"`` or ``"phase"``, see ``les.born_effective_charges``.
        charge_sign: the sign of all charges; that of a model which was trained on dipoles or Born
            effective charges is left as it is.
        long_range_axes: numbers of periodic axes that the model supports if it has LES.
        used_labels: names of labels in ``les.data.atoms.labels_without_effect`` that this model,
            unlike most, can use.
        total_charge_names: entries of ``Atoms.info`` that may hold the total charge.
        spin_names: entries that may hold the spin multiplicity.
        unsigned_labels: labels of which the model predicts the magnitudes only, and whose signs
            are left out where results are compared with them.
        neighbours: the neighbours that are kept from step to step.

    Raises:
        ValueError: for a ``skin`` that is no number in its range.
    """

    bec_method = "exact"
    used_labels: Collection[str] = ()
    unsigned_labels: Collection[str] = ()
    long_range_axes: Collection[int] = LONG_RANGE_AXES

    def __init__(
        self,
        *args: Any,
        bec: bool | str = False,
        sign: int | None = None,
        acoustic_sum: str = "kept",
        eps_inf: float | None = None,
        skin: float = SKIN,
        **kwargs: Any,
    ) -> None:
        self._asked_for = (bec, sign)
        self.acoustic_sum = acoustic_sum
        self.eps_inf = eps_inf
        self.neighbours = VerletList(skin)
        super().__init__(*args, **kwargs)

    def refuse_unknown_keywords(self, given: Mapping[str, Any]) -> None:
        """Raise ``TypeError`` for a keyword that no class of this calculator names."""
        refuse_unknown_keywords(type(self), given)

    def set_up_charges(self, config: LESConfig | None) -> None:
        """Say what the model can do, and name the results that it has.

        Args:
            config: how the model does its long-range part, ``None`` without LES.

        Raises:
            ValueError: for another ``sign``, method or ``acoustic_sum``, and an ``eps_inf`` that is
                not positive; for ``bec`` and ``eps_inf`` with a model that has no charges, or
                several on each atom, whose sign has no meaning; and for an ``acoustic_sum`` to be
                spread without ``bec``.
        """
        bec, sign = self._asked_for
        check_charge_options(config, bec, self.acoustic_sum, self.eps_inf)
        if isinstance(bec, str):
            self.bec_method = bec
        self.les_config = config
        self.bec = bool(bec)
        if sign is None and config is not None and config.sign == "trained":
            sign = 1
        self.charge_sign = ChargeSign(sign)
        self._warned_of: set[str] = set()
        self.used_labels = {*self.used_labels, *self.charge_state_names()}
        # A list of its own: that of the class is shared by all its instances.
        self.implemented_properties: list[str] = list(dict.fromkeys(self.implemented_properties))
        if config is not None:
            names = results_of_charges(config)
            self.implemented_properties += [*names, *[BORN_CHARGES] * self.bec]

    def elements(self) -> Iterable[int]:
        """Atomic numbers that the model knows."""
        raise NotImplementedError

    def short_range_part(self) -> ShortRange:
        """The short-range part of the model, for atoms that are divided among ranks.

        Raises:
            ValueError: for a model that has no such part, and for one without LES.
        """
        raise ValueError(
            f"{type(self).__module__.partition('.')[0]} has no models for atoms that are divided "
            "among ranks"
        )

    def require_charges(self) -> None:
        """Raise ``ValueError`` for a model without LES."""
        if self.les_config is None:
            raise ValueError("a model with LES is needed: this one is without charges")

    def evaluate(self, atoms: Atoms, properties: Any, system_changes: Any) -> None:
        """Fill ``results`` for a structure that has been checked; arguments as for `calculate`."""
        raise NotImplementedError

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Compute all results for ``atoms``.

        Raises:
            ValueError: as :meth:`structure_of`, for what else the model was not made for, and for
                results that are not finite.
        """
        structure = self.structure_of(atoms)
        self.evaluate(structure, properties, system_changes)
        self.finish_results(structure)

    def evaluate_together(self, structures: Sequence[Atoms]) -> Iterator[None]:
        """Fill ``results`` for one checked structure after the other; yields after each.

        Adapters evaluate them as one batch; where that is not possible, they come one by one.
        """
        for atoms in structures:
            self.evaluate(atoms, None, all_changes)
            yield

    def calculate_together(self, structures: Sequence[Atoms]) -> Iterator[dict[str, Any]]:
        """All results of each structure, from one evaluation of the model for all of them.

        They are those of :meth:`calculate`, up to rounding, but for what upstream's calculator
        gives beside what its model and LES have in common. In the end the calculator has the last
        structure and its results.

        Raises:
            ValueError: as :meth:`calculate`, for the first structure that is refused.
        """
        checked = [self.structure_of(atoms) for atoms in structures]
        for atoms, _ in zip(checked, self.evaluate_together(checked), strict=True):
            self.atoms = atoms.copy()
            self.finish_results(atoms)
            yield dict(self.results)

    def structure_of(self, atoms: Atoms | None) -> Atoms:
        """The structure to compute: ``atoms``, or that of the last calculation.

        Warns, once for each, of labels of the structure that have no effect on the results.

        Raises:
            ValueError: for positions that are not finite, atoms on top of each other, a periodic
                structure without a cell, elements that the model does not know, with LES a number
                of periodic axes that it does not take; for a total charge that is not one finite
                number, or one of a model that cannot have it; and for a total charge or a spin that
                the model embeds and the structure does not have.
        """
        atoms = atoms if atoms is not None else self.atoms
        if atoms is None:
            raise ValueError("`atoms` must be a structure, got None")
        check_atoms(atoms, self.long_range_axes if self.long_range else ANY_AXES)
        check_elements(atoms, self.elements())
        self.check_charge_state(atoms)
        for name, value in labels_without_effect(atoms).items():
            if name not in self._warned_of and name not in self.used_labels:
                self._warned_of.add(name)
                warnings.warn(
                    f"the structure has {name} = {value}, which this model cannot use: it has no "
                    "effect on the results",
                    UnusedLabelWarning,
                    stacklevel=4,
                )
        return atoms

    def place(self, atoms: Atoms, dtype: torch.dtype) -> Atoms:
        """``atoms`` where a model that computes in ``dtype`` resolves them best.

        That makes no difference to the results, unless ``remove_mean`` is false, or the structure
        has a total charge: then the dipole depends on the origin, and nothing is moved.

        Raises:
            ValueError: if ``dtype`` does not resolve the positions.
        """
        movable = self.les_config is None or self.les_config.remove_mean
        movable = movable and self.total_charge(atoms) == 0.0
        placed = centred(atoms) if movable and dtype != torch.float64 else atoms
        largest = float(np.abs(placed.positions).max())
        resolved = largest * torch.finfo(dtype).eps
        if resolved > RESOLUTION:
            name = str(dtype).removeprefix("torch.")
            raise ValueError(
                f"positions up to {largest:.2g} A are resolved to {resolved:.1g} A in {name}; "
                "move the structure closer to the origin or, where there is one, use a longer dtype"
            )
        return placed
