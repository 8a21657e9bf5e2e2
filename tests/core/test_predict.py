"""The command ``les predict``, with a backend that needs no upstream."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import read, write

from les import cli
from les.predict import predict


@pytest.fixture
def structures(tmp_path):
    """A molecule with labels of its own, and a crystal."""
    molecule = Atoms("OHH", [[0, 0, 0], [0, 0, 1.0], [0, 0.9, 0]], info={"REF_energy": -5.0})
    crystal = Atoms("NaCl", [[0, 0, 0], [2.0] * 3], cell=[4.0] * 3, pbc=True)
    path = tmp_path / "structures.xyz"
    write(path, [molecule, crystal])
    return path


def test_predict(fake, structures, tmp_path, capsys):
    output = tmp_path / "out.xyz"
    argv = ["predict", "a.model", str(structures), "--backend", "fake", "-o", str(output)]
    assert cli.main([*argv, "--bec", "--dtype", "float32"]) == 0
    options = {"bec": True, "allow_pickle": False}
    assert fake.calls == [(Path("a.model"), "cpu", "float32", options)]
    assert "2 structures" in capsys.readouterr().out
    molecule, crystal = read(output, ":")
    assert molecule.info["LES_energy"] == 3.0
    assert molecule.info["REF_energy"] == -5.0
    assert crystal.info["LES_energy"] == 2.0
    assert crystal.pbc.all()
    np.testing.assert_array_equal(molecule.arrays["LES_forces"], 1.0)
    np.testing.assert_array_equal(molecule.arrays["LES_charges"], [0.0, 0.1, 0.2])
    assert molecule.arrays["LES_born_effective_charges"].shape == (3, 9)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.xyz", "structures.xyz"]


def kept(folder):
    return sorted(folder.iterdir())


def spoiled(structures, change):
    """The file with its second frame changed."""
    frames = read(structures, ":")
    change(frames[1])
    write(structures, frames)
    return structures


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda atoms: atoms.set_positions([[0, 0, 0], [0, 0, 0]]), "at the same place"),
        (lambda atoms: atoms.set_positions([[0, 0, 0], [0, np.nan, 0]]), "must be finite"),
        (lambda atoms: atoms.set_atomic_numbers([54, 17]), "does not know xenon"),
    ],
)  # fmt: skip
def test_predict_names_file_and_frame(fake, structures, tmp_path, change, message):
    output = tmp_path / "out.xyz"
    with pytest.raises(ValueError, match=message) as error:
        predict(fake().calculator("a.model"), spoiled(structures, change), output)
    assert str(error.value).startswith(f"{structures}: frame 1: ")
    assert [path.name for path in kept(tmp_path)] == ["out.xyz.journal", "structures.xyz"]


@pytest.mark.parametrize("content", ["", "these are\nnot atoms\n", None])
def test_predict_names_a_file_without_structures(fake, tmp_path, fails, content):
    structures, output = tmp_path / "structures.xyz", tmp_path / "out.xyz"
    if content is not None:
        structures.write_text(content)
    argv = ["predict", "a.model", str(structures), "--backend", "fake", "-o", str(output)]
    assert f"{structures}" in fails(*argv)
    assert not output.exists()
