"""Calculators of CHGNet models: signs, outputs, options, and short-range models."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.calculators.calculator import PropertyNotImplementedError
from ase.stress import voigt_6_to_full_3x3_stress
from chgnet.model import CHGNet, CHGNetCalculator

from les.testing.adapter import results_of
from les.testing.derivatives import derivative
from les.testing.structures import CELLS, crystal, dimer, strained, structures
from les_chgnet import CHGNetLES, LESCalculator, save_model


@pytest.fixture
def make(model):
    """A function that makes a calculator of the model with charges."""
    return lambda **options: LESCalculator(copy.deepcopy(model), use_device="cpu", **options)


# --- results


def test_units_of_upstreams_outputs(make, double_model):
    """The model is upstream's: energies per atom, stress in GPa; the calculator is ASE's."""
    for atoms in (crystal(), dimer()):
        out = double_model(
            [double_model.graph_converter(atoms)], task="efsm", return_site_energies=True
        )
        results = results_of(make(dtype="float64"), atoms)
        assert results["energy"] == pytest.approx(out["e"].item() * len(atoms), rel=1e-12)
        assert results["free_energy"] == results["energy"]
        assert results["les_energy"] == pytest.approx(out["les_energy"].item(), rel=1e-12)
        for key, letter in (("forces", "f"), ("magmoms", "m"), ("energies", "site_energies")):
            np.testing.assert_allclose(results[key], out[letter][0].detach(), rtol=1e-12)
    stress = double_model([double_model.graph_converter(crystal())], task="efs")["s"][0]
    np.testing.assert_allclose(
        voigt_6_to_full_3x3_stress(results_of(make(dtype="float64"), crystal())["stress"]),
        stress.detach().numpy() * units.GPa,
        rtol=1e-9,
    )


def test_open_structures_have_no_stress(make):
    """Also where they have a cell, and where the calculator was used for a crystal before."""
    calculator = make()
    crystalline = crystal()
    crystalline.calc = calculator
    assert crystalline.get_stress().shape == (6,)
    crystalline.pbc = False
    assert crystalline.get_potential_energy() == pytest.approx(calculator.results["energy"])
    assert "stress" not in calculator.results
    with pytest.raises(PropertyNotImplementedError):
        crystalline.get_stress()


def test_magnetic_moments_and_energies_of_ase(make):
    atoms = crystal()
    atoms.calc = make()
    assert atoms.get_magnetic_moments().shape == (6,)
    assert atoms.get_potential_energies().sum() == pytest.approx(
        atoms.get_potential_energy(), rel=1e-6
    )


@pytest.mark.parametrize(
    ("task", "present"),
    [("e", set()), ("ef", {"forces"}), ("efs", {"forces", "stress"}), ("em", {"magmoms"})],
)
def test_tasks(make, task, present):
    calculator = make(dtype="float64")
    expected = results_of(calculator, crystal())
    calculator.calculate(crystal(), task=task)
    keys = {"forces", "stress", "magmoms"} & calculator.results.keys()
    assert keys == present
    for key in {*present, "energy", "les_energy", "charges"}:
        np.testing.assert_allclose(calculator.results[key], expected[key], rtol=1e-12)


def test_epsilon_factor(model):
    """Charges, dipole and Born effective charges are what the medium screens."""
    settings = model.les.config()
    scaled = CHGNetLES.from_short_range(
        CHGNet(**model.model_args), {"epsilon_factor": 2.25, "sigma": settings.sigma}
    )
    state = model.state_dict()
    scaled.load_state_dict({**state, "les.settings": scaled.state_dict()["les.settings"]})
    for atoms in (dimer(), crystal()):
        expected = results_of(LESCalculator(copy.deepcopy(model), bec=True), atoms)
        actual = results_of(LESCalculator(scaled, bec=True), atoms)
        for key in ("energy", "les_energy", "forces"):
            np.testing.assert_allclose(actual[key], expected[key], rtol=1e-6, atol=1e-6)
        for key in ("charges", "dipole", "born_effective_charges"):
            np.testing.assert_allclose(actual[key], 1.5 * expected[key], rtol=1e-4, atol=1e-5)


# --- signs


def test_sign_is_chosen_once(double_model, scale_charges):
    """Charges that change sign along a trajectory must not be turned back."""
    calculator = LESCalculator(double_model, bec=True, use_device="cpu")
    first = results_of(calculator, dimer())
    scale_charges(double_model, -1.0)
    second = results_of(calculator, dimer())
    for key in ("charges", "dipole", "born_effective_charges"):
        assert np.abs(first[key]).max() > 1e-3
        np.testing.assert_allclose(second[key], -first[key], rtol=1e-9)
    other_sign = -calculator.charge_sign.sign
    given = results_of(LESCalculator(double_model, sign=other_sign, use_device="cpu"), dimer())
    np.testing.assert_allclose(given["charges"], first["charges"], rtol=1e-12)


def test_a_single_element_decides_no_sign(make):
    calculator = make()
    results_of(calculator, Atoms("O2", [[0, 0, 0], [0, 0, 1.2]]))
    assert calculator.charge_sign.sign is None
    charges = results_of(calculator, dimer())["charges"]
    assert charges[[0, 3]].mean() < charges[[1, 2, 4, 5]].mean()


# --- options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sign": 2}, "`sign` must be 1, -1 or None, got 2"),
        ({"dtype": "float16"}, "`dtype` must be one of float32, float64, got 'float16'"),
    ],
)
def test_bad_options(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_bad_models(short_range_model):
    with pytest.raises(ValueError, match=r"`bec` needs a model with LES"):
        LESCalculator(short_range_model, bec=True)
    with pytest.raises(TypeError, match="`model` must be a CHGNet, got Linear"):
        LESCalculator(torch.nn.Linear(1, 1))
    with pytest.raises(FileNotFoundError, match=r"no model file nowhere\.pth\.tar"):
        LESCalculator("nowhere.pth.tar")


def test_unknown_element(make):
    """Upstream's embedding has 94 elements."""
    with pytest.raises(ValueError, match=r"the model knows the elements H, .*Pu, got Am"):
        make().calculate(Atoms(["O", "Am"], [[0, 0, 0], [0, 0, 2.0]]))


@pytest.mark.parametrize("dtype", ["", "float32", "float64"])
def test_the_given_model_keeps_its_precision(model, dtype):
    given = copy.deepcopy(model)
    results = results_of(LESCalculator(given, dtype=dtype, use_device="cpu"), dimer())
    assert results["forces"].dtype == (dtype or "float32")
    assert {parameter.dtype for parameter in given.parameters()} == {torch.float32}
    single = results_of(LESCalculator(given, use_device="cpu"), dimer())
    assert single["forces"].dtype == np.float32


def test_calculators_that_share_a_model(model):
    """Each keeps its own choice of outputs, and its own answer to isolated atoms."""
    shared = copy.deepcopy(model)
    strict = LESCalculator(shared, bec=True, on_isolated_atoms="error", use_device="cpu")
    lenient = LESCalculator(shared, use_device="cpu")
    far = Atoms("OH", [[0, 0, 0], [0, 0, 9.0]])
    for _ in range(2):
        assert "born_effective_charges" in results_of(strict, dimer())
        assert "born_effective_charges" not in results_of(lenient, dimer())
        assert np.isfinite(results_of(lenient, far)["energy"])
        with pytest.raises(ValueError, match=r"2 isolated atom\(s\)"):
            strict.calculate(far)


def test_model_that_is_being_trained(chgnet_arguments):
    """Dropout is not for predictions."""
    model = CHGNetLES(**chgnet_arguments, conv_dropout=0.5, mlp_dropout=0.5).train()
    calculator = LESCalculator(model, use_device="cpu")
    energies = [results_of(calculator, crystal())["energy"] for _ in range(2)]
    assert energies[0] == energies[1]


def test_from_file(model, short_range_model, tmp_path):
    for each, name in ((model, "les.pth.tar"), (short_range_model, "short.pth.tar")):
        save_model(each, tmp_path / name)
        expected = results_of(LESCalculator(copy.deepcopy(each), use_device="cpu"), dimer())
        for path in (tmp_path / name, str(tmp_path / name)):
            calculator = LESCalculator.from_file(path, use_device="cpu")
            assert isinstance(calculator, LESCalculator)
            actual = results_of(calculator, dimer())
            assert actual.keys() == expected.keys()
            assert actual["energy"] == expected["energy"]
    calculator = LESCalculator.from_file(
        tmp_path / "les.pth.tar", use_device="cpu", bec=True, dtype="float64"
    )
    assert results_of(calculator, dimer())["born_effective_charges"].dtype == np.float64


def test_pretrained_model_by_name(crystals):
    """As in upstream's calculator, it is also the default."""
    expected = results_of(
        CHGNetCalculator(CHGNet.load(verbose=False), use_device="cpu"), crystals["NaCl"]
    )
    for calculator in (LESCalculator(use_device="cpu"), LESCalculator("0.3.0", use_device="cpu")):
        results = results_of(calculator, crystals["NaCl"])
        assert results["energy"] == pytest.approx(float(expected["energy"]), rel=1e-6)
        assert "les_energy" not in results


# --- short-range models


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["open", "rotated", "left-handed"])
def test_short_range_model(short_range_model, upstream, name, dtype):
    atoms = structures()[name]
    model = copy.deepcopy(short_range_model)
    calculator = LESCalculator(model, dtype=dtype, use_device="cpu", skin=0.0)
    actual = results_of(calculator, atoms)
    expected = results_of(upstream(short_range_model, dtype), atoms)
    keys = {"energy", "free_energy", "energies", "forces", "magmoms"}
    assert actual.keys() == keys | ({"stress"} if atoms.pbc.all() else set())
    for key in actual.keys() - {"free_energy"}:
        # Weights that are cast to float64 are the same; some volumes are not.
        np.testing.assert_allclose(actual[key], expected[key], rtol=1e-6, err_msg=key)


@pytest.mark.parametrize("dtype", ["", "float64"])
def test_short_range_model_that_is_in_double_precision(short_range_model, dtype):
    """As a file of float64 gives it; upstream's reference energies do not go with it."""
    double = copy.deepcopy(short_range_model).double()
    actual = results_of(LESCalculator(double, dtype=dtype, use_device="cpu"), dimer())
    cast = LESCalculator(copy.deepcopy(short_range_model), dtype="float64", use_device="cpu")
    expected = results_of(cast, dimer())
    assert actual["energy"] == pytest.approx(expected["energy"], rel=1e-12)
    np.testing.assert_allclose(actual["forces"], expected["forces"], rtol=0, atol=1e-12)


def opened(name, pbc):
    """A crystal with vacuum along its open axes."""
    atoms = crystal(name)
    atoms.set_cell(atoms.cell[:] * np.where(pbc, 1.0, 2.5)[:, None])
    atoms.pbc = pbc
    return atoms


def check_stress(calculator, atoms, **tolerance):
    """Comparison with finite differences, per volume of the cell as given."""
    stress = voigt_6_to_full_3x3_stress(results_of(calculator, atoms)["stress"])
    largest = np.abs(stress).max()
    for row, column in ((0, 0), (1, 1), (2, 2), (1, 2)):

        def energy(amount, row=row, column=column):
            strain = np.zeros((3, 3))
            strain[row, column] += 0.5 * amount
            strain[column, row] += 0.5 * amount
            return results_of(calculator, strained(atoms, strain))["energy"]

        expected = derivative(energy, 3e-4) / abs(np.linalg.det(atoms.cell[:]))
        assert stress[row, column] == pytest.approx(expected, rel=1e-6, abs=1e-4 * largest)
    assert largest > 1e-6


@pytest.mark.parametrize(
    ("name", "pbc"),
    [
        *((name, (1, 1, 1)) for name in CELLS),
        ("triclinic", (1, 1, 0)),
        ("left-handed", (1, 0, 1)),
        ("rotated", (0, 1, 1)),
        ("triclinic", (1, 0, 0)),
        ("left-handed", (0, 0, 1)),
    ],
)
def test_stress_of_a_short_range_model(short_range_model, name, pbc):
    """Upstream's has the wrong sign in left-handed cells."""
    calculator = LESCalculator(copy.deepcopy(short_range_model), dtype="float64", device="cpu")
    check_stress(calculator, opened(name, pbc))


@pytest.mark.parametrize(
    ("name", "pbc"),
    [("triclinic", (1, 1, 1)), ("left-handed", (1, 1, 0)), ("left-handed", (0, 1, 1))],
)
def test_stress_of_a_pretrained_model(name, pbc):
    check_stress(LESCalculator("0.3.0", dtype="float64", device="cpu"), opened(name, pbc))


def test_no_stress_without_a_volume(short_range_model, make):
    """What the missing vector of a slab is replaced by has no meaning."""
    calculator = LESCalculator(copy.deepcopy(short_range_model), dtype="float64", device="cpu")
    slab = opened("cubic", (1, 1, 0))
    expected = results_of(calculator, slab)
    slab.cell[2] = 0.0
    for each in (calculator, make(dtype="float64")):
        actual = results_of(each, slab)
        assert "stress" not in actual
    slab.calc = calculator
    np.testing.assert_allclose(slab.get_forces(), expected["forces"], atol=1e-9)
    with pytest.raises(PropertyNotImplementedError):
        slab.get_stress()


def test_slabs_of_short_range_models(short_range_model, upstream, make):
    slab = crystal("cubic")
    slab.pbc = [True, True, False]
    calculator = LESCalculator(copy.deepcopy(short_range_model), dtype="float64", use_device="cpu")
    ours = results_of(calculator, slab)
    theirs = results_of(upstream(short_range_model), slab)
    assert ours["energy"] == pytest.approx(theirs["energy"], rel=1e-12)
    np.testing.assert_allclose(ours["forces"], theirs["forces"], rtol=0, atol=1e-9)
    periodic = results_of(calculator, crystal("cubic"))
    assert abs(ours["energy"] - periodic["energy"]) > 1e-6


def test_bad_input_of_a_short_range_model(short_range_model):
    calculator = LESCalculator(copy.deepcopy(short_range_model), use_device="cpu")
    bad = dimer()
    bad.positions[0] = np.nan
    with pytest.raises(ValueError, match="finite"):
        calculator.calculate(bad)
