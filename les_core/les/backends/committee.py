"""Committees of models: means and spreads of their results, with charges of one sign."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ase.calculators.calculator import Calculator, all_changes
from numpy.typing import NDArray

from les.backends.batches import results_together
from les.backends.calculator import ChargeCalculator
from les.latent_moments import ATOMIC_MOMENTS
from les.response.born import BORN_CHARGES
from les.response.gauge import ChargeSign, charge_sign

if TYPE_CHECKING:
    from ase import Atoms

#: Results that are averaged; the second ones change sign with the charges.
EVEN = (
    "energy",
    "free_energy",
    "forces",
    "stress",
    "energies",
    "magmoms",
    "les_energy",
    "hardness",
    *(name for name, (_, odd) in ATOMIC_MOMENTS.items() if not odd),
)
ODD = (
    "charges",
    "dipole",
    "quadrupole",
    "electronegativity",
    *(name for name, (_, odd) in ATOMIC_MOMENTS.items() if odd),
    BORN_CHARGES,
)
#: Correlation of the charges of two members below which a common sign means little.
WEAK_CORRELATION = 0.1


class Committee(ChargeCalculator):
    """The mean of several calculators, of any backends.

    Results are means over the members, for results that all members have. ``energy_std``,
    ``forces_std`` and so on are standard deviations over the members, componentwise (divided by
    their number ``n``; multiply by ``sqrt(n / (n - 1))`` to estimate the deviation among all models
    of this kind). Charges, dipole, quadrupole and Born effective charges are averaged after the
    signs of all members have been made to agree. ``latent_charges``, several on each atom, have no
    means, because their order and signs differ from model to model.

    Attributes:
        members: the calculators.
        member_results: results of each member for the last structure, with the common sign.
        charge_sign: the signs of the members' charges, kept once they are chosen.

    Args:
        members: at least two ASE calculators. All have LES or none has it.
        names: names of the members in messages, e.g. their files; by default their numbers.
        sign: +1 or -1, by which the first member's own charges are multiplied. By default the
            first structure determines it.

    Raises:
        ValueError: for fewer than two members; for members of which some have LES, or several
            charges on each atom, and others not; and for charges with different dielectric
            constants (``eps_inf``, or else ``epsilon_factor``) or Born effective charges that are
            evaluated in different ways.
        TypeError: for members that are no calculators.
    """

    charge_sign: Any

    def __init__(
        self,
        members: Sequence[Any],
        *,
        names: Sequence[str] | None = None,
        sign: int | None = None,
    ) -> None:
        super().__init__()
        self.members = list(members)
        if len(self.members) < 2:
            raise ValueError(f"a committee needs at least two members, got {len(self.members)}")
        for number, member in enumerate(self.members):
            if not callable(getattr(member, "calculate", None)):
                raise TypeError(
                    "`members` must be ASE calculators, got a "
                    f"{type(member).__name__} as number {number}"
                )
        self.names = [f"member {number}" for number in range(len(self.members))]
        if names is not None:
            if len(names) != len(self.members):
                raise ValueError(f"{len(self.members)} members need as many `names`, got {names!r}")
            self.names = list(names)
        self.bec = all(getattr(member, "bec", False) for member in self.members)
        self.bec_method = getattr(self.members[0], "bec_method", "exact")
        self._require_one_kind()
        if sign is None and all(_has_trained_sign(member) for member in self.members):
            sign = 1
        self.charge_sign = CommitteeSign(sign)
        self.les_config = getattr(self.members[0], "les_config", None)
        used = [set(getattr(member, "used_labels", ())) for member in self.members]
        self.used_labels = set.intersection(*used)
        unsigned = [set(getattr(member, "unsigned_labels", ())) for member in self.members]
        self.unsigned_labels = set.intersection(*unsigned)
        for names_of_state in ("total_charge_names", "spin_names", "field_names"):
            found = [getattr(member, names_of_state, ()) for member in self.members]
            known = dict.fromkeys((*getattr(self, names_of_state), *itertools.chain(*found)))
            setattr(self, names_of_state, tuple(known))
        self.member_results: list[dict[str, Any]] = []
        common = set.intersection(*(set(each.implemented_properties) for each in self.members))
        means = [name for name in (*EVEN, *ODD) if name in common]
        self.implemented_properties = [*means, *(f"{name}_std" for name in means)]

    @property
    def uses_total_charge(self) -> bool:
        """Whether the charges of some member sum to the total charge of a structure."""
        return any(getattr(member, "uses_total_charge", False) for member in self.members)

    @property
    def embedded(self) -> tuple[str, ...]:
        """The states that some member embeds in its features."""
        found = (getattr(member, "embedded", ()) for member in self.members)
        return tuple(dict.fromkeys(name for names in found for name in names))

    @property
    def uses_external_field(self) -> bool:
        """Whether some member is given the external field of a structure."""
        return any(getattr(member, "uses_external_field", False) for member in self.members)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Compute all results for ``atoms``.

        Raises:
            ValueError: if a member refuses the structure; the message names the member.
        """
        Calculator.calculate(self, atoms, properties, system_changes)
        for _ in self.calculate_together([self.atoms]):
            pass

    def calculate_together(self, structures: Sequence[Atoms]) -> Iterator[dict[str, Any]]:
        """All results of each structure; each member evaluates all structures at once.

        Raises:
            ValueError: if a member refuses a structure; the message names the member.
        """
        self.results, self.member_results = {}, []
        found = []
        for name, member in zip(self.names, self.members, strict=True):
            try:
                # The sign that a member gives may be decided by one of the structures.
                each = results_together(member, structures)
                found.append([(results, _own_sign(member)) for results in each])
            except (ValueError, RuntimeError) as error:
                raise ValueError(f"{name}: {error}") from error
        for atoms, of_members in zip(structures, zip(*found, strict=True), strict=True):
            self.atoms = atoms.copy()
            self.member_results = [results for results, _ in of_members]
            self._align([sign for _, sign in of_members])
            self._average()
            yield dict(self.results)

    def _average(self) -> None:
        """Fill ``results`` with the means and deviations of those that all members have."""
        self.results = {}
        common = set.intersection(*map(set, self.member_results))
        for key in (*EVEN, *ODD):
            if key in common:
                values = np.array([results[key] for results in self.member_results], np.float64)
                self.results[key] = values.mean(axis=0)
                self.results[f"{key}_std"] = values.std(axis=0)
        self.check_results()

    def _align(self, own: Sequence[int]) -> None:
        """Give the charges of all members, and what follows from them, the common signs.

        Args:
            own: signs that the members gave their charges by themselves, which are undone first.
        """
        if any("charges" not in results for results in self.member_results):
            return
        if self.charge_of_a_part(self.atoms) != 0.0:
            return  # the signs of all charges follow from it
        raw = [sign * results["charges"] for sign, results in zip(own, self.member_results)]
        signs = self.charge_sign(np.array(raw), self.atoms.numbers)
        for results, before, after in zip(self.member_results, own, signs):
            for key in ODD:
                if key in results:
                    results[key] = before * after * results[key]

    def _require_one_kind(self) -> None:
        for describe in (_kind, _dielectric_constant, *[_bec] * self.bec):
            kinds = [describe(member) for member in self.members]
            for name, kind in zip(self.names, kinds, strict=True):
                if kind != kinds[0]:
                    raise ValueError(
                        f"members of a committee must be of one kind: {self.names[0]} has "
                        f"{kinds[0]}, {name} has {kind}"
                    )


class CommitteeSign:
    """The signs of the charges of several models.

    The first structure with several elements determines them, and they are then kept. The sign of
    each model relative to the first one is chosen such that their charges correlate. The common
    sign makes the most electronegative element negative in the mean. A structure of a single
    element determines only preliminary relative signs, as with ``les.ChargeSign``.

    Args:
        sign: +1 or -1 sets the sign of the first model's charges by hand.

    Attributes:
        common: the sign of the first model, ``None`` as long as it is open.
        relative: the signs of all models relative to it, ``None`` as long as they are open.
        decided: whether the signs are kept.
    """

    def __init__(self, sign: int | None = None) -> None:
        self.common = ChargeSign(sign).sign
        self.relative: list[int] | None = None
        self.decided = False

    @property
    def sign(self) -> int | None:
        """The common sign, like that of a single model."""
        return self.common

    def __call__(self, charges: NDArray[Any], atomic_numbers: NDArray[Any]) -> list[int]:
        """The sign of each model.

        Args:
            charges: as the models give them ``[n_models, n_atoms]`` [e].
            atomic_numbers: ``[n_atoms]``.
        """
        several = bool((atomic_numbers != atomic_numbers[0]).any())
        if not self.decided and (several or self.relative is None):
            self._decide(charges, atomic_numbers, several)
        relative = self.relative or [1] * len(charges)
        return [(self.common or 1) * sign for sign in relative]

    def state(self) -> dict[str, Any]:
        """The signs that were chosen, as plain values for :meth:`restore`."""
        return {"common": self.common, "relative": self.relative, "decided": self.decided}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue with the signs that another instance has chosen."""
        self.common, self.relative = state["common"], state["relative"]
        self.decided = state["decided"]

    def _decide(self, charges: NDArray[Any], atomic_numbers: NDArray[Any], several: bool) -> None:
        shifted = charges - charges.mean(axis=1, keepdims=True)
        sizes = np.linalg.norm(shifted, axis=1)
        charged = np.flatnonzero(sizes)
        if charged.size == 0:  # e.g. a single atom
            return
        # Models without charges have no say.
        products = shifted @ shifted[charged[0]]
        self.relative = np.where(products < 0.0, -1, 1).tolist()
        if not several:
            return
        self.decided = True
        correlations = np.abs(products[charged]) / (sizes[charged] * sizes[charged[0]])
        weakest = int(correlations.argmin())
        if correlations[weakest] < WEAK_CORRELATION:
            warnings.warn(
                f"the charges of members {charged[0]} and {charged[weakest]} of this committee "
                f"hardly agree (correlation {correlations[weakest]:.2g}): their mean says little",
                stacklevel=4,
            )
        if self.common is None:
            mean = np.mean(np.array(self.relative)[:, None] * charges, axis=0)
            self.common = int(charge_sign(torch.tensor(mean), torch.tensor(atomic_numbers)))


def _own_sign(member: Any) -> int:
    """The sign that a member has given to its charges."""
    sign = getattr(member, "charge_sign", None)
    return (sign.sign or 1) if sign is not None else 1


def _has_trained_sign(member: Any) -> bool:
    return getattr(getattr(member, "les_config", None), "sign", None) == "trained"


def _kind(member: Any) -> str:
    config = getattr(member, "les_config", None)
    if config is None:
        return "no LES"
    return "LES" if config.n_channels == 1 else "LES with several charges on each atom"


def _dielectric_constant(member: Any) -> str:
    """That of the member's charges, which are of one scale only where it is the same."""
    config = getattr(member, "les_config", None)
    if config is None:
        return "no charges"
    eps_inf = getattr(member, "eps_inf", None)
    return f"the dielectric constant {config.epsilon_factor if eps_inf is None else eps_inf:g}"


def _bec(member: Any) -> str:
    method = getattr(member, "bec_method", "exact")
    acoustic_sum = getattr(member, "acoustic_sum", "kept")
    return f"Born effective charges by bec={method!r} and acoustic_sum={acoustic_sum!r}"
