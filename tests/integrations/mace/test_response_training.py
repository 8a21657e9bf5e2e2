"""Training on Born effective charges and dipoles, in upstream's loss."""

from __future__ import annotations

import copy
import re

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.io import read, write
from mace.data import AtomicData, KeySpecification, config_from_atoms
from mace.tools import AtomicNumberTable
from mace.tools.torch_geometric import Batch, DataLoader
from mace.tools.torch_tools import default_dtype

import les_mace.atomic_energies
from les.testing import (
    ChargedTrainingTests,
    ChargesFirstTests,
    ChargeStateTrainingTests,
    FieldTrainingTests,
    ResponseTrainingTests,
    SettledEnergiesTests,
    UnusedSettingsTests,
)
from les.testing.adapter import results_of
from les.testing.structures import dimer
from les_mace import LESCalculator, load_model, save_model
from les_mace.atomic_energies import fit_atomic_energies
from les_mace.neighbours import own_cells
from les_mace.readouts import negate
from les_mace.responses import errors


@pytest.fixture
def refused(les_command, capsys):
    """A function that runs ``les train mace ...``, which must fail; its message."""

    def run(*arguments):
        capsys.readouterr()
        assert les_command("train", "mace", *arguments) == 1
        lines = capsys.readouterr().err.splitlines()
        assert "Traceback" not in "".join(lines)
        return next(line for line in lines if line.startswith("les: error: "))

    return run


@pytest.fixture
def usage_error(les_command, capsys):
    """A function that runs ``les train mace ...`` with wrong options; its message."""

    def run(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            les_command("train", "mace", *arguments)
        assert caught.value.code == 2
        return capsys.readouterr().err

    return run


class TestSettledEnergies(SettledEnergiesTests):
    module = les_mace.atomic_energies
    trained = "small.pt"
    learning_rates = ("learning_rate", "swa_lr")
    at_the_start = False  # averages of the data
    killed_late = True

    def stages(self, arguments, folder, n_stages, **changes):
        second = ["--start_swa=2"] * (n_stages == 2)  # which implies --swa
        self.killed_at = (f"small_run-3_epoch-2{'_swa' * (n_stages == 2)}.pt", 1)
        return [*arguments(folder, max_num_epochs=3, **changes), *second]

    @pytest.mark.parametrize("source", ["given", "isolated"])
    def test_energies_that_are_no_averages(
        self, source, train, arguments, data_files, tmp_path, monkeypatch, caplog
    ):
        """They mean something else, and stay."""
        changes = {"E0s": "{1: -1.0, 8: -2.0}"}
        if source == "isolated":
            frames = read(data_files[0], ":")
            for symbol, energy in (("H", -1.0), ("O", -2.0)):
                info = {"config_type": "IsolatedAtom", "REF_energy": energy}
                forces = {"REF_forces": np.zeros((1, 3))}
                frames.append(Atoms(symbol, info=info))
                frames[-1].arrays.update(forces)
            changes = {"train_file": tmp_path / "train.xyz"}
            write(changes["train_file"], frames, format="extxyz")
        monkeypatch.setattr(self.module, "fit_atomic_energies", None)
        with caplog.at_level("INFO", "les"):
            train("--les", *self.stages(arguments, tmp_path, 2, **changes))
        assert "not fitted again: they are no averages" in caplog.text
        energies = self.reference_energies_in(tmp_path).flatten()
        torch.testing.assert_close(energies, torch.tensor([-1.0, -2.0]).to(energies))

    def epochs_done(self, folder, *_):
        return 1 + epoch_of(newest_checkpoint(folder))

    def reference_energies_in(self, folder):
        content = torch.load(newest_checkpoint(folder), weights_only=True)
        return content["model"]["atomic_energies_fn.atomic_energies"]


def test_elements_that_do_not_occur(model):
    """They keep their energies, and the others are right on average."""
    fitted = copy.deepcopy(model)
    keys = KeySpecification(info_keys={"energy": "REF_energy"})
    graphs = []
    with default_dtype("float64"), own_cells():
        for distance in (0.7, 0.8):
            molecule = Atoms("H2", [(0, 0, 0), (0, 0, distance)], info={"REF_energy": -3.0})
            configuration = config_from_atoms(molecule, keys)
            table = AtomicNumberTable([1, 8])
            graphs.append(AtomicData.from_config(configuration, z_table=table, cutoff=4.0))
        fit_atomic_energies(fitted, DataLoader(graphs, 2))
        energies = fitted(Batch.from_data_list(graphs).to_dict(), compute_force=False)["energy"]
    assert energies.mean().item() == pytest.approx(-3.0, abs=1e-9)
    of_hydrogen, of_oxygen = fitted.atomic_energies_fn.atomic_energies.flatten().tolist()
    assert of_oxygen == -2.0
    assert of_hydrogen != -1.0


def newest_checkpoint(folder):
    return max(folder.glob("checkpoints/*.pt"), key=epoch_of)


def epoch_of(checkpoint):
    return int(re.search(r"epoch-(\d+)", checkpoint.name)[1])


class TestChargesFirst(ChargesFirstTests):
    of_the_model = ("E0s",)
    rounding = 1e-9  # in double precision


class TestResponseTraining(ResponseTrainingTests):
    weight = 1000.0  # against the forces of data without charges
    learning = {"max_num_epochs": 12, "lr": 0.02}  # noqa: RUF012

    def test_a_part_of_born_effective_charges(self, refused, arguments, labelled, tmp_path):
        given = {"bec_weight": 1.0, "les_arguments": "{bec_output_index: 1}"}
        message = refused("--les", *arguments(tmp_path, **labelled, **given))
        assert "the model has only that of its `bec_output_index`, 1" in message


class TestChargedTraining(ChargedTrainingTests):
    pass


class TestFieldTraining(FieldTrainingTests):
    learning = {"max_num_epochs": 20, "lr": 0.02, "charge_learning_rate": 0.1}  # noqa: RUF012
    with_stress = ("--loss=stress",)


class TestUnusedSettings(UnusedSettingsTests):
    unused = {  # noqa: RUF012
        **UnusedSettingsTests.unused,
        "n_features": 4,
        "n_layers": 2,
        "n_hidden": [8, 8],
        "add_linear_nn": False,
        "element_charges": True,
        "output_scaling_factor": 1.0,
    }


class TestChargeStateTraining(ChargeStateTrainingTests):
    @pytest.fixture
    def learning_states(self):
        weights = {"energy_weight": 100, "forces_weight": 1}
        return {"max_num_epochs": 25, "lr": 0.03, **weights}


def test_weights_of_components():
    """Upstream's weights of dipoles may be one for each component."""
    atoms = dimer()
    atoms.info |= {"REF_dipole": np.array([1.0, 2.0, 3.0]), "config_dipole_weight": [0.0, 1.0, 0.5]}
    keys = KeySpecification(info_keys={"dipole": "REF_dipole"})
    graph = AtomicData.from_config(
        config_from_atoms(atoms, keys), z_table=AtomicNumberTable([1, 8]), cutoff=4.0
    )
    found = errors("dipole", Batch.from_data_list([graph]), {"dipole": torch.zeros(1, 3)})
    assert [each.tolist() for each in found] == [[-2.0, -3.0], [1.0, 0.5]]


def test_a_start_with_the_other_sign(les_run, train, arguments, data_files, tmp_path, caplog):
    """It is turned before the first step: where both begin, the errors are the same."""
    caplog.set_level("INFO")
    frames = read(data_files[0], ":")
    for atoms in frames:
        nominal = np.where(atoms.numbers == 8, -0.8, 0.4)
        atoms.arrays["REF_bec"] = np.outer(nominal, np.eye(3).ravel())
    write(tmp_path / "bec.xyz", frames, format="extxyz")
    model = load_model(les_run / "small.pt")
    before = model.state_dict()["les_readouts.0.linear.weight"].clone()
    initial = []
    for name in ("one", "other"):
        save_model(model, tmp_path / f"{name}.pt")
        files = dict.fromkeys(("train_file", "valid_file"), tmp_path / "bec.xyz")
        given = {**files, "max_num_epochs": 1, "bec_weight": 10.0, "lr": 1e-9}
        options = [x for x in arguments(tmp_path / name, **given) if not x.startswith("--E0s")]
        train("--les", *options, f"--from={tmp_path / f'{name}.pt'}")
        initial.append(re.findall(r"RMSE_bec= *([0-9.]+) e", caplog.text)[0])
        caplog.clear()
        negate(model.les_readouts)
        assert torch.equal(model.state_dict()["les_readouts.0.linear.weight"], -before) == (
            name == "one"
        )
    assert initial[0] == initial[1]
    trained = [load_model(tmp_path / name / "small.pt") for name in ("one", "other")]
    for each in trained:
        charges = results_of(LESCalculator(each, sign=1), frames[0])["charges"]
        oxygen = charges[frames[0].numbers == 8].mean()
        assert oxygen < charges.mean()
