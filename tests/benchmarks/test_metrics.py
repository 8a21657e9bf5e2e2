"""Error measures against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from les_bench.suite import metrics


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


def test_wetting_differences() -> None:
    energies = np.array([1.0, 3.0, 2.5, 7.0, 5.0])
    doped = np.array([False, False, False, True, True])
    geometry = np.array(["nonwetting", "wetting", "wetting", "wetting", "nonwetting"])
    differences = metrics.wetting_differences(energies, doped, geometry)
    assert differences == {"undoped": pytest.approx(1.75), "doped": pytest.approx(2.0)}
    assert metrics.wetting_differences(energies[:1], doped[:1], geometry[:1]) == {}
