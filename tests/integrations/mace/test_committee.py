"""Committees of MACE models, in Python and on the command line."""

from __future__ import annotations

import copy

import mace  # noqa: F401  (before e3nn)
import numpy as np
import pytest
import torch
from ase.io import read, write

from les.backends.committee import Committee
from les.testing.adapter import results_of
from les.testing.structures import crystal, dimer
from les_mace import MACELES, LESCalculator, save_model


@pytest.fixture(scope="module")
def opposite(model, scale_charges):
    """A model of the same energy, whose charges have the other sign."""
    twin = copy.deepcopy(model)
    scale_charges(twin, -1.0)
    return twin


@pytest.fixture(scope="module")
def another(short_range_model, scale_charges):
    torch.manual_seed(8)
    other = MACELES.from_short_range(short_range_model)
    scale_charges(other, 4.0)
    return other


def test_opposite_charges_of_equal_models(model, opposite):
    expected = results_of(LESCalculator(model, bec=True), crystal())
    calculators = [LESCalculator(each, bec=True) for each in (model, opposite)]
    results = results_of(Committee(calculators), crystal())
    assert np.abs(results["charges"]).max() > 1e-2
    for key in ("energy", "forces", "stress", "charges", "dipole", "born_effective_charges"):
        np.testing.assert_allclose(results[key], expected[key], atol=1e-10, err_msg=key)
        np.testing.assert_allclose(results[f"{key}_std"], 0.0, atol=1e-10, err_msg=key)


def test_means_of_different_models(model, another):
    each = [results_of(LESCalculator(one), crystal()) for one in (model, another)]
    results = results_of(Committee([LESCalculator(one) for one in (model, another)]), crystal())
    for key in ("energy", "forces", "les_energy"):
        mean = (each[0][key] + each[1][key]) / 2
        np.testing.assert_allclose(results[key], mean, atol=1e-12, err_msg=key)
        spread = np.abs(each[0][key] - each[1][key]) / 2
        np.testing.assert_allclose(results[f"{key}_std"], spread, atol=1e-12, err_msg=key)


def test_on_the_command_line(les_command, model, opposite, tmp_path, capsys):
    files = [tmp_path / "one.pt", tmp_path / "two.pt"]
    for path, each in zip(files, (model, opposite), strict=True):
        save_model(each, path)
    structures, output = tmp_path / "in.xyz", tmp_path / "out.traj"
    write(structures, [dimer(), crystal()], format="extxyz")
    assert les_command("predict", *files, structures, "-o", output) == 0
    assert "2 structures written" in capsys.readouterr().out
    alone = LESCalculator(model)
    for written, atoms in zip(read(output, ":"), read(structures, ":"), strict=True):
        expected = results_of(alone, atoms)
        for key in ("energy", "forces", "charges", "dipole"):
            np.testing.assert_allclose(written.info[f"LES_{key}"], expected[key], atol=1e-10)
            np.testing.assert_allclose(written.info[f"LES_{key}_std"], 0.0, atol=1e-10)
    assert les_command("predict", files[0], structures, "-o", files[1]) == 1
    assert "must end with .xyz" in capsys.readouterr().err
    gold = dimer()
    gold.symbols[0] = "Au"
    write(structures, gold, format="extxyz")
    assert les_command("predict", *files, structures, "-o", output, "--force") == 1
    assert f"frame 0: {files[0]}: the model knows the elements H, O" in capsys.readouterr().err
