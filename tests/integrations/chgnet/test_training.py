"""Training with upstream's Trainer: short real runs, and what they leave."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
import yaml
from ase import units
from ase.calculators.lj import LennardJones
from ase.io import read, write
from ase.stress import voigt_6_to_full_3x3_stress
from chgnet.data.dataset import StructureData, collate_graphs
from chgnet.model import CHGNet
from chgnet.trainer import Trainer
from pymatgen.core import Structure
from torch.utils.data import DataLoader

from les.backends import EpochRecord, TrainingJob, get_backend
from les.predict import predict
from les.testing.adapter import results_of
from les.testing.structures import CELLS, crystal, dimer
from les.training.errors import Errors
from les.training.loaders import EpochShuffle
from les_chgnet import CHGNetLES, LESCalculator, load_model


@pytest.fixture(scope="module")
def les_run(train, arguments, tmp_path_factory):
    """Folder of a run with LES."""
    folder = tmp_path_factory.mktemp("les") / "made" / "by the run"
    train("--les", *arguments(folder, epochs=4))
    return folder


def labelled_crystals(n_frames):
    """Crystals with energies, forces, stress and, but for the second, magnetic moments."""
    frames = []
    for index in range(n_frames):
        atoms = crystal(list(CELLS)[index % 3])  # upstream has left-handed cells wrong
        atoms.rattle(0.05, seed=index)
        atoms.calc = LennardJones(sigma=0.85, epsilon=0.2, rc=4.0, smooth=True)
        atoms.info["REF_energy"] = atoms.get_potential_energy() - 8.0
        atoms.arrays["REF_forces"] = atoms.get_forces()
        atoms.info["REF_stress"] = atoms.get_stress()
        if index != 1:
            atoms.arrays["REF_magmoms"] = np.linspace(-1.0, 1.0, len(atoms))
        atoms.calc = None
        frames.append(atoms)
    return frames


@pytest.fixture(scope="module")
def crystal_files(tmp_path_factory):
    """Options for a training and a validation file of crystals."""
    folder = tmp_path_factory.mktemp("crystals")
    frames = labelled_crystals(9)
    write(folder / "train.xyz", frames[:6], format="extxyz")
    write(folder / "valid.xyz", frames[6:], format="extxyz")
    return {"train_file": folder / "train.xyz", "valid_file": folder / "valid.xyz"}


def assert_equal(state, expected):
    """Bit for bit."""
    assert list(state) == list(expected)
    for key, value in expected.items():
        assert torch.equal(state[key], value), key


# --- what a run leaves


def test_files_of_a_run(les_run):
    endings = (".log", ".pth.tar", "_best.pth.tar", "_checkpoint.pth.tar", "_history.json")
    assert sorted(path.name for path in les_run.iterdir()) == sorted(f"small{x}" for x in endings)
    log = (les_run / "small.log").read_text()
    assert "Begin Training" in log
    assert "Epoch: [3]" in log
    for name in ("small", "small_best", "small_checkpoint"):
        assert type(load_model(les_run / f"{name}.pth.tar")) is CHGNetLES
    assert set(torch.load(les_run / "small.pth.tar", weights_only=True)) == {"model"}


def test_learning_curve(les_run, data_files):
    job = TrainingJob("small", les_run, les_run / "none.yaml", *data_files, seed=3)
    backend = get_backend("chgnet")
    assert backend.trained_model(job) == les_run / "small.pth.tar"
    history = backend.history(job)
    assert all(type(record) is EpochRecord for record in history)
    assert [record.epoch for record in history] == [0, 1, 2, 3]
    assert all(record.seconds > 0 for record in history)
    assert all(np.isfinite(record.train_loss) for record in history)
    assert len({record.train_loss for record in history}) == 4
    nobody = TrainingJob("other", les_run, les_run / "none.yaml", *data_files)
    with pytest.raises(FileNotFoundError, match=r"training has left no model .*other\.pth\.tar"):
        backend.trained_model(nobody)


def test_model_is_the_best_one(les_run, data_files):
    """That of the lowest validation loss, with the errors that the learning curve has."""
    history = json.loads((les_run / "small_history.json").read_text())
    best = min(history, key=lambda record: record["valid_loss"])
    state = torch.load(les_run / "small_best.pth.tar", weights_only=True)
    assert state["history"][-1]["epoch"] == best["epoch"]
    model = load_model(les_run / "small.pth.tar")
    assert_equal(model.state_dict(), state["model"]["state_dict"])
    calculator = LESCalculator(model, use_device="cpu")
    energy_errors, force_errors = [], []
    for frame in read(data_files[1], ":"):
        results = results_of(calculator, frame)
        energy_errors.append((results["energy"] - frame.info["REF_energy"]) / len(frame))
        force_errors.append((results["forces"] - frame.arrays["REF_forces"]).ravel())
    # Both are computed in float32, in different batches.
    energies = np.sqrt(np.mean(np.square(energy_errors)))
    assert best["valid_energy_rmse"] == pytest.approx(energies, rel=1e-4)
    forces = np.sqrt(np.mean(np.square(np.concatenate(force_errors))))
    assert best["valid_force_rmse"] == pytest.approx(forces, rel=1e-4)


def test_best_is_not_the_last(train, arguments, monkeypatch, tmp_path):
    """Validation loss 5, 2, 2, 3: the first of the lowest."""
    of_validation = iter([5.0, 2.0, 2.0, 3.0])

    def loss(self):
        if not hasattr(self, "loss_of_test"):
            self.loss_of_test = 9.0 if not self.sizes else next(of_validation)
        return self.loss_of_test

    monkeypatch.setattr(Errors, "loss", loss)
    train("--no-les", *arguments(tmp_path, epochs=4))
    state = torch.load(tmp_path / "small_best.pth.tar", weights_only=True)
    assert state["history"][-1]["epoch"] == 1
    weights = load_model(tmp_path / "small.pth.tar").state_dict()
    assert_equal(weights, state["model"]["state_dict"])
    last = load_model(tmp_path / "small_checkpoint.pth.tar").state_dict()
    assert not torch.equal(weights["mlp.layers.0.weight"], last["mlp.layers.0.weight"])


def test_closing(
    train, arguments, crystal_files, data_files, caplog, capsys, tmp_path, check_closing
):
    caplog.set_level("INFO", logger="les")
    test_file = data_files[1]
    crystals = {**crystal_files, "test_file": crystal_files["train_file"]}
    train("--les", *arguments(tmp_path / "efsm", targets="efsm", **crystals))
    train("--no-les", *arguments(tmp_path / "ef", test_file=test_file))
    output = capsys.readouterr()
    assert output.out == ""  # what upstream prints is in the log
    assert "validation MAE: energy" in output.err
    log = "".join(f"{record.getMessage()}\n" for record in caplog.records)
    sets = dict(zip(("train", "valid"), data_files))
    model = tmp_path / "ef" / "small.pth.tar"
    check_closing(log, get_backend("chgnet"), model, {**sets, "test": test_file})
    lines = log.splitlines()
    head = next(line for line in lines if "MAE / RMSE" in line)
    assert re.findall(r"(\w+) MAE / RMSE \[(.+?)\]", head) == [
        ("energy", "meV/atom"), ("forces", "meV/A"), ("stress", "meV/A^3"), ("magmoms", "mu_B"),
    ]  # fmt: skip
    rows = {line.split(" ")[0]: line.split("|")[1:] for line in reversed(lines) if "|" in line}
    assert rows["train"] == rows["test"] != rows["valid"]
    errors = {
        split: [tuple(map(float, x.split("/"))) for x in rows[split]] for split in ("valid", "test")
    }
    calculator = get_backend("chgnet").calculator(tmp_path / "efsm" / "small.pth.tar")
    predicted = predict(calculator, crystal_files["valid_file"], tmp_path / "out.xyz").errors
    assert f"{predicted.mae('magmoms'):.3g} / {predicted.rmse('magmoms'):.3g}" in rows["valid"][-1]
    assert all(0 < mae <= rmse for row in errors.values() for mae, rmse in row)
    history = json.loads((tmp_path / "efsm" / "small_history.json").read_text())
    best = min(history, key=lambda record: record["valid_loss"])
    assert errors["valid"][0][1] == pytest.approx(1e3 * best["valid_energy_rmse"], rel=1e-2)
    assert errors["valid"][1][1] == pytest.approx(1e3 * best["valid_force_rmse"], rel=1e-2)


def test_two_runs_in_one_folder(train, arguments, les_run, short_range_run, tmp_path):
    train("--no-les", *arguments(tmp_path, name="water_sr"))
    train("--les", *arguments(tmp_path, name="water", epochs=4))
    for name, folder, cls in (("water", les_run, CHGNetLES), ("water_sr", short_range_run, CHGNet)):
        model = load_model(tmp_path / f"{name}.pth.tar")
        assert type(model) is cls
        assert_equal(model.state_dict(), load_model(folder / "small.pth.tar").state_dict())


# --- with and without LES


@pytest.mark.parametrize("targets", ["efm", "efsm"])
def test_without_les_is_upstreams_own_run(
    small_options, train, arguments, crystal_files, targets, tmp_path
):
    """That of a script with upstream's Trainer and data set, and the same batches."""
    options = {"targets": targets, "atomic_energies": "keep", "batch_size": 4, "epochs": 3}
    train("--no-les", *arguments(tmp_path, **options, **crystal_files))
    ours = torch.load(tmp_path / "small_checkpoint.pth.tar", weights_only=True)

    torch.manual_seed(3)
    model = CHGNet(**yaml.safe_load(small_options["model"]))
    loaders = {}
    for name, path in crystal_files.items():
        frames = read(path, ":")
        stresses = [voigt_6_to_full_3x3_stress(x.info["REF_stress"]) for x in frames]
        data = StructureData(
            [
                Structure(x.cell[:], x.numbers, x.positions, coords_are_cartesian=True)
                for x in frames
            ],
            [x.info["REF_energy"] / len(x) for x in frames],
            [x.arrays["REF_forces"] for x in frames],
            stresses=[-10 * x / units.GPa for x in stresses] if "s" in targets else None,  # kBar
            magmoms=[x.arrays.get("REF_magmoms") for x in frames],
            graph_converter=model.graph_converter,
            shuffle=False,
        )
        loaders[name] = DataLoader(data, 3, collate_fn=collate_graphs)
    loaders["train_file"] = DataLoader(
        loaders["train_file"].dataset, 4, sampler=EpochShuffle(6, 3), collate_fn=collate_graphs
    )
    theirs = Trainer(model, targets=targets, epochs=3, use_device="cpu")
    theirs.train(*loaders.values(), save_dir=str(tmp_path / "upstream"))
    assert ours["training_history"].keys() == theirs.training_history.keys()
    if "s" in targets:  # upstream's unit of stress costs it the last digit
        for key, value in theirs.model.state_dict().items():
            torch.testing.assert_close(
                ours["model"]["state_dict"][key], value, rtol=1e-3, atol=1e-5
            )
        return
    assert ours["training_history"] == theirs.training_history
    assert_equal(ours["model"]["state_dict"], theirs.model.state_dict())
    assert ours["scheduler"] == theirs.scheduler.state_dict()


def test_upstream_reads_the_files_of_a_short_range_run(short_range_run, undone):
    with undone():
        ours = load_model(short_range_run / "small.pth.tar")
        assert type(ours) is CHGNet
        theirs = CHGNet.from_file(short_range_run / "small.pth.tar")
        assert_equal(theirs.state_dict(), ours.state_dict())
        trainer = Trainer.load(short_range_run / "small_checkpoint.pth.tar")
    assert trainer.starting_epoch == 2


# --- unusual data


@pytest.mark.parametrize("flag", ["--les", "--no-les"])
def test_missing_magmoms(flag, train, arguments, crystal_files, tmp_path):
    """Also where no frame of a batch has them."""
    options = {"targets": "efsm", "batch_size": 1, "valid_batch_size": 1, "epochs": 1}
    valid = labelled_crystals(4)[1:]
    write(tmp_path / "valid.xyz", valid, format="extxyz")
    files = {**crystal_files, "valid_file": tmp_path / "valid.xyz"}
    train(flag, *arguments(tmp_path, **options, **files))
    (record,) = json.loads((tmp_path / "small_history.json").read_text())
    assert all(np.isfinite(value) for value in record.values())


def test_isolated_atoms(train, arguments, data_files, tmp_path):
    """Beside molecules and crystals in one batch, and alone in one."""
    frames = read(data_files[0], ":4")
    lone = dimer()[:1]
    lone.info["REF_energy"] = -3.0
    lone.arrays["REF_forces"] = np.zeros((1, 3))
    write(tmp_path / "train.xyz", [*frames, lone], format="extxyz")
    write(tmp_path / "valid.xyz", [lone, *frames], format="extxyz")
    files = {"train_file": tmp_path / "train.xyz", "valid_file": tmp_path / "valid.xyz"}
    train("--les", *arguments(tmp_path, valid_batch_size=1, **files))
    (_, record) = json.loads((tmp_path / "small_history.json").read_text())
    assert all(np.isfinite(value) for value in record.values())


def test_wires_need_training_without_les(train, refused, arguments, crystal_files, tmp_path):
    frames = read(crystal_files["train_file"], ":")
    for frame in frames:
        frame.pbc = [True, False, False]
    write(tmp_path / "wires.xyz", frames, format="extxyz")
    options = arguments(tmp_path, **{**crystal_files, "train_file": tmp_path / "wires.xyz"})
    error = refused("--les", *options)
    assert f"{tmp_path / 'wires.xyz'}: frame 0: pbc must have 0, 2 or 3 axes true" in error
    train("--no-les", *options)
    assert (tmp_path / "small.pth.tar").is_file()


@pytest.mark.parametrize("flag", ["--les", "--no-les"])
def test_bad_labels(flag, refused, arguments, data_files, tmp_path):
    """Upstream leaves NaN out of the loss without a word."""
    frames = read(data_files[1], ":")
    frames[1].info["REF_energy"] = np.nan
    write(tmp_path / "bad.xyz", frames, format="extxyz")
    error = refused(flag, *arguments(tmp_path, valid_file=tmp_path / "bad.xyz"))
    assert f"{tmp_path / 'bad.xyz'}: frame 1: key 'REF_energy' holds NaN" in error
    error = refused(flag, *arguments(tmp_path, targets="efs"))
    assert "frame 0: an open structure (pbc false) has no stress" in error
    error = refused(flag, *arguments(tmp_path, energy_key="dft"))
    assert "frame 0: has no energy (looked for the key 'dft')" in error
    assert not list(tmp_path.glob("*.pth.tar"))
