"""What the ASE calculators of all adapters share: charges and what follows from them."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes

from les.backends.charge_results import (
    array_of,
    charge_results,
    check_charge_options,
    scale_of_charges,
)
from les.backends.keywords import refuse_unknown_keywords
from les.data.atoms import (
    ANY_AXES,
    LONG_RANGE_AXES,
    UnusedLabelWarning,
    centred,
    check_atoms,
    check_elements,
    labels_without_effect,
)
from les.data.spin import SPIN_NAMES, spin_multiplicity
from les.data.total_charge import TOTAL_CHARGE_NAMES, is_fractional, total_charge
from les.response.born import BORN_CHARGES
from les.response.gauge import ChargeSign

if TYPE_CHECKING:
    from ase import Atoms

    from les.config import LESConfig
    from les.engines.cluster import ShortRange

logger = logging.getLogger("les")

#: Results that there are besides the energy and its derivatives, of a model with LES.
LONG_RANGE_RESULTS = ("charges", "dipole", "quadrupole", "les_energy")

#: Rounding of positions that still leaves meaningful results [A].
RESOLUTION = 1e-3


class ChargeCalculator(Calculator):
    """The part of a calculator that has to do with charges, to be mixed into upstream's.

    An adapter calls, in this order, :meth:`refuse_unknown_keywords`,
    :func:`les.backends.keywords.refuse_several_models`, upstream and :meth:`set_up_charges` in its
    ``__init__``. It says which elements the model knows in :meth:`elements`, and computes with
    upstream and :meth:`add_charge_results` in :meth:`evaluate`.

    With LES there are, beside upstream's results, ``charges`` [e], ``dipole`` [e A], ``les_energy``
    [eV] and, if asked for, ``born_effective_charges`` ``[n_atoms, 9]`` [e], row by row with the
    component of the polarisation first. In periodic cells ``dipole`` is one branch of a
    multivalued quantity.
    Of a model with ``neutrality`` ``"shift"`` the ``charges`` sum to the total charge of the
    structure, ``charge`` or ``total_charge`` in ``Atoms.info``, 0 where there is none; ``dipole``
    is theirs, and of an ion depends on the origin. Of another model they need not sum to it, which
    the model does not know; ``dipole`` and Born effective charges are those of the charges less
    their mean (unless the model's ``remove_mean`` is false), so they do not change when the
    structure is moved. Open structures also have a ``quadrupole`` ``[3, 3]`` [e A^2], see
    ``les.quadrupole_moments``. Of a model with several charges on each atom there are
    ``latent_charges`` ``[n_atoms, n_channels]`` [e] in the place of ``charges`` and what follows
    from them.

    Training leaves the common sign of all charges open. It is fixed by the first structure
    with more than one element, so that its most electronegative element is negative
    (``les.ChargeSign``), and kept from then on: it must not change along a trajectory.

    Short-range models work as well, and give upstream's results.

    Args:
        args: arguments of upstream's calculator.
        bec: compute Born effective charges with every calculation: true for exact ones,
            ``"phase"`` for the published approximation, see ``les.born_effective_charges``.
        sign: sign of the charges, +1 or -1, in the place of the model's own sign, or of the one
            that the first structure decides.
        acoustic_sum: ``"kept"``, or ``"spread"`` for Born effective charges that sum to zero, see
            ``les.spread_acoustic_sum``.
        eps_inf: high-frequency dielectric constant, in the place of the ``epsilon_factor`` of the
            model: charges, and all that follows from them but energies, are multiplied by the
            square root of the ratio of the two.
        kwargs: further arguments of upstream's calculator.

    Attributes:
        les_config: how the model does its long-range part, ``None`` without LES.
        bec: whether Born effective charges are computed.
        bec_method: how, ``"exact"`` or ``"phase"``, see ``les.born_effective_charges``.
        charge_sign: the sign of all charges; that of a model which was trained on dipoles or Born
            effective charges is left as it is.
        long_range_axes: numbers of periodic axes that the model takes if it has LES.
        used_labels: names of labels in ``les.data.atoms.labels_without_effect`` that, other than
            usual, this model can use.
        total_charge_names: entries of ``Atoms.info`` that may hold the total charge.
        spin_names: entries that may hold the spin multiplicity.
        unsigned_labels: labels of which the model predicts the magnitudes only, and whose signs
            are left out where results are compared with them.
    """

    les_config: LESConfig | None = None
    bec = False
    bec_method = "exact"
    used_labels: Collection[str] = ()
    total_charge_names: tuple[str, ...] = TOTAL_CHARGE_NAMES
    spin_names: tuple[str, ...] = SPIN_NAMES
    unsigned_labels: Collection[str] = ()
    long_range_axes: Collection[int] = LONG_RANGE_AXES
    results: dict[str, Any]

    def __init__(
        self,
        *args: Any,
        bec: bool | str = False,
        sign: int | None = None,
        acoustic_sum: str = "kept",
        eps_inf: float | None = None,
        **kwargs: Any,
    ) -> None:
        self._asked_for = (bec, sign)
        self.acoustic_sum = acoustic_sum
        self.eps_inf = eps_inf
        super().__init__(*args, **kwargs)

    @property
    def long_range(self) -> bool:
        """Whether the model has LES."""
        return self.les_config is not None

    @property
    def uses_total_charge(self) -> bool:
        """Whether the charges of the model sum to the total charge of a structure."""
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

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """As ASE's: what has changed since the last calculation, with total charge and spin."""
        changes: list[str] = super().check_state(atoms, tol)
        for change, uses, names in (
            ("total_charge", self.uses_total_charge, self.total_charge_names),
            ("spin", "spin" in self.embedded, self.spin_names),
        ):
            if uses and self.atoms is not None:
                last = {name: self.atoms.info.get(name) for name in names}
                if any(not _same(atoms.info.get(name), value) for name, value in last.items()):
                    changes.append(change)
        return changes

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
        of_charge = self.total_charge_names if self.uses_total_charge else ()
        of_spin = self.spin_names if "spin" in self.embedded else ()
        self.used_labels = {*self.used_labels, *of_charge, *of_spin}
        # A list of its own: that of the class is shared by all its instances.
        self.implemented_properties: list[str] = list(dict.fromkeys(self.implemented_properties))
        if config is not None:
            several = config.n_channels > 1
            names = ("latent_charges", "les_energy") if several else LONG_RANGE_RESULTS
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
        self.evaluate(self.structure_of(atoms), properties, system_changes)
        self.check_results()

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
        self._check_total_charge(atoms)
        self.spin(atoms)
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

    def _check_total_charge(self, atoms: Atoms) -> None:
        """Refuse a total charge that the model cannot have; say so once if it is fractional."""
        charge = self.total_charge(atoms)
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
        if is_fractional(charge) and "fractional" not in self._warned_of:
            self._warned_of.add("fractional")
            logger.warning("a fractional total charge, %g e, is taken as it is", charge)

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

    def add_charge_results(
        self,
        atoms: Atoms,
        les_energy: float,
        charges: torch.Tensor,
        dipole: torch.Tensor | None,
        bec: torch.Tensor | None = None,
    ) -> None:
        """Put charges and what follows from them into ``results``, with their sign fixed.

        Args:
            atoms: the structure.
            les_energy: the long-range part of the energy [eV].
            charges: ``[n_atoms]`` [e], or ``[n_atoms, n_channels]`` of a model with several; their
                sign has no meaning, and there is neither a dipole nor ``bec`` then.
            dipole: ``[3]`` [e A]; ``None`` for a model with several charges on each atom.
            bec: Born effective charges ``[n_atoms, 3, 3]`` [e].
        """
        self.results["les_energy"] = les_energy
        if "latent_charges" in self.implemented_properties:
            self.results["latent_charges"] = array_of(charges)
            return
        assert dipole is not None
        assert self.les_config is not None
        numbers = torch.as_tensor(atoms.numbers, device=charges.device)
        self.results |= charge_results(
            atoms,
            charges,
            dipole,
            bec,
            self.les_config.moments_without_mean,
            self._sign(atoms, charges, numbers) * scale_of_charges(self.les_config, self.eps_inf),
            self.acoustic_sum,
        )

    def _sign(self, atoms: Atoms, charges: torch.Tensor, numbers: torch.Tensor) -> int:
        """The sign of the charges, which a total charge leaves no choice of.

        Raises:
            ValueError: for a structure with a total charge, and a model whose charges have the
                opposite sign.
        """
        sign: int = self.charge_sign(charges, numbers)
        charge = self.total_charge(atoms)
        if sign < 0 and charge != 0.0:
            raise ValueError(
                f"the charges of this model are reported with the opposite sign, and would sum to "
                f"{-charge:g} instead of the total charge {charge:g}: training on neutral "
                "structures alone leaves their sign open. Train on charged ones, too, or on "
                "dipoles; sign=1 takes the charges as they are"
            )
        return sign

    def check_results(self) -> None:
        """Raise ``ValueError`` if a result is not finite; there are no results then."""
        for name, value in self.results.items():
            if not np.isfinite(value).all():
                self.results = {}
                raise ValueError(
                    f"the model gives NaN or infinite values for the {name} of this structure; it "
                    "may be far from what the model was trained on, or the model is broken"
                )

    def get_property(
        self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True
    ) -> Any:
        """As ASE's; says why there is no ``name`` if it is a result of LES.

        Raises:
            PropertyNotImplementedError: where the model has none, or was not asked for it.
        """
        ours = name in (*LONG_RANGE_RESULTS, "latent_charges", BORN_CHARGES)
        structure = atoms if atoms is not None else self.atoms
        in_a_cell = name == "quadrupole" and structure is not None and structure.pbc.any()
        if ours and (in_a_cell or name not in self.implemented_properties):
            raise PropertyNotImplementedError(self._why_not(name))
        return super().get_property(name, atoms, allow_calculation)

    def _why_not(self, name: str) -> str:
        if not self.long_range:
            return f"the model has no LES, and so no {name}"
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


def _same(first: Any, second: Any) -> bool:
    """Whether two entries of ``Atoms.info`` are one, whatever they are."""
    return first is second or bool(np.array_equal(first, second))
