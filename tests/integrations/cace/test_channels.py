"""Several charges on each atom."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.io import read, write

from les import Ewald
from les.testing.structures import crystal, dimer
from les_cace import CACE, LESCalculator, load_model, save_model
from les_cace.batches import collate, to_structure


@pytest.fixture(params=[1, 4, 16])
def model(request, small):
    torch.manual_seed(6)
    settings = {"n_channels": request.param, "output_scaling_factor": 0.3}
    return CACE(small, settings).double().eval()


def batch_of(*structures):
    return collate([to_structure(atoms, 4.0) for atoms in structures])


def test_channels_add_up(model):
    batch = batch_of(crystal("triclinic"), dimer())
    out = {key: value.detach() for key, value in model(batch).items()}
    n_channels = model.les_config.n_channels
    assert out["latent_charges"].shape == (len(batch.numbers), n_channels)
    each = [
        Ewald()(charges, batch.positions, batch.cell, batch.batch, batch.pbc)[0]
        for charges in out["latent_charges"].T
    ]
    assert out["les_energy"].abs().min() > 1e-6
    torch.testing.assert_close(out["les_energy"], sum(each))
    torch.testing.assert_close(
        torch.zeros(2).double().index_add(0, batch.batch, out["energies"]), out["energy"]
    )
    assert ("charges" in out) == ("dipole" in out) == (n_channels == 1)


def test_forces(model):
    """Against finite differences of the energy."""
    structure = crystal("triclinic")
    calculator = LESCalculator(model)
    calculator.calculate(structure)
    forces = calculator.results["forces"]
    for atom, axis in ((0, 0), (3, 2)):
        energies = []
        for sign in (1, -1):
            moved = structure.copy()
            moved.positions[atom, axis] += sign * 1e-4
            calculator.calculate(moved)
            energies.append(calculator.results["energy"])
        expected = (energies[1] - energies[0]) / 2e-4
        assert forces[atom, axis] == pytest.approx(expected, abs=1e-7)


def test_training(model):
    model.train()
    out = model(batch_of(crystal("cubic"), dimer()))
    (out["forces"] ** 2).sum().backward()
    weight = model.charge_readout.network[-1].weight
    assert weight.shape[0] == model.les_config.n_channels
    assert (weight.grad.abs().amax(dim=1) > 0.0).all()


def test_files(model, tmp_path):
    save_model(model, tmp_path / "model.cace.pt")
    again = load_model(tmp_path / "model.cace.pt")
    assert again.les_config == model.les_config
    batch = batch_of(dimer())
    for key, value in model(batch).items():
        torch.testing.assert_close(again(batch)[key], value, rtol=1e-12, atol=1e-14)


def test_results(small, tmp_path, les_command):
    """No charges, dipoles and Born effective charges: there is no physical charge."""
    torch.manual_seed(6)
    model = CACE(small, {"n_channels": 4}).double()
    calculator = LESCalculator(model)
    calculator.calculate(dimer())
    assert calculator.results["latent_charges"].shape == (len(dimer()), 4)
    assert not {"charges", "dipole"} & {*calculator.results, *calculator.implemented_properties}
    with pytest.raises(ValueError, match="one charge on each atom, this has 4"):
        LESCalculator(model, bec=True)
    save_model(model, tmp_path / "model.cace.pt")
    write(tmp_path / "in.xyz", [dimer(), crystal("cubic")], format="extxyz")
    output = tmp_path / "out.xyz"
    options = ["--backend", "cace", "-o", output]
    assert les_command("predict", tmp_path / "model.cace.pt", tmp_path / "in.xyz", *options) == 0
    written = read(output, 0).arrays["LES_latent_charges"]
    expected = model(batch_of(dimer()))["latent_charges"].detach()
    np.testing.assert_allclose(written, expected, atol=1e-8)


@pytest.mark.parametrize("value", [0, -1, 1.5, "four"])
def test_bad_numbers(small, value):
    with pytest.raises(ValueError, match="`n_channels` must be a positive integer"):
        CACE(small, {"n_channels": value})
