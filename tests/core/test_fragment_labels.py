"""Fragments as structures and files say them, and molecules found by bonds."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from les import LESConfig
from les.analysis.environments import environments
from les.data.atoms import UnusedLabels, labels_without_effect
from les.data.extxyz import DataError
from les.data.fragments import fragments, molecules
from les.data.labels import labelled_frames
from les.data.requirements import ChargeStates, Requirements
from les.fragments import joined_fragments
from les.predict.output import attach


@pytest.fixture
def waters() -> Atoms:
    """Three molecules of water in a cell that cuts two of them, with a sodium ion."""
    water = molecule("H2O")
    atoms = Atoms(cell=[9.0, 9.0, 9.0], pbc=True)
    for place in ([0.1, 4.0, 0.2], [4.0, 4.0, 4.0], [8.9, 0.1, 5.0]):
        moved = water.copy()
        moved.positions += place
        atoms += moved
    atoms += Atoms("Na", [[6.5, 7.0, 1.5]])
    atoms.wrap()
    return atoms


def test_molecules(waters: Atoms) -> None:
    assert molecules(waters).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]
    waters.pbc = False
    assert len(set(molecules(waters))) > 4
    assert environments(molecule("H2O")) == ["O(H2)", "H(O)", "H(O)"]


def test_what_a_structure_says(waters: Atoms) -> None:
    assert fragments(waters) is None
    waters.arrays["fragment"] = molecules(waters)
    found = fragments(waters)
    assert found is not None
    assert found.charges.tolist() == [0.0] * 10
    waters.arrays["fragment_charge"] = np.array([0.0] * 9 + [1.0])
    found = fragments(waters, total_charge=1.0)
    assert found is not None
    assert found.labels.dtype == np.int64
    assert found.charges.sum() == 1.0


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("fragment", np.arange(10.0), "fragment must be one whole number .* float64"),
        ("fragment", np.zeros((10, 2), dtype=int), r"one whole number .* shape \[10, 2\]"),
        ("fragment", None, "fragment_charge needs fragment"),
        ("fragment_charge", np.full(10, np.nan), "one finite number for each atom"),
        ("fragment_charge", np.array(["a"] * 10), "one finite number for each atom"),
        ("fragment_charge", np.arange(10.0), "alike within a fragment, got 1 and 0 e in fragment"),
        ("fragment_charge", np.zeros(10), "the 4 fragments must sum to .* 1 e, got 0 e"),
    ],
)
def test_bad_fragments(waters: Atoms, name: str, values: np.ndarray, message: str) -> None:
    waters.arrays["fragment"] = molecules(waters)
    waters.arrays["fragment_charge"] = np.array([0.0] * 9 + [1.0])
    if values is None:
        del waters.arrays[name]
    else:
        waters.arrays[name] = values
    with pytest.raises(ValueError, match=message):
        fragments(waters, 1.0)


def test_files(waters: Atoms, tmp_path, caplog) -> None:
    """What a model cannot use is told; what it can is checked, with file and frame."""
    waters.info.update(energy=-1.0, charge=1.0)
    waters.arrays["fragment"] = molecules(waters)
    waters.arrays["fragment_charge"] = np.array([0.0] * 9 + [1.0])
    path = tmp_path / "waters.xyz"
    waters.write(path)
    assert labels_without_effect(waters).keys() == {"charge", "fragment", "fragment_charge"}
    asked = Requirements(total_charge=True)
    with caplog.at_level(logging.WARNING, logger="les"):
        list(labelled_frames(path, ["energy"], requirements=asked))
        assert not caplog.text
        list(labelled_frames(path, ["energy"], requirements=Requirements()))
    assert "have a fragment other than 0, which this model cannot use" in caplog.text
    waters.arrays["fragment_charge"][-1] = 0.0
    waters.write(path)
    with pytest.raises(DataError, match="frame 0: the charges of the 4 fragments must sum to"):
        list(labelled_frames(path, ["energy"], requirements=asked))
    unused = UnusedLabels(("fragment",))
    unused.add(waters)
    assert "fragment" not in unused.counts


def test_batches(waters: Atoms) -> None:
    """A structure without fragments is one by itself, with its total charge."""
    assert joined_fragments([None, None], [2, 3], [0.0, 1.0]) == (None, None)
    waters.arrays["fragment"] = molecules(waters)
    labels, charges = joined_fragments([fragments(waters), None], [10, 2], [0.0, -1.0])
    assert labels.tolist() == [*molecules(waters), -1, -1]
    assert charges.tolist() == [0.0] * 10 + [-1.0] * 2
    assert charges.dtype == torch.float64


def test_predictions_of_atoms_are_columns(waters: Atoms) -> None:
    attach(waters, {"electronegativity": np.arange(10.0), "hardness": np.ones(10)})
    assert {"LES_electronegativity", "LES_hardness"} <= waters.arrays.keys()


def test_training_that_cannot_pass_them_on_refuses_them(waters, tmp_path):
    """Charges would be shifted evenly in training, and by fragments afterwards."""
    waters.info["energy"] = -1.0
    path = tmp_path / "waters.xyz"
    waters.write(path)
    asked = Requirements(total_charge=True, whole=True)
    assert list(labelled_frames(path, ["energy"], requirements=asked))
    waters.arrays["fragment"] = molecules(waters)
    waters.write(path)
    with pytest.raises(DataError, match="frame 0: has fragments"):
        list(labelled_frames(path, ["energy"], requirements=asked))
    with_dipoles = Requirements.of(LESConfig(neutrality="shift", use_dipole=True))
    with pytest.raises(DataError, match="reads moments of atoms"):
        list(labelled_frames(path, ["energy"], requirements=with_dipoles))
    given = Requirements.of(LESConfig(neutrality="shift"))
    assert list(labelled_frames(path, ["energy"], requirements=given))


def test_charges_of_fragments_count(waters):
    """They fix the sign of charges as those of structures do."""
    states = ChargeStates(Requirements(total_charge=True))
    waters.arrays["fragment"] = molecules(waters)
    states.read(waters, "here")
    assert not states.has_charged
    waters.arrays["fragment_charge"] = np.array([1.0] * 3 + [-1.0] * 3 + [0.0] * 4)
    states.read(waters, "here")
    assert states.has_charged
