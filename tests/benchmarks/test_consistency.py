"""Checks of symmetry and consistency: what passes them, and that each finds its fault."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.lj import LennardJones

from les.data.fragments import fragments
from les_bench.suite import consistency
from les_bench.suite.consistency import UNITS, check
from les_bench.systems.states import repeated

POSITIONS = [[0.0, 0.1, 0.2], [2.2, 0.0, 0.3], [0.1, 2.3, 0.0], [2.0, 1.9, 2.1]]


def structure(periodic: bool) -> Atoms:
    cell = [[4.5, 0.2, 0.0], [0.0, 4.8, 0.3], [0.1, 0.0, 5.1]] if periodic else None
    return Atoms("OHHO", POSITIONS, cell=cell, pbc=periodic)


def predict(atoms: Atoms) -> dict:
    calculator = LennardJones(sigma=2.0, epsilon=0.3, rc=9.0, smooth=True)
    atoms = atoms.copy()
    atoms.calc = calculator
    atoms.get_forces()
    return {
        key: calculator.results[key]
        for key in ("energy", "forces", "stress")
        if key in calculator.results
    }


def with_field(atoms: Atoms) -> dict:
    """Forces along an axis of the laboratory."""
    found = predict(atoms)
    return {
        **found,
        "energy": found["energy"] - 0.1 * atoms.positions[:, 0].sum(),
        "forces": found["forces"] + [0.1, 0, 0],
    }


def in_a_well(atoms: Atoms) -> dict:
    found = predict(atoms)
    return {
        **found,
        "energy": found["energy"] + (atoms.positions**2).sum(),
        "forces": found["forces"] - 2 * atoms.positions,
    }


def by_order(atoms: Atoms) -> dict:
    found = predict(atoms)
    return {**found, "forces": found["forces"] * np.arange(1, len(atoms) + 1)[:, None]}


def wrong_forces(atoms: Atoms) -> dict:
    found = predict(atoms)
    return {**found, "forces": 1.1 * found["forces"]}


def wrong_stress(atoms: Atoms) -> dict:
    found = predict(atoms)
    return {**found, "stress": -found["stress"]} if "stress" in found else found


def by_size(atoms: Atoms) -> dict:
    found = predict(atoms)
    return {**found, "forces": found["forces"] * len(atoms)}


def by_cell(atoms: Atoms) -> dict:
    found = predict(atoms)
    return {**found, "forces": found["forces"] * (2.0 if atoms.pbc.any() else 1.0)}


@pytest.mark.parametrize("periodic", [False, True])
def test_a_potential_that_is_right(periodic: bool) -> None:
    found = check(structure(periodic), predict)
    of_kind = {"supercell", "stress"} if periodic else {"huge_box"}
    assert found.keys() == {"rotation", "translation", "permutation", "force"} | of_kind
    assert found.keys() <= UNITS.keys()
    for name, value in found.items():
        assert value < (2e-2 if name in ("force", "stress") else 1e-9), name


@pytest.mark.parametrize(
    ("wrong", "name", "periodic"),
    [
        (with_field, "rotation", False),
        (in_a_well, "translation", False),
        (by_order, "permutation", True),
        (wrong_forces, "force", False),
        (wrong_stress, "stress", True),
        (by_size, "supercell", True),
        (by_cell, "huge_box", False),
    ],
)
def test_a_fault_is_found(wrong, name: str, periodic: bool) -> None:
    assert check(structure(periodic), wrong)[name] > 5.0


def test_what_a_model_cannot_do_is_left_out(caplog) -> None:
    def open_only(atoms: Atoms) -> dict:
        if atoms.pbc.any():
            raise ValueError("no cells, please")
        return predict(atoms)

    assert "huge_box" not in check(structure(False), open_only)
    assert "check of huge_box: not possible: ValueError: no cells, please" in caplog.text


def test_charged_structures(monkeypatch) -> None:
    """In a box they have a background; a larger cell has more charge."""
    seen = []

    def noted(atoms: Atoms) -> dict:
        seen.append((len(atoms), atoms.info["total_charge"]))
        return predict(atoms)

    for periodic in (False, True):
        atoms = structure(periodic)
        atoms.info["total_charge"] = 1
        assert "huge_box" not in consistency.check(atoms, noted)
    assert set(seen) == {(4, 1), (8, 2)}


def test_charge_states():
    """Every structure that a model is shown says them; two cells have twice the charge."""
    atoms, seen = structure(periodic=True), []
    atoms.info.update(charge=1, spin=2, REF_energy=3.0)

    def noting(atoms: Atoms) -> dict:
        seen.append((len(atoms), dict(atoms.info)))
        return predict(atoms)

    check(atoms, noting)
    single = [info for n_atoms, info in seen[1:] if n_atoms == len(atoms)]
    assert all(info == {"charge": 1, "spin": 2} for info in single)
    assert [info for n_atoms, info in seen if n_atoms == 2 * len(atoms)] == [
        {"charge": 2, "spin": 2}
    ]


def test_a_supercell_of_fragments():
    """Each cell has its own."""
    atoms = structure(periodic=True)
    atoms.set_array("fragment", np.array([3, 3, 1, 1]))
    atoms.set_array("fragment_charge", np.array([1.0, 1.0, -1.0, -1.0]))
    larger = repeated(atoms, (2, 1, 1))
    labels = larger.arrays["fragment"]
    assert len(np.unique(labels)) == 4
    assert fragments(larger) is not None
    assert not set(labels[:4]) & set(labels[4:])
