"""Figures of merit of what is linear in the charges."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from les.response.agreement import QUANTITIES, Agreement, Agreements, is_opposite


@pytest.fixture
def references():
    """Born effective charges of three structures."""
    rng = np.random.default_rng(1)
    return [rng.normal(size=(n, 3, 3)) + np.eye(3) for n in (2, 5, 3)]


def agreement_of(predicted, expected, label="bec"):
    agreement = Agreement(QUANTITIES[label])
    for x, y in zip(predicted, expected, strict=True):
        agreement.add(x, y)
    return agreement.figures()


def flat(arrays):
    return np.concatenate([array.ravel() for array in arrays])


def test_against_plain_formulas(references):
    rng = np.random.default_rng(2)
    predicted = [0.7 * y + 0.1 * rng.normal(size=y.shape) for y in references]
    found = agreement_of(predicted, [y.reshape(-1, 9) for y in references])
    x, y = flat(predicted), flat(references)
    scale = np.linalg.lstsq(x[:, None], y, rcond=None)[0][0]
    assert found["n_values"] == 90
    assert found["rmse"] == pytest.approx(np.sqrt(np.mean((x - y) ** 2)))
    assert found["scale"] == pytest.approx(scale)
    assert found["r2"] == pytest.approx(1.0 - np.mean((x - y) ** 2) / np.var(y))
    assert found["r2_scaled"] == pytest.approx(1.0 - np.mean((scale * x - y) ** 2) / np.var(y))
    assert found["r2"] < 0.9 < found["r2_scaled"]
    for name, arrays in (("acoustic_sum", predicted), ("acoustic_sum_reference", references)):
        sums = np.array([array.sum(axis=0) for array in arrays])
        assert found[name] == pytest.approx(np.sqrt(np.mean(sums**2)))
    assert not is_opposite(found)


def test_a_perfect_scale(references):
    found = agreement_of([y / 1.334 for y in references], references)
    assert found["scale"] == pytest.approx(1.334)
    assert found["r2_scaled"] == pytest.approx(1.0)


def test_the_sign_is_not_chosen(references):
    found = agreement_of([-y for y in references], references)
    assert found["scale"] == pytest.approx(-1.0)
    assert found["rmse"] == pytest.approx(2.0 * np.sqrt(np.mean(flat(references) ** 2)))
    assert is_opposite(found)


def test_nothing_to_divide_by():
    found = agreement_of([np.zeros(3)], [np.zeros(3)], "dipole")
    expected = {"n_values": 3, "rmse": 0.0, "scale": None, "r2": None, "r2_scaled": None}
    assert found == expected
    assert not is_opposite(found)


def test_quadrupoles_without_their_trace():
    moments = np.diag([1.0, 2.0, 6.0])
    found = agreement_of([moments - 30.0 * np.eye(3)], [moments.ravel()], "quadrupole")
    assert found["rmse"] == pytest.approx(0.0, abs=1e-12)
    assert found["r2"] == pytest.approx(1.0)


@pytest.mark.parametrize("pbc", [True, (True, True, False)])
def test_moments_of_a_cell_are_not_compared(pbc):
    agreements = Agreements()
    atoms = Atoms("OH", positions=np.eye(3)[:2], cell=3.0 * np.eye(3), pbc=pbc)
    results = {"dipole": np.ones(3), "born_effective_charges": np.ones((2, 9))}
    labels = {"dipole": np.ones(3), "bec": np.ones((2, 9))}
    agreements.add(atoms, results, labels)
    assert list(agreements.by_label) == ["bec"]
    assert agreements.left_out == {"dipole": 1}


@pytest.mark.parametrize("name", ["total_charge", "charge"])
def test_moments_of_ions_are_not_compared(name):
    agreements = Agreements()
    atoms = Atoms("OH", positions=np.eye(3)[:2], info={name: -1})
    agreements.add(atoms, {"dipole": np.ones(3)}, {"dipole": np.ones(3)})
    assert not agreements.by_label
    assert agreements.left_out == {"dipole": 1}
    atoms.info[name] = 0
    agreements.add(atoms, {"dipole": np.ones(3)}, {"dipole": np.ones(3)})
    assert agreements.by_label["dipole"].n_values == 3


def test_table(references):
    assert Agreements().table() == ""
    agreements = Agreements()
    molecule = Atoms("OH", positions=np.eye(3)[:2])
    labels = {"dipole": 2.0 * np.arange(3.0), "bec": references[0]}
    results = {"dipole": np.arange(3.0), "born_effective_charges": references[0]}
    agreements.add(molecule, results, labels)
    head, dipole, bec = (
        [cell.strip() for cell in line.split("|")] for line in agreements.table().split("\n")
    )
    assert head[1:4] == ["values", "RMSE", "best-fit scale"]
    assert dipole == ["dipoles [e A]", "3", "1.29", "2", "0.375", "1", "-", "-"]
    assert bec[:4] == ["Born effective charges [e]", "18", "0", "1"]
    assert bec[6] == bec[7]
