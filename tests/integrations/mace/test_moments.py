"""Training of models that read moments of atoms, by the command."""

from __future__ import annotations

import mace  # noqa: F401  (before e3nn)
import pytest
import torch
from ase.io import read, write

from les.testing.structures import dimer
from les_mace import load_model

MOMENTS = "{use_dipole: true, use_induced_dipole: true, self_consistent: true}"


@pytest.fixture(scope="module")
def run(train, arguments, tmp_path_factory):
    """Folder of a run with dipoles and polarisabilities."""
    folder = tmp_path_factory.mktemp("moments")
    train("--les", *arguments(folder, max_L=1, num_channels=4, les_arguments=MOMENTS))
    return folder


def test_training_and_prediction(run, les_command, tmp_path):
    model = load_model(run / "small.pt")
    readout = model.les_readouts[-1]
    config = model.les.config()
    assert config.use_dipole and config.use_induced_dipole and config.self_consistent
    # Biases start at zero.
    assert readout.dipoles.network[-1].bias.abs().min() > 0.0
    assert readout.alphas.network[-1].bias.abs().min() > 0.0
    write(tmp_path / "in.xyz", dimer(), format="extxyz")
    files = [str(run / "small.pt"), str(tmp_path / "in.xyz"), "-o", str(tmp_path / "out.xyz")]
    assert les_command("predict", *files, "--bec") == 0
    found = read(tmp_path / "out.xyz")
    assert found.arrays["LES_atomic_dipoles"].shape == (6, 3)
    assert found.arrays["LES_atomic_polarisabilities"].shape == (6,)
    total = found.arrays["LES_charges"] @ found.positions
    total = total + found.arrays["LES_atomic_dipoles"].sum(axis=0)
    assert found.info["LES_dipole"] == pytest.approx(total, abs=1e-6)


def test_from_a_model_with_moments(run, train, arguments, tmp_path):
    """It goes on with its own moments."""
    train("--les", *arguments(tmp_path, lr=1e-9, **{"from": run / "small.pt"}))
    start, after = load_model(run / "small.pt"), load_model(tmp_path / "small.pt")
    assert after.les.config() == start.les.config()
    state = after.state_dict()
    for key, value in start.state_dict().items():
        torch.testing.assert_close(state[key], value, rtol=0, atol=1e-6, msg=key)


def test_a_model_without_vectors(refused, arguments, tmp_path):
    message = refused([*arguments(tmp_path, les_arguments="{use_dipole: true}")])
    assert "`use_dipole` needs features of atoms that are vectors (1o)" in message
