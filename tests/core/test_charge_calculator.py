"""What the calculators of all adapters share, on one that needs no upstream."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError

from les import LESConfig
from les.backends.calculator import ChargeCalculator
from les.backends.committee import Committee
from les.backends.several import OneOrSeveral
from les.data.atoms import unused_labels_told
from les.testing.adapter import results_of

SEVERAL = LESConfig(use_atomwise=True, n_features=4, n_channels=2)


class Upstream(Calculator):
    """Energy = number of atoms; takes any keyword."""

    implemented_properties = ("energy", "forces")

    def __init__(self, use_device="", **kwargs):
        super().__init__(**kwargs)


class SomeCalculator(ChargeCalculator, Upstream):
    def __init__(self, model=None, *, config=None, **kwargs):
        self.refuse_unknown_keywords(kwargs)
        super().__init__(**kwargs)
        self.set_up_charges(config)
        self.scale = 1.0
        self.charges_less = 0.0

    def elements(self):
        return [1, 8]

    def evaluate(self, structure, properties, system_changes):
        Upstream.calculate(self, structure, properties, system_changes)
        n = len(structure)
        self.results = {"energy": float(n) * self.scale, "forces": np.zeros((n, 3))}
        if self.long_range:
            charges = torch.arange(n) - 1.0 - self.charges_less  # oxygen, the first, is negative
            columns = self.les_config.n_channels
            if columns > 1:
                charges = charges[:, None].expand(-1, columns)
            bec = torch.full((n, 3, 3), 0.5) if self.bec else None
            self.add_charge_results(structure, -0.5, -charges, torch.ones(3), bec)


@pytest.fixture
def water():
    return Atoms("OHH", [[0, 0, 0], [0.9, 0.4, 0], [-0.9, 0.4, 0]])


def test_results_with_their_sign(water):
    calculator = SomeCalculator(config=LESConfig(), bec=True)
    calculator.calculate(water)
    results = calculator.results
    np.testing.assert_array_equal(results["charges"], [-1.0, 0.0, 1.0])
    np.testing.assert_array_equal(results["dipole"], -np.ones(3))
    np.testing.assert_array_equal(results["born_effective_charges"], np.full((3, 9), -0.5))
    assert results["les_energy"] == -0.5
    np.testing.assert_array_equal(calculator.get_property("charges", water), results["charges"])


@pytest.mark.parametrize("charge", [0, 1])
def test_oxidation_states_have_a_sign(charge):
    """Carbon of methane is positive there, though it is the more electronegative element."""
    methane = Atoms("CH4", np.arange(15.0).reshape(5, 3), info={"charge": charge})
    calculator = SomeCalculator(config=LESConfig(use_fixed_atomic_charges=True))
    calculator.elements = lambda: [1, 6]
    calculator.calculate(methane)
    np.testing.assert_array_equal(calculator.results["charges"], [1.0, 0.0, -1.0, -2.0, -3.0])
    stored = LESConfig.from_stored({"use_fixed_atomic_charges": True, "sign": "open"})
    assert stored.sign == "trained"


@pytest.mark.parametrize("sign", [1, -1])
def test_a_sign_that_is_given(water, sign):
    calculator = SomeCalculator(config=LESConfig(), sign=sign)
    calculator.calculate(water)
    np.testing.assert_array_equal(calculator.results["charges"], sign * np.array([1.0, 0.0, -1.0]))
    with pytest.raises(ValueError, match=r"`sign` must be 1, -1 or None, got 2"):
        SomeCalculator(config=LESConfig(), sign=2)


def test_the_sign_stays(water):
    calculator = SomeCalculator(config=LESConfig())
    calculator.calculate(water)
    calculator.calculate(water[[1, 0, 2]])  # a structure of its own would be the other way round
    np.testing.assert_array_equal(calculator.results["charges"], [-1.0, 0.0, 1.0])


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"alow_pickle": True}, "unknown keyword `alow_pickle`$"),
        ({"becs": True}, "unknown keyword `becs`; did you mean `bec`?"),
        ({"use_devise": "cpu"}, "unknown keyword `use_devise`; did you mean `use_device`?"),
        ({"external_field": [0, 0, 1]}, "SomeCalculator got an unknown keyword `external_field`"),
    ],
)
def test_unknown_keywords(keywords, message):
    with pytest.raises(TypeError, match=message.replace("?", r"\?")):
        SomeCalculator(**keywords)


def test_keywords_of_upstream_and_of_ase():
    calculator = SomeCalculator(use_device="cpu", label="water")
    assert calculator.label == "water"


def test_several_models():
    """Of a list the class makes a committee, whose members all have the further arguments."""

    class Listed(OneOrSeveral, SomeCalculator):
        pass

    committee = Listed(["a.pt", "b.pt"], config=LESConfig(), bec=True, sign=-1)
    assert type(committee) is Committee and committee.names == ["a.pt", "b.pt"]
    assert [type(member) for member in committee.members] == [Listed, Listed]
    assert committee.bec and committee.charge_sign.sign == -1
    assert all(member.bec and member.charge_sign.sign is None for member in committee.members)
    assert type(Listed("a.pt")) is Listed
    with pytest.raises(TypeError, match="did you mean `config`"):
        Listed(["a.pt", "b.pt"], confgi=LESConfig())


def test_properties(water):
    names = {"charges", "dipole", "les_energy", "born_effective_charges"}
    assert names.isdisjoint(SomeCalculator().implemented_properties)
    assert names <= {*SomeCalculator(config=LESConfig(), bec=True).implemented_properties}
    several = SomeCalculator(config=SEVERAL)
    assert names.isdisjoint({*several.implemented_properties} - {"les_energy"})
    several.calculate(water)
    assert several.results["latent_charges"].shape == (3, 2)
    # Those of the class are shared by all calculators.
    assert Upstream.implemented_properties == ("energy", "forces")


@pytest.mark.parametrize(
    ("config", "name", "message"),
    [
        (LESConfig(), "born_effective_charges", "make the calculator with bec=True"),
        (LESConfig(), "latent_charges", "one charge on each atom: see charges"),
        (SEVERAL, "charges", "several charges on each atom, latent_charges"),
        (SEVERAL, "born_effective_charges", "several charges on each atom"),
        (None, "born_effective_charges", "the model has no LES"),
        (None, "charges", "the model has no LES, and so no charges"),
    ],
)
def test_why_there_is_no_result(water, config, name, message):
    with pytest.raises(PropertyNotImplementedError, match=message):
        SomeCalculator(config=config).get_property(name, water)


def test_what_bec_needs():
    with pytest.raises(ValueError, match=r"`bec` needs a model with LES"):
        SomeCalculator(bec=True)
    with pytest.raises(ValueError, match=r"one charge on each atom, this has 2$"):
        SomeCalculator(config=SEVERAL, bec=True)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_results_that_are_not_finite(water, value):
    calculator = SomeCalculator(config=LESConfig())
    calculator.scale = value
    with pytest.raises(ValueError, match=r"NaN or infinite values for the energy"):
        calculator.calculate(water)
    assert calculator.results == {}


def test_labels_without_effect_are_told_once(water):
    calculator = SomeCalculator()
    water.info.update(total_charge=0, charge=-1, spin=1)
    with pytest.warns(UserWarning, match=r"charge = -1, which this model cannot use") as told:
        calculator.calculate(water)
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calculator.calculate(water)
        with unused_labels_told():
            SomeCalculator().calculate(water)
            with pytest.raises(UserWarning, match="another"):
                warnings.warn("another", stacklevel=1)


def test_structures_that_are_refused(water):
    wire = Atoms("OH", [[0, 0, 0], [0, 0, 1]], cell=[9, 9, 9], pbc=[False, False, True])
    with pytest.raises(ValueError, match="pbc must have 0, 2 or 3 axes"):
        SomeCalculator(config=LESConfig()).calculate(wire)
    SomeCalculator().calculate(wire)
    water.numbers[0] = 54
    with pytest.raises(ValueError, match="knows the elements H, O, got Xe"):
        SomeCalculator().calculate(water)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_places_far_from_the_origin(water, dtype):
    """Single precision has seven digits, for the differences of positions."""
    calculator = SomeCalculator(config=LESConfig())
    assert calculator.place(water, dtype) is water
    far = water.copy()
    far.positions += [3e6, 0.0, -5e4]
    placed = calculator.place(far, dtype)
    if dtype == torch.float32:
        assert np.abs(placed.positions).max() < 1.0
    np.testing.assert_allclose(
        placed.positions - placed.positions[0], water.positions - water.positions[0], atol=1e-8
    )
    assert far.positions[0, 0] == 3e6
    # Dipoles of charges that do not sum to zero depend on the origin.
    assert (
        SomeCalculator(config=LESConfig(remove_mean=False, neutrality="none")).place(water, dtype)
        is water
    )


@pytest.mark.parametrize(("dtype", "distance"), [(torch.float32, 3e4), (torch.float64, 3e13)])
def test_positions_that_are_not_resolved(water, dtype, distance):
    water.positions[0, 1] += distance
    name = str(dtype).removeprefix("torch.")
    with pytest.raises(ValueError, match=rf"positions up to .* A are resolved to .* A in {name}"):
        SomeCalculator(config=LESConfig()).place(water, dtype)


def test_a_trained_sign_is_left_as_it_is(water):
    """Also where it contradicts chemistry, unless another is asked for."""
    trained = LESConfig(sign="trained")
    expected = results_of(SomeCalculator(config=LESConfig(), sign=1), water)["charges"]
    for calculator, factor in (
        (SomeCalculator(config=LESConfig()), -1),
        (SomeCalculator(config=trained), 1),
        (SomeCalculator(config=trained, sign=-1), -1),
    ):
        np.testing.assert_array_equal(results_of(calculator, water)["charges"], factor * expected)


# --- quadrupole, acoustic sum, eps_inf


def test_quadrupole_of_a_molecule(water):
    """About the geometric centre, of the charges less their mean, as their sign says."""
    water.positions += 3.0
    calculator = SomeCalculator(config=LESConfig())
    calculator.calculate(water)
    arms = water.positions - water.positions.mean(axis=0)
    expected = np.einsum("i,ia,ib->ab", [-1.0, 0.0, 1.0], arms, arms)
    np.testing.assert_allclose(calculator.results["quadrupole"], expected, atol=1e-12)
    found = calculator.get_property("quadrupole", water)
    np.testing.assert_array_equal(found, calculator.results["quadrupole"])
    as_given = SomeCalculator(config=LESConfig(remove_mean=False, neutrality="none"))
    as_given.charges_less = 0.5
    as_given.calculate(water)
    shifted = np.einsum("i,ia,ib->ab", [-1.5, -0.5, 0.5], arms, arms)
    np.testing.assert_allclose(as_given.results["quadrupole"], shifted, atol=1e-12)


@pytest.mark.parametrize("pbc", [(True, True, True), (True, True, False)])
def test_no_quadrupole_of_a_cell(water, pbc):
    water.cell, water.pbc = 5.0 * np.eye(3), pbc
    calculator = SomeCalculator(config=LESConfig())
    calculator.calculate(water)
    assert "quadrupole" not in calculator.results
    with pytest.raises(PropertyNotImplementedError, match="periodic structure has no quadrupole"):
        calculator.get_property("quadrupole", water)
    with pytest.raises(PropertyNotImplementedError, match="no LES, and so no quadrupole"):
        SomeCalculator().get_property("quadrupole", water)
    with pytest.raises(PropertyNotImplementedError, match="several charges on each atom"):
        SomeCalculator(config=SEVERAL).get_property("quadrupole", water)


def test_acoustic_sum(water):
    kept = SomeCalculator(config=LESConfig(), bec=True)
    spread = SomeCalculator(config=LESConfig(), bec=True, acoustic_sum="spread")
    kept.calculate(water)
    spread.calculate(water)
    found, given = (each.results["born_effective_charges"] for each in (spread, kept))
    assert np.abs(given.sum(axis=0)).max() > 1.0
    np.testing.assert_allclose(found, given - given.mean(axis=0), atol=1e-12)


def test_eps_inf(water):
    """Everything that is linear in the charges has a factor, and nothing else."""
    config = LESConfig(epsilon_factor=4.0)
    plain, scaled = (SomeCalculator(config=config, bec=True, eps_inf=x) for x in (None, 9.0))
    plain.calculate(water)
    scaled.calculate(water)
    factors = dict.fromkeys(("charges", "dipole", "quadrupole", "born_effective_charges"), 1.5)
    for name, value in plain.results.items():
        np.testing.assert_allclose(scaled.results[name], factors.get(name, 1.0) * value)


@pytest.mark.parametrize("eps_inf", [0.0, -1.78, float("nan"), float("inf"), "1.78", True, 1e7])
def test_bad_eps_inf(eps_inf):
    with pytest.raises(ValueError, match="`eps_inf` must be"):
        SomeCalculator(config=LESConfig(), eps_inf=eps_inf)


def test_options_without_effect():
    with pytest.raises(ValueError, match=r"`acoustic_sum` must be one of kept, spread, got 'zero'"):
        SomeCalculator(config=LESConfig(), bec=True, acoustic_sum="zero")
    with pytest.raises(ValueError, match=r"`acoustic_sum='spread'` has no effect without `bec`"):
        SomeCalculator(config=LESConfig(), acoustic_sum="spread")
    with pytest.raises(ValueError, match=r"`eps_inf` needs a model with LES"):
        SomeCalculator(eps_inf=1.78)
    with pytest.raises(ValueError, match=r"`eps_inf` needs a model with one charge.*has 2$"):
        SomeCalculator(config=SEVERAL, eps_inf=1.78)
    with pytest.raises(TypeError, match=r"`acoustic_sums`; did you mean `acoustic_sum`\?"):
        SomeCalculator(acoustic_sums="kept")


def test_ase_exports_what_it_knows():
    """Results that ASE has no name for would be an error there."""
    from les.spectra.classical import FlexibleWater, water_molecule

    atoms = water_molecule()
    atoms.calc = FlexibleWater(bec=True)
    found = atoms.get_properties(["energy", "charges", "dipole", "born_effective_charges"])
    assert found["energy"] == atoms.calc.results["energy"]
    np.testing.assert_array_equal(found["charges"], atoms.calc.results["charges"])
    bec = atoms.calc.results["born_effective_charges"]
    np.testing.assert_array_equal(found["born_effective_charges"], bec.reshape(-1, 3, 3))
    assert "les_energy" in atoms.calc.results
    assert "les_energy" not in found
