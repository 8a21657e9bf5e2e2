"""``les train cace``: start, stages, resume, refusals, and what it leaves."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from ase.calculators.fd import calculate_numerical_stress
from ase.calculators.lj import LennardJones
from ase.io import read, write

import les.backends.registry
import les.training.loop
from les.backends import backend_of, get_backend
from les.data.labels import DataError
from les.testing.structures import crystal, dimer
from les.training.stages import to_stages
from les_cace import CACE, LESCalculator, load_model
from les_cace.data import LabelledStructures, collate_labelled, compare

OPTIONS = {
    "name": "small",
    "model": "{n_atom_basis: 2, cutoff: 3.5, n_rbf: 3, n_radial_basis: 2, max_l: 2, max_nu: 2}",
    "readout": "{n_layers: 2, n_hidden: 4}",
    "stages": "[{epochs: 2, energy: 1, forces: 10}, {epochs: 2, energy: 10, forces: 10}]",
    "batch_size": 3,
    "seed": 4,
}


@pytest.fixture(scope="module")
def small_options():
    return OPTIONS


@pytest.fixture(scope="module")
def crystals(tmp_path_factory):
    """A file of three crystals with stress."""
    frames = []
    for index in range(3):
        atoms = crystal("triclinic")
        atoms.rattle(0.05, seed=70 + index)
        atoms.calc = LennardJones(sigma=0.85, epsilon=0.2, rc=3.0, smooth=True)
        atoms.info["REF_energy"] = atoms.get_potential_energy() - 8.0
        atoms.info["REF_stress"] = atoms.get_stress()
        atoms.arrays["REF_forces"] = atoms.get_forces()
        atoms.calc = None
        frames.append(atoms)
    path = tmp_path_factory.mktemp("crystals") / "crystals.xyz"
    write(path, frames, format="extxyz")
    return path


def state(folder, name="small_checkpoint.cace.pt"):
    return torch.load(folder / name, weights_only=True)


def assert_equal(actual, expected):
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(actual[key], value), key


def test_what_a_run_leaves(train, arguments, data_files, crystals, tmp_path, caplog, check_closing):
    caplog.set_level("INFO", logger="les")
    train("--les", *arguments(tmp_path, test_file=crystals))
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        f"small{end}"
        for end in (".cace.pt", "_best.cace.pt", "_checkpoint.cace.pt", "_history.json")
    }
    history = json.loads((tmp_path / "small_history.json").read_text())
    assert [record["epoch"] for record in history] == [0, 1, 2, 3]
    assert all(np.isfinite(list(record.values())).all() for record in history)
    best = min(history, key=lambda record: record["valid_loss"])
    model = load_model(tmp_path / "small.cace.pt")
    assert model.les_config is not None
    assert model.representation.zs == [1, 8]
    calculator = LESCalculator(model, dtype="float64")
    errors = []
    for frame in read(data_files[1], ":"):
        calculator.calculate(frame)
        errors.append((calculator.results["energy"] - frame.info["REF_energy"]) / len(frame))
    rmse = np.sqrt(np.mean(np.square(errors)))
    assert rmse == pytest.approx(best["valid_energy_rmse"], rel=1e-2)
    sets = {"train": data_files[0], "valid": data_files[1], "test": crystals}
    log = "".join(f"{record.getMessage()}\n" for record in caplog.records)
    check_closing(log, get_backend("cace"), tmp_path / "small.cace.pt", sets)


def test_same_backbone_and_data_with_and_without_les(arguments, monkeypatch, les_command, tmp_path):
    models, orders = [], []

    def stop(loop, train_loader, valid_loader):
        models.append(loop.model)
        orders.append([len(batch.numbers) for batch, _ in train_loader])
        raise ValueError("enough")

    monkeypatch.setattr(les.training.loop.Loop, "train", stop)
    for flag in ("--les", "--no-les"):
        assert les_command("train", "cace", flag, *arguments(tmp_path)) == 1
    with_charges, without = (model.state_dict() for model in models)
    assert orders[0] == orders[1]
    for key, value in without.items():
        if key != "atomic_energies":  # fitted with the energy of the charges
            assert torch.equal(with_charges[key], value), key
    assert set(with_charges) - set(without)


def test_learning(train, arguments, tmp_path):
    stages = "[{epochs: 40, energy: 1, forces: 10}]"
    train("--les", *arguments(tmp_path, stages=stages, ema_decay=0, learning_rate=0.03))
    history = json.loads((tmp_path / "small_history.json").read_text())
    assert history[-1]["train_loss"] < 0.3 * history[0]["train_loss"]


def assert_same_results(one, other):
    """Bit for bit, but for the time that it took."""
    actual, expected = state(one), state(other)
    assert_equal(actual["model"]["state_dict"], expected["model"]["state_dict"])
    assert_equal(actual["average"] or {}, expected["average"] or {})
    for before, after in zip(expected["history"], actual["history"], strict=True):
        assert {**before, "seconds": 0} == {**after, "seconds": 0}
    models = [state(folder, "small.cace.pt")["state_dict"] for folder in (one, other)]
    assert_equal(*models)


@pytest.mark.parametrize("changes", [{}, {"scheduler": "plateau"}, {"ema_decay": 0}])
@pytest.mark.parametrize(
    ("file", "n"),
    [("small_best.cace.pt", 1), ("small_checkpoint.cace.pt", 2), ("small_history.json", 2)],
)
def test_killed_and_continued(file, n, changes, train, arguments, killed, tmp_path):
    """While a file is nearly written: the result is the same, bit for bit."""
    train("--les", *arguments(tmp_path / "whole", **changes))
    options = arguments(tmp_path / "killed", **changes)
    assert killed(file, n, "--les", *options) == 130
    train("--les", *options, "--resume")
    assert_same_results(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.parametrize("epochs", [3, 4])
def test_charges_first(epochs, train, arguments, killed, monkeypatch, tmp_path):
    """The short-range part is trained after them, also in a run that is continued."""
    options = arguments(tmp_path, freeze_short_range_epochs=epochs)
    initial = {}
    steps = les.training.loop.Loop._steps

    def remember(loop, loader):
        if loop.n_done == 0:
            initial.update({key: x.clone() for key, x in loop.model.state_dict().items()})
        return steps(loop, loader)

    monkeypatch.setattr(les.training.loop.Loop, "_steps", remember)
    assert killed("small_checkpoint.cace.pt", 2, "--les", *options) == 130
    train("--les", *options, "--resume")
    final = state(tmp_path)["model"]["state_dict"]
    for key, moves in (
        ("charge_readout.network.0.weight", True),
        ("readout.network.0.weight", epochs == 3),
        ("representation.mixing.0", epochs == 3),
    ):
        assert torch.equal(final[key], initial[key]) != moves, key


def test_random_charges(train, refused, arguments, killed, tmp_path):
    """They depend on nothing but element and seed, and stay, also in a run that is continued."""
    options = [*arguments(tmp_path), "--random_charges"]
    assert killed("small_checkpoint.cace.pt", 2, "--les", *options) == 130
    before = state(tmp_path)["model"]["state_dict"]
    train("--les", *options, "--resume")
    after = state(tmp_path)["model"]["state_dict"]
    of_charges = {key for key in after if key.startswith("charge_readout.")}
    assert_equal(*({key: found[key] for key in of_charges} for found in (before, after)))
    assert not torch.equal(before["readout.network.0.weight"], after["readout.network.0.weight"])
    random = "charge_readout.of_elements.charges"
    assert after[random].abs().min() > 1e-3
    assert all(not after[key].any() for key in of_charges - {random})
    elsewhere = arguments(tmp_path / "other", les_arguments="{element_charges: false}")
    assert "`element_charges` must be true" in refused("--les", *elsewhere, "--random_charges")


def test_model_in_a_checkpoint(train, arguments, tmp_path):
    """With the averaged weights, which are validated, and energies in double precision."""
    train("--les", *arguments(tmp_path, epochs=4))
    model, content = load_model(tmp_path / "small_checkpoint.cace.pt"), state(tmp_path)
    averages = {f"module.{key}": value for key, value in model.state_dict().items()}
    assert_equal({**averages, "n_averaged": content["average"]["n_averaged"]}, content["average"])
    key = "readout.network.0.weight"
    assert not torch.equal(model.state_dict()[key], content["model"]["state_dict"][key])
    assert model.atomic_energies.dtype == torch.float64
    assert model.representation.sender_embedding.dtype == torch.float32


def test_start_is_not_needed_to_continue(train, arguments, killed, tmp_path):
    """The file of ``--from``."""
    first = tmp_path / "first"
    train("--no-les", *arguments(first, epochs=1))
    fine_tuning = {"from": first / "small.cace.pt", "model": None, "readout": None}
    train("--les", *arguments(tmp_path / "whole", **fine_tuning))
    options = arguments(tmp_path / "killed", **fine_tuning)
    assert killed("small_history.json", 2, "--les", *options) == 130
    (first / "small.cace.pt").unlink()
    train("--les", *options, "--resume")
    assert_same_results(tmp_path / "killed", tmp_path / "whole")


def test_runs_that_are_not_continued(train, refused, arguments, tmp_path):
    options = arguments(tmp_path, epochs=2)
    train("--les", *options)
    assert "continue that run with --resume" in refused("--les", *options)
    assert "with `les` = True, this one has False" in refused("--no-les", *options, "--resume")
    changed = arguments(tmp_path, epochs=2, learning_rate=1e-3)
    assert "with `learning_rate` = 0.005" in refused("--les", *changed, "--resume")
    (tmp_path / "small_checkpoint.cace.pt").write_bytes(b"nothing")
    message = "small_checkpoint.cace.pt (7 bytes) is no CACE model"
    assert message in refused("--les", *options, "--resume")
    torch.save(state(tmp_path, "small.cace.pt"), tmp_path / "small_checkpoint.cace.pt")
    message = "small_checkpoint.cace.pt is no state of a training: it lacks 'model'"
    assert message in refused("--les", *options, "--resume")


def test_charges_added_to_a_trained_model(train, refused, arguments, tmp_path):
    train("--no-les", *arguments(tmp_path / "sr"))
    first = tmp_path / "sr" / "small.cace.pt"
    fine_tuning = {"from": first, "model": None, "readout": None, "atomic_energies": "keep"}
    train("--les", *arguments(tmp_path / "les", **fine_tuning, epochs=1, learning_rate=1e-12))
    before, after = load_model(first).state_dict(), load_model(tmp_path / "les" / "small.cace.pt")
    for key, value in before.items():
        torch.testing.assert_close(after.state_dict()[key], value, rtol=0, atol=1e-6)
    again = {**fine_tuning, "from": tmp_path / "les" / "small.cace.pt"}
    assert "has charges; train it with --les" in refused("--no-les", *arguments(tmp_path, **again))
    message = refused(
        "--les", *arguments(tmp_path / "new", **{**fine_tuning, "model": "{max_l: 1}"})
    )
    assert "--from excludes --model" in message


def test_several_charges_on_each_atom(train, arguments, tmp_path):
    train("--les", *arguments(tmp_path, epochs=2, les_arguments="{n_channels: 4}"))
    assert load_model(tmp_path / "small.cace.pt").les_config.n_channels == 4


def test_stress(train, arguments, crystals, tmp_path, caplog):
    caplog.set_level("INFO", logger="les")
    files = {"train_file": crystals, "valid_file": crystals, "ema_decay": 0, "learning_rate": 0.03}
    errors = []
    for epochs in (1, 30):
        stages = f"[{{epochs: {epochs}, stress: 1}}]"
        caplog.clear()
        train("--les", *arguments(tmp_path / str(epochs), stages=stages, **files))
        table = next(record.message for record in caplog.records if "MAE / RMSE" in record.message)
        assert "stress" in table
        errors.append(float(table.splitlines()[-1].split("/")[-1]))
    assert errors[1] < 0.7 * errors[0]


@pytest.mark.parametrize(
    ("name", "pbc"),
    [("triclinic", (1, 1, 1)), ("triclinic", (1, 0, 1)), ("left-handed", (1, 1, 0))],
)
@pytest.mark.parametrize("with_charges", [False, True])
def test_own_predictions_as_labels(small, with_charges, name, pbc, tmp_path):
    """Stress from finite differences of energies leaves no error in the loss, slabs included."""
    torch.manual_seed(2)
    model = CACE(small, {"output_scaling_factor": 0.3} if with_charges else None).double()
    atoms = crystal(name)
    atoms.set_cell(atoms.cell[:] * np.where(pbc, 1.0, 2.0)[:, None])
    atoms.pbc = pbc
    frame = atoms.copy()
    atoms.calc = LESCalculator(model)
    frame.info["REF_energy"] = atoms.get_potential_energy()
    frame.info["REF_stress"] = calculate_numerical_stress(atoms, 1e-5, force_consistent=False)
    frame.arrays["REF_forces"] = atoms.get_forces()
    write(tmp_path / "own.xyz", frame, format="extxyz")
    data = LabelledStructures(tmp_path / "own.xyz", model.cutoff, ("energy", "forces", "stress"))
    for label, (predicted, expected) in compare(model, collate_labelled([data[0]])).items():
        assert expected.abs().max() > 1e-4, label
        torch.testing.assert_close(predicted, expected, rtol=0, atol=1e-7)
    frame.cell[pbc.index(0) if 0 in pbc else 2] = 0.0
    frame.pbc = pbc if 0 in pbc else (1, 1, 0)
    write(tmp_path / "flat.xyz", frame, format="extxyz")
    with pytest.raises(DataError, match=r"frame 0: a cell without a volume, .* has no stress"):
        LabelledStructures(tmp_path / "flat.xyz", model.cutoff, ("energy", "stress"))


def test_forces_alone(train, arguments, tmp_path):
    """Without energies there are no reference energies to fit."""
    train("--les", *arguments(tmp_path, stages="[{epochs: 1, forces: 1}]"))
    model = load_model(tmp_path / "small.cace.pt")
    assert model.atomic_energies.abs().max() == 0.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": "[{epochs: 1, stress: 1, energy: 1}]"}, "has no stress to train on"),
        ({"model": "{max_l: 2, max_nuu: 2}"}, "did you mean 'max_nu'"),
        ({"model": "{zs: [1]}"}, "knows the elements H, got O"),
        ({"model": "{zs: [H, O]}"}, "`zs` must be a list of different atomic numbers"),
        ({"model": "{cutoff: abc}"}, "`cutoff` must be a number above 0, got 'abc'"),
        ({"readout": "{n_layers: many}"}, "`n_layers` must be a whole number"),
        ({"model": "{max_nu: 7}"}, "1, 2, 3 or 4"),
        ({"readout": "{n_layer: 2}"}, "did you mean 'n_layers'"),
        ({"les_arguments": "{sigm: 1}"}, "did you mean 'sigma'"),
        ({"energy_key": "dft"}, r"has no energy \(looked for the key 'dft'"),
        ({"train_file": "none.xyz"}, "none.xyz: cannot be read"),
        ({"from": "none.pt", "model": None, "readout": None}, "no CACE model file none.pt"),
        ({"device": "abacus"}, "abacus"),
        ({"learning_rate": 1e30, "ema_decay": 0}, "training diverged.*--learning_rate"),
        (
            {"learning_rate": 1e30, "ema_decay": 0, "batch_size": 12},  # seen in the validation
            "training diverged.*--learning_rate",
        ),
    ],
)
def test_bad_settings(changes, message, refused, arguments, tmp_path):
    error = refused("--les", *arguments(tmp_path, **changes))
    assert re.search(message, error), error


def test_stages_on_the_command_line(arguments, capsys, les_command, tmp_path):
    for text in (
        "{epochs: 1}",
        "[{energy: 1}]",
        "[{epochs: 1, forse: 2}]",
        "[{epochs: 0, energy: 1}]",
        "[{epochs: 1.9, energy: 1}]",
        "[{epochs: .inf, energy: 1}]",
        "[{epochs: 1, energy: .nan}]",
        "[]",
    ):
        with pytest.raises(SystemExit):
            les_command("train", "cace", "--les", *arguments(tmp_path, stages=text))
        assert "argument --stages" in capsys.readouterr().err


def test_configurations_parse():
    from les_cace.arguments import parse

    files = ["--train_file=a", "--valid_file=b"]
    configs = get_backend("cace").configs()
    assert set(configs) == {"water", "dipeptides", "au2_mgo"}
    for path in configs.values():
        for les_flag in (True, False):
            options = parse([f"--config={path}", *files, "--epochs=8"], les=les_flag)
            stages = to_stages(options.stages, options.epochs)
            assert sum(stage.epochs for stage in stages) == 8


def test_published_file_on_the_command_line(reference_dir, les_command, capsys, tmp_path):
    source = reference_dir / "checkpoints" / "cace_les_water_r45_nu2.pth"
    target = tmp_path / "water.cace.pt"
    assert les_command("convert", "cace", source, tmp_path / "water.pt", "--allow-pickle") == 1
    assert "must end with .cace.pt" in capsys.readouterr().err
    assert les_command("convert", "cace", source, target) == 1
    assert "--allow-pickle" in capsys.readouterr().err
    assert les_command("convert", "cace", source, target, "--allow-pickle") == 0
    assert load_model(target).representation.cutoff == 4.5
    assert les_command("convert", "cace", source, target, "--allow-pickle") == 1
    assert "exists already" in capsys.readouterr().err
    assert les_command("convert", "cace", target, tmp_path / "again.cace.pt") == 1
    assert "is a model file of les already" in capsys.readouterr().err
    assert les_command("doctor", target) == 0
    assert "norm_factor = 90.0474 eV A / e^2 instead of 90.4756" in capsys.readouterr().out
    write(tmp_path / "some.xyz", [crystal("cubic"), dimer()], format="extxyz")
    output = tmp_path / "out.xyz"
    assert les_command("predict", target, tmp_path / "some.xyz", "--bec", "-o", output) == 0
    assert all("LES_charges" in frame.arrays for frame in read(output, ":"))


def test_backend_of_a_model_file(monkeypatch):
    """The longest ending counts, whatever the order: that of MACE is shorter."""
    for names in (["cace", "mace"], ["mace", "cace"]):
        monkeypatch.setattr(les.backends.registry, "backend_names", lambda names=names: names)
        assert backend_of("runs/water.cace.pt") == "cace"
        assert backend_of("cace.pt") == "mace"
