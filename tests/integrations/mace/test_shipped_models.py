"""The models of MACE that come with les: what they give, through every door."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from ase.io import read

from les.backends import get_backend
from les.backends.models import models_of
from les_mace import LESCalculator

#: Of GFN1-xTB (tblite 0.8.0), which the models of water repeat, for ``molecule("H2O")`` [eV/A].
REFERENCE_FORCES = [[0.0, 0.0, -0.78425], [0.0, -0.22884, 0.39213], [0.0, 0.22884, 0.39213]]
#: Of the models on that molecule, whose forces have errors of 17 meV/A as root mean square [eV/A].
LARGEST_DEVIATION = 0.06
README = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")


def test_the_model_of_water_is_there():
    assert "les-water" in models_of(get_backend("mace"))


@pytest.mark.parametrize("name", models_of(get_backend("mace")))
def test_a_molecule_of_water(name):
    """Forces are near those of the reference, and charges have their signs."""
    atoms = molecule("H2O")
    atoms.calc = calculator = LESCalculator(name)
    forces = atoms.get_forces()
    assert np.abs(forces - REFERENCE_FORCES).max() < LARGEST_DEVIATION
    if calculator.les_config is None:
        return
    charges = calculator.results["charges"]
    assert charges[0] < -0.3
    assert charges.sum() == pytest.approx(0.0, abs=1e-6)
    assert calculator.results["dipole"][2] < -0.1  # from oxygen, which is on top, to hydrogen


def test_the_first_example(tmp_path, monkeypatch, les_command):
    """README's first lines run as they are."""
    monkeypatch.chdir(tmp_path)
    text = README[README.index("## Try it") :]
    python, bash = (
        re.search(rf"```{language}\n(.*?)```", text, re.DOTALL)[1]
        for language in ("python", "bash")
    )
    scope: dict = {}
    exec(python, scope)
    results = scope["water"].calc.results
    assert np.shape(results["born_effective_charges"]) == (3, 9)
    for line in bash.splitlines():
        command, *words = shlex.split(line, comments=True)
        assert command == "les"
        assert les_command(*words) == 0
    assert read("molecule.xyz").symbols.get_chemical_formula() == "H2O"
    modes = (tmp_path / "molecule" / "modes.csv").read_text().splitlines()
    assert len(modes) > 3
