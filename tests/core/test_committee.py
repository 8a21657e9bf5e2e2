"""Committees: means, spreads, and the signs of charges, with members whose results are known."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes

from les import LESConfig
from les.backends.calculator import ChargeCalculator
from les.backends.committee import Committee, CommitteeSign

BEC = "born_effective_charges"


class Member(ChargeCalculator):
    """Charges that grow with the place of an atom in the structure, and what follows from them.

    Args:
        seed: of what differs from member to member.
        factor: of the charges, as training leaves it, with any sign.
    """

    implemented_properties = ("energy", "forces", "energies", "stress")

    def __init__(self, seed=0, factor=1.0, sign=None, config=None, bec=True):
        super().__init__(bec=bec, sign=sign)
        self.rng, self.factor = np.random.default_rng(seed), factor
        self.set_up_charges(config or LESConfig())
        self.noise = self.rng.normal(size=(20, 3))

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        Calculator.calculate(self, atoms, properties, system_changes)
        if "Xe" in atoms.get_chemical_symbols():
            raise ValueError("the model knows the elements H, O, got Xe")
        n = len(atoms)
        forces = np.outer(np.arange(n), [1.0, 2.0, 3.0]) + self.noise[:n]
        self.results = {"energy": forces.sum(), "forces": forces, "energies": forces.sum(axis=1)}
        if atoms.pbc.any():
            self.results["stress"] = self.noise.ravel()[:6]
        charges = self.factor * (np.where(atoms.numbers == 8, -0.8, 0.4) + 0.02 * self.noise[:n, 0])
        with torch.device("cpu"):
            tensor = torch.tensor(charges)
            self.add_charge_results(
                atoms,
                self.noise[0, 1],
                tensor,
                torch.tensor(charges @ atoms.positions),
                tensor[:, None, None] * torch.eye(3),
            )


@pytest.fixture
def water():
    return Atoms("OHH", [[0, 0, 0], [0, 0, 1.0], [0, 0.9, 0]], cell=[5, 5, 5], pbc=True)


def results_of(calculator, atoms):
    calculator.calculate(atoms)
    return dict(calculator.results)


class SummingMember(Member):
    """Charges that sum to the total charge of the structure."""

    def add_charge_results(self, atoms, les_energy, charges, dipole, bec=None):
        charges = charges - charges.mean() + self.total_charge(atoms) / len(atoms)
        super().add_charge_results(atoms, les_energy, charges, dipole, bec)


def test_a_total_charge_settles_the_signs(water):
    config = LESConfig(neutrality="shift", sign="trained")
    committee = Committee([SummingMember(seed, config=config) for seed in range(2)])
    assert committee.used_labels == {"charge", "total_charge", "fragment", "fragment_charge"}
    for charge in (0, -1, 2):
        water.info["charge"] = charge
        water.calc = committee
        assert water.get_charges().sum() == pytest.approx(charge, abs=1e-12)
    open_sign = LESConfig(neutrality="shift")
    members = [SummingMember(seed, factor=-1.0, config=open_sign) for seed in range(2)]
    with pytest.raises(ValueError, match=r"member 0: .* would sum to -2 instead of .* 2"):
        Committee(members).calculate(water)


def test_means_and_standard_deviations(water):
    members = [Member(seed) for seed in range(3)]
    results = results_of(Committee(members), water)
    each = [results_of(Member(seed), water) for seed in range(3)]
    for key in ("energy", "forces", "energies", "stress", "les_energy", "charges", "dipole", BEC):
        values = np.array([one[key] for one in each])
        assert values.std(axis=0).max() > 0.0
        np.testing.assert_allclose(results[key], sum(values) / 3, atol=1e-14)
        spread = np.sqrt(sum((value - sum(values) / 3) ** 2 for value in values) / 3)
        np.testing.assert_allclose(results[f"{key}_std"], spread, atol=1e-14)
    assert isinstance(results["energy"], float)
    assert results["forces_std"].shape == (3, 3)
    assert results["energies"].sum() == pytest.approx(results["energy"])


def test_means_of_single_precision_are_double(water):
    class Single(Member):
        def calculate(self, *arguments):
            super().calculate(*arguments)
            self.results = {key: np.float32(value) for key, value in self.results.items()}

    results = results_of(Committee([Single(0), Single(1)]), water)
    assert isinstance(results["energy"], float)
    assert isinstance(results["energy_std"], float)
    assert results["forces"].dtype == np.float64


@pytest.mark.parametrize("signs", list(itertools.product([1, -1], repeat=3)))
def test_signs_that_training_left_open(signs, water):
    """The same models, however their charges came out."""
    expected = results_of(Committee([Member(seed) for seed in range(3)]), water)
    committee = Committee([Member(seed, factor) for seed, factor in enumerate(signs)])
    actual = results_of(committee, water)
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(actual[key], value, atol=1e-14, err_msg=key)
    assert actual["charges"][0] < 0.0 < actual["charges"][1:].min()
    for seed, results in enumerate(committee.member_results):
        for key in ("charges", "dipole", BEC):
            np.testing.assert_allclose(results[key], results_of(Member(seed), water)[key])


def test_opposite_charges_do_not_cancel(water):
    """Two models of the same energy, whose charges have opposite signs."""
    results = results_of(Committee([Member(1, 1.0), Member(1, -1.0)]), water)
    expected = results_of(Member(1), water)
    for key, value in expected.items():
        np.testing.assert_allclose(results[key], value, atol=1e-14, err_msg=key)
        np.testing.assert_allclose(results[f"{key}_std"], 0.0, atol=1e-14, err_msg=key)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_order_of_members(order, water):
    factors = (1.0, -0.9, -1.1)
    expected = results_of(Committee([Member(n, factors[n]) for n in range(3)]), water)
    actual = results_of(Committee([Member(n, factors[n]) for n in order]), water)
    for key, value in expected.items():
        np.testing.assert_allclose(actual[key], value, atol=1e-13, err_msg=key)


def test_signs_are_kept(water):
    """A structure whose charges are the other way round does not change them."""
    committee = Committee([Member(0, 1.0), Member(1, -1.0)])
    results_of(committee, water)
    assert (committee.charge_sign.common, committee.charge_sign.relative) == (1, [1, -1])
    swapped = water.copy()
    swapped.symbols = "FOO"  # the most electronegative is positive now
    charges = results_of(committee, swapped)["charges"]
    assert charges[0] > 0.0
    # A run that goes on takes them over from a file.
    again = Committee([Member(0, 1.0), Member(1, -1.0)])
    again.charge_sign.restore(json.loads(json.dumps(committee.charge_sign.state())))
    np.testing.assert_array_equal(results_of(again, swapped)["charges"], charges)
    fresh = Committee([Member(0, 1.0), Member(1, -1.0)])
    assert results_of(fresh, swapped)["charges"][0] < 0.0


def test_a_structure_of_one_element_decides_nothing_for_good():
    sign = CommitteeSign()
    hydrogen, water = np.array([1, 1, 1]), np.array([8, 1, 1])
    charges = np.array([[0.1, 0.2, 0.3], [0.1, 0.2, 0.4]])
    assert sign(charges, hydrogen) == [1, 1]
    assert sign(charges * [[1], [-1]], hydrogen) == [1, 1]  # as along a trajectory
    assert sign.common is None
    assert sign(charges * [[-1], [1]], water) == [-1, 1]
    assert sign(charges, water) == [-1, 1]
    assert sign(charges, hydrogen) == [-1, 1]


def test_given_sign(water):
    """It is that of the first member's own charges."""
    for factor, sign in itertools.product((1.0, -1.0), (1, -1)):
        committee = Committee([Member(0, factor), Member(1, 1.0)], sign=sign)
        charges = results_of(committee, water)["charges"]
        assert charges[0] * factor * sign < 0.0
    with pytest.raises(ValueError, match="`sign` must be 1, -1 or None, got 2"):
        Committee([Member(0), Member(1)], sign=2)


def test_charges_that_do_not_agree():
    sign = CommitteeSign()
    charges = np.array([[1.0, -1.0, 0.0, 0.0], [0.02, 0.0, 1.0, -1.0]])
    with pytest.warns(UserWarning, match=r"members 0 and 1 .* hardly agree \(correlation 0.01\)"):
        assert sign(charges, np.array([1, 8, 1, 1])) == [1, 1]


def test_charges_of_zero_decide_nothing():
    sign = CommitteeSign()
    assert sign(np.zeros((2, 3)), np.array([8, 1, 1])) == [1, 1]
    assert (sign.common, sign.relative) == (None, None)
    assert sign(np.array([[0.1], [-0.2]]), np.array([8])) == [1, 1]
    assert sign(np.array([[0.8, -0.4, -0.4], [-0.8, 0.4, 0.4]]), np.array([8, 1, 1])) == [-1, 1]


def test_a_member_without_charges_has_no_say():
    sign = CommitteeSign()
    charges = np.array([[0.0, 0.0, 0.0], [0.8, -0.4, -0.4], [-0.8, 0.4, 0.4]])
    assert sign(charges, np.array([8, 1, 1]))[1:] == [-1, 1]
    assert sign.decided


def test_ase_knows_the_results(water):
    water.calc = Committee([Member(0), Member(1)])
    assert water.get_potential_energy() == water.calc.results["energy"]
    assert water.get_charges().shape == (3,)
    assert water.calc.get_property("forces_std", water).shape == (3, 3)
    quadrupole = {"quadrupole", "quadrupole_std"}
    assert set(water.calc.implemented_properties) == set(water.calc.results) | quadrupole
    assert quadrupole.isdisjoint(water.calc.results)
    water.pbc = False
    water.get_potential_energy()
    expected = np.mean([one["quadrupole"] for one in water.calc.member_results], axis=0)
    np.testing.assert_array_equal(water.calc.get_property("quadrupole", water), expected)
    with pytest.raises(PropertyNotImplementedError, match="bec=True"):
        Committee([Member(0, bec=False), Member(1)]).get_property(BEC, water)


class ShortRange(Calculator):
    implemented_properties = ("energy",)

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        self.results = {"energy": 1.0}


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([], "at least two members, got 0"),
        ([Member()], "at least two members, got 1"),
        (
            [Member(), ShortRange()],
            "of one kind: member 0 has LES, member 1 has no LES",
        ),
        (
            [
                Member(),
                Member(config=LESConfig(n_channels=2, use_atomwise=True, n_features=4), bec=False),
            ],
            "member 0 has LES, member 1 has LES with several charges",
        ),
        (
            [Member(), Member(config=LESConfig(epsilon_factor=1.78))],
            "member 0 has the dielectric constant 1, member 1 has the dielectric constant 1.78",
        ),
        (
            [Member(), Member(bec="phase")],
            "member 0 has Born effective charges by bec='exact' .*, member 1 has .* bec='phase'",
        ),
    ],
)
def test_members_that_do_not_fit(members, message):
    with pytest.raises(ValueError, match=message):
        Committee(members)


def test_a_committee_says_how_its_born_effective_charges_are_evaluated():
    members = [Member(0, bec="phase"), Member(1, bec="phase")]
    assert Committee(members).bec_method == "phase"
    assert Committee([Member(0, bec="phase"), Member(1, bec=False)]).bec is False


def test_what_is_no_member():
    with pytest.raises(TypeError, match="must be ASE calculators, got a str as number 1"):
        Committee([Member(), "a.pt"])
    with pytest.raises(TypeError, match="device"):
        Committee([Member(), Member()], device="cpu")
    with pytest.raises(ValueError, match="2 members need as many `names`"):
        Committee([Member(), Member()], names=["a.pt"])


def test_a_refusing_member_is_named(water):
    water.symbols[1] = "Xe"
    committee = Committee([Member(0), Member(1)], names=["a.pt", "b.pt"])
    with pytest.raises(ValueError, match=r"^a.pt: the model knows the elements H, O, got Xe"):
        committee.calculate(water)
    assert committee.results == {}


def test_without_les(water):
    committee = Committee([ShortRange(), ShortRange()])
    assert results_of(committee, water) == {"energy": 1.0, "energy_std": 0.0}
    with pytest.raises(PropertyNotImplementedError, match="no LES, and so no charges"):
        committee.get_property("charges", water)


def test_several_channels(water):
    """Their order and signs differ from model to model, so there is no mean of them."""

    class Channels(Member):
        def calculate(self, atoms=None, properties=None, system_changes=all_changes):
            self.results = {"energy": 1.0}
            self.add_charge_results(atoms, 0.5, torch.ones(3, 2), torch.zeros(3))

    config = LESConfig(n_channels=2, use_atomwise=True, n_features=4)
    committee = Committee([Channels(config=config, bec=False) for _ in range(2)])
    assert set(results_of(committee, water)) == {
        f"{name}{end}" for name in ("energy", "les_energy") for end in ("", "_std")
    }
    assert committee.member_results[0]["latent_charges"].shape == (3, 2)


@pytest.mark.parametrize(("signs", "factor"), [(["trained"] * 2, 1), (["trained", "open"], -1)])
def test_members_with_a_trained_sign(water, signs, factor):
    """If that is what all have, it is the committee's, also where it contradicts chemistry."""
    members = [Member(n, -1.0, config=LESConfig(sign=sign)) for n, sign in enumerate(signs)]
    committee = Committee(members)
    committee.calculate(water)
    assert factor * committee.results["charges"][0] > 0.0


class TogetherMember(Member):
    """Can evaluate several structures, one after the other."""

    evaluate = Member.calculate

    def structure_of(self, atoms):
        return atoms


@pytest.mark.parametrize("factors", [(1.0, -1.0), (-1.0, 1.0), (-1.0, -1.2)])
def test_structures_together(water, factors):
    """The signs of charges are decided by the same structure as one by one."""
    oxygen = Atoms("O3", [[0, 0, 0], [0, 0, 1.2], [0, 1.4, 0]])
    structures = [oxygen, water, oxygen, water[[1, 0, 2]]]

    def committee():
        return Committee([TogetherMember(seed, factor) for seed, factor in enumerate(factors)])

    single = committee()
    expected = [results_of(single, atoms) for atoms in structures]
    together = committee()
    found = list(together.calculate_together(structures))
    assert [results.keys() for results in found] == [results.keys() for results in expected]
    for actual, wanted in zip(found, expected, strict=True):
        for key, value in wanted.items():
            np.testing.assert_allclose(actual[key], value, atol=1e-14, err_msg=key)
    assert together.charge_sign.state() == single.charge_sign.state()
    assert found[1]["charges"][0] < 0.0


class PulledMember(Member):
    """Its energy depends on the field of the structure, as far as the model takes one."""

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results["energy"] += self.external_field(atoms).sum()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_field_that_some_member_takes(water, order):
    """A changed field is seen, whichever member takes it."""
    water.pbc = False
    configs = [LESConfig(), LESConfig(external_field=True, sign="trained")]
    committee = Committee([PulledMember(config=configs[number], sign=1) for number in order])
    assert committee.uses_external_field
    water.calc = committee
    water.info["external_field"] = np.array([0.0, 0.0, 0.1])
    before = water.get_potential_energy()
    water.info["external_field"] = np.array([0.0, 0.0, 0.3])
    assert water.get_potential_energy() - before == pytest.approx(0.1)
    without = Committee([Member(seed, sign=1) for seed in range(2)])
    assert not without.uses_external_field
