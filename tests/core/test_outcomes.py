"""Structures of a file that are evaluated together, with errors and signs of single ones."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.io import read, write

from les import ChargeSign, cli
from les.backends.batches import batched
from les.predict import predict


class Batched(Calculator):
    """Notes the sizes of batches; its charges have a sign that the first structure decides."""

    implemented_properties = ("energy",)

    def __init__(self, stop=None):
        super().__init__()
        self.batches, self.stop, self.charge_sign = [], stop, ChargeSign()

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        self.batches.append(1)
        self.results = self._results(atoms)

    def calculate_together(self, structures):
        self.batches.append(len(structures))
        for atoms in structures:
            yield self._results(atoms)

    def _results(self, atoms):
        if "Xe" in atoms.get_chemical_symbols():
            raise ValueError("the model does not know xenon")
        if len(self.batches) == self.stop:
            raise KeyboardInterrupt
        if len(set(atoms.numbers)) > 1 and self.charge_sign.sign is None:
            self.charge_sign = ChargeSign(-1)
        charges = (self.charge_sign.sign or 1) * np.arange(len(atoms))
        return {"energy": float(len(atoms)), "charges": charges}


def files(tmp_path, formulas):
    path = tmp_path / "structures.xyz"
    write(path, [Atoms(x, np.arange(12).reshape(4, 3)[: len(Atoms(x))]) for x in formulas])
    return path


def test_batches(tmp_path):
    calculator = Batched()
    path = files(tmp_path, ["OH", "OH2", "O2", "OH"])
    predict(calculator, path, tmp_path / "out.xyz", batch_size=3)
    assert calculator.batches == [3, 1]
    assert [atoms.info["LES_energy"] for atoms in read(tmp_path / "out.xyz", ":")] == [2, 3, 2, 2]


def test_groups_are_of_few_atoms():
    items = [("a", 5), ("b", 5), ("c", 1), ("d", 20), ("e", 0), ("f", 3)]
    groups = list(batched(items, size=3, most=10))
    assert groups == [["a", "b"], ["c"], ["d"], ["e", "f"]]
    assert list(batched(items, size=1, most=10)) == [[name] for name, _ in items]


def test_a_bad_structure_spoils_no_batch(tmp_path):
    """It is named; the others have their results, and signs as one by one."""
    path = files(tmp_path, ["O2", "OH", "Xe", "OH2", "O2"])
    for size in (1, 5):
        output = tmp_path / f"out{size}.xyz"
        found = predict(Batched(), path, output, skip_bad=True, batch_size=size)
        assert [bad.split(": ", 1)[1] for bad in found.bad] == [
            "frame 2: the model does not know xenon"
        ]
    assert (tmp_path / "out1.xyz").read_text() == (tmp_path / "out5.xyz").read_text()
    charges = [atoms.arrays["LES_charges"][1] for atoms in read(output, ":")]
    assert charges == [1.0, -1.0, -1.0, -1.0]
    with pytest.raises(ValueError, match="frame 2: the model does not know xenon"):
        predict(Batched(), path, tmp_path / "out.xyz")


def test_an_interruption_between_batches(tmp_path):
    """What is done stays done, with the sign that was decided."""
    path = files(tmp_path, ["OH", "O2", "O2", "OH2", "O2"])
    whole = tmp_path / "whole.xyz"
    predict(Batched(), path, whole, batch_size=2)
    output = tmp_path / "out.xyz"
    with pytest.raises(KeyboardInterrupt):
        predict(Batched(stop=2), path, output, batch_size=2)
    rest = Batched()
    predict(rest, path, output, batch_size=2, resume=True)
    assert rest.batches == [2, 1]
    assert output.read_text() == whole.read_text()


def test_models_by_option(fake, tmp_path, capsys, fails):
    """`--model` names members of a committee, as files at the beginning do."""
    path = files(tmp_path, ["OH", "OH2"])
    members = ["--model", "a.model", "--model", "b.model", "--backend", "fake"]
    argv = ["predict", str(path), *members, "-o", str(tmp_path / "out.xyz")]
    assert cli.main(argv) == 0
    first = read(tmp_path / "out.xyz", 0)
    assert first.info["LES_energy"] == 2.0
    assert first.info["LES_energy_std"] == 0.0
    assert "`--batch-size` must be positive, got 0" in fails(*argv, "--batch-size", "0")
