"""Error measures against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from les_bench.suite import metrics
from les_bench.suite.evaluate import evaluate
from les_bench.systems.carbon_chain import end_group


def test_energy_and_force_errors() -> None:
    result = metrics.compute(
        {
            "n_atoms": np.array([2, 4]),
            "seconds": np.array([0.1, 0.3]),
            "energy_ref": np.array([-1.0, -2.0]),
            "energy": np.array([-1.002, -1.988]),  # -1 and +3 meV/atom
            "forces_ref": np.zeros((2, 3)),
            "forces": np.array([[0.003, 0, 0], [0, -0.004, 0]]),
        }
    )
    assert result["energy_mae"] == pytest.approx(2.0)
    assert result["energy_rmse"] == pytest.approx(np.sqrt(5.0))
    assert result["force_mae"] == pytest.approx(7 / 6)  # all six components count
    assert result["force_rmse"] == pytest.approx(np.sqrt(25 / 6))
    assert result["seconds_per_structure"] == pytest.approx(0.2)
    assert "charge_neutrality" not in result
    assert "dipole" not in result


def test_agreements_of_each_structure() -> None:
    """Acoustic sums are of structures, all else is of components."""
    reference = np.zeros((3, 9))
    reference[:, 0] = [1.0, -1.0, 0.5]
    data = {"bec_ref": reference, "bec": 0.5 * reference, "bec_n_atoms": np.array([2, 1])}
    data |= {"dipole_ref": np.array([[-1.0, 0.0, 1.0]]), "dipole": np.array([[-1.0, 0.0, 0.5]])}
    found = metrics.compute(data)
    assert found.keys() == {"bec", "dipole"}
    assert found["bec"]["n_values"] == 27
    assert found["bec"]["rmse"] == pytest.approx(np.sqrt(0.25 * 2.25 / 27))
    assert found["bec"]["scale"] == pytest.approx(2.0)
    assert found["bec"]["acoustic_sum_reference"] == pytest.approx(0.5 / np.sqrt(18))
    assert found["dipole"]["r2"] == pytest.approx(1 - 0.25 / 2)
    assert found["dipole"]["rmse"] == pytest.approx(np.sqrt(0.25 / 3))


def test_charge_neutrality_counts_the_total_charge() -> None:
    assert metrics.charge_neutrality(np.array([0.1, 0.8]), np.array([0, 1])) == pytest.approx(0.2)


def test_charge_of_a_part() -> None:
    data = {"part_charge": np.array([0.5, 0.7]), "part_charge_ref": np.array([0.4, 0.4])}
    expected = {"mean": 0.6, "reference": 0.4, "rmse": np.sqrt(0.05)}
    assert metrics.compute(data) == {"part_charge": pytest.approx(expected)}


def test_end_of_a_chain() -> None:
    """Of the cation alone, whatever its orientation, and as evaluation sees it."""
    symbols, x = "HC10H2", [-1.0, *np.arange(10.0) * 1.3, 12.2, 12.2]
    atoms = Atoms(symbols, [[a, 0.02 * (-1) ** i, 0.0] for i, a in enumerate(x)])
    atoms.positions[-2:, 1] = [0.9, -0.9]
    atoms.rotate(40.0, (1, 2, 3))
    part = end_group(atoms)
    assert part is not None
    assert np.flatnonzero(part).tolist() == [8, 9, 10, 11, 12]
    assert end_group(atoms[:-1]) is None
    atoms.set_array("REF_part", part)
    atoms.set_array("REF_charges", np.full(13, 1 / 13))
    atoms.set_array("REF_forces", np.zeros((13, 3)))
    atoms.info["REF_energy"] = 0.0
    calculator = SinglePointCalculator(atoms)
    calculator.results = {
        "energy": 0.0, "forces": np.zeros((13, 3)), "charges": np.arange(13.0), "les_energy": 0.0,
    }  # fmt: skip
    calculator.reset = lambda: None
    calculator.calculation_required = lambda *_: False
    calculator.get_property = lambda name, *_, **__: calculator.results[name]
    found = evaluate([atoms, atoms], calculator, les=True)
    assert found["part_charge"].tolist() == [50.0, 50.0]
    np.testing.assert_allclose(found["part_charge_ref"], 5 / 13)


def test_wetting_differences() -> None:
    energies = np.array([1.0, 3.0, 2.5, 7.0, 5.0])
    doped = np.array([False, False, False, True, True])
    geometry = np.array(["nonwetting", "wetting", "wetting", "wetting", "nonwetting"])
    differences = metrics.wetting_differences(energies, doped, geometry)
    assert differences == {"undoped": pytest.approx(1.75), "doped": pytest.approx(2.0)}
    assert metrics.wetting_differences(energies[:1], doped[:1], geometry[:1]) == {}
