"""Runs with the options of the other models: where they leave what, and how they continue."""

from __future__ import annotations

import json

import pytest
import torch
import yaml
from nequip.train import NequIPLightningModule

from les.backends import get_backend
from les.legacy import settings_of_new_models
from les.locks import locked
from les.testing.adapter import results_of
from les.testing.structures import crystal
from les_nequip.program import Outcome
from les_nequip.training import _close

pytestmark = pytest.mark.usefixtures("nequip_state")

BACKEND = get_backend("nequip")


@pytest.fixture(scope="module")
def steady_config(make_config):
    """What an epoch does depends neither on how many there are, nor on those before."""
    path = make_config("steady")
    content = yaml.safe_load(path.read_text())
    content["training_module"]["lr_scheduler"]["scheduler"]["T_max"] = 9
    content["data"]["train_dataloader"]["shuffle"] = False
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def small_options(steady_config):
    return {"config": steady_config, "name": "run", "epochs": 2}


@pytest.fixture(scope="module")
def finished(train, arguments, tmp_path_factory):
    """The folder of a run of three epochs."""
    folder = tmp_path_factory.mktemp("finished")
    train("--les", *arguments(folder, epochs=3))
    return folder


def weights(folder, name="last"):
    content = torch.load(folder / "run" / f"{name}.ckpt", weights_only=True)["state_dict"]
    return {key: value for key, value in content.items() if key.startswith("model.")}


def assert_same_weights(folder, other):
    for key, value in weights(other).items():
        torch.testing.assert_close(weights(folder)[key], value, rtol=0, atol=1e-9)


# --- what a run leaves


def test_files_of_a_run(finished):
    assert sorted(path.name for path in finished.iterdir()) == ["run", "run.nequip.pt"]
    left = {path.name for path in (finished / "run").iterdir()}
    assert {"best.ckpt", "last.ckpt", "finished", "logs", "settings.json"} <= left
    assert not any(name.endswith((".part", ".lock")) for name in left)


@pytest.mark.parametrize("kind", ["nequip", "allegro"])
@pytest.mark.parametrize("flag", ["--les", "--no-les"])
def test_closing(kind, flag, les_command, arguments, data_files, make_config, tmp_path, capsys):
    """Errors on all sets, the best model, and how to use it, which needs no trust."""
    options = arguments(tmp_path, config=make_config(kind=kind), epochs=1, test_file=data_files[1])
    assert les_command("train", kind, flag, *options) == 0
    text = capsys.readouterr().out  # where Hydra has the log
    for row in ("train |", "valid |", "test  |"):
        assert row in text
    model = tmp_path / "run.nequip.pt"
    assert f"best model: {model}" in text
    assert f"les predict {model} structures.xyz" in text
    calculator = get_backend(kind).calculator(model)
    assert calculator.long_range == (flag == "--les")
    assert "stress" in results_of(calculator, crystal())


def test_closing_without_labelled_frames(finished, tmp_path, caplog):
    """As of data that are not in files; the model can be used all the same."""
    outcome = Outcome(finished / "run" / "best.ckpt", torch.device("cpu"))
    caplog.set_level("INFO", "les")
    _close(BACKEND, outcome, tmp_path / "run.nequip.pt", {}, bec=False)
    assert f"les predict {tmp_path / 'run.nequip.pt'} structures.xyz" in caplog.text
    assert "MAE / RMSE" not in caplog.text


def test_options_become_overrides(train, arguments, make_config, tmp_path):
    changes = {"seed": 7, "batch_size": 3, "valid_batch_size": 2, "learning_rate": 0.02}
    options = arguments(
        tmp_path,
        config=make_config(),
        model="{num_features: 5}",
        les_arguments="{sigma: 1.3}",
        device="auto",
        **changes,
    )
    train("--les", *options)
    content = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    hyper = content["hyper_parameters"]
    assert hyper["model"]["seed"] == 7
    assert hyper["model"]["num_features"] == 5
    new = {"_target_": "les_nequip.LES", **settings_of_new_models(True)}
    assert hyper["model"]["pair_potential"] == {**new, "sigma": 1.3}
    groups = hyper["optimizer"]["param_groups"]
    assert groups["muon"]["lr"] == 0.02
    assert groups["adam"]["lr"] == pytest.approx(0.004)  # the ratio of the configuration
    data = hyper["info_dict"]["data"]
    assert data["train_dataloader"]["batch_size"] == 3
    assert data["val_dataloader"]["batch_size"] == 2
    assert content["epoch"] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "../../x"}, "--name must be the start of file names"),
        ({"device": "cuda:99"}, "`device` is cuda:99, but torch sees"),
        ({"device": "quantum"}, "`device` must be auto, cpu, cuda"),
        ({"stress_key": "virial"}, "--stress_key has no effect: the loss compares no stress"),
        ({"test_file": "nowhere.xyz"}, "nowhere.xyz: cannot be read"),
        ({"les_arguments": "{simga: 1}"}, "--les_arguments: unknown key 'simga'; did you mean"),
    ],
)
def test_bad_options(refused, arguments, changes, message, tmp_path):
    assert message in refused("--les", *arguments(tmp_path / "run", **changes))


def test_options_that_a_configuration_cannot_follow(refused, arguments, make_config, tmp_path):
    path = make_config()
    content = yaml.safe_load(path.read_text())
    rate = content.pop("learning_rate")
    content["training_module"]["optimizer"]["param_groups"]["muon"]["lr"] = rate
    path.write_text(yaml.safe_dump(content))
    error = refused("--les", *arguments(tmp_path, config=path, learning_rate=0.1))
    assert "--learning_rate has no effect: the configuration has no variable `learning_r" in error


@pytest.mark.parametrize("option", ["--alow-pickle", "--config=wather", "--epochs=none"])
def test_usage_errors_are_one_line(les_command, arguments, option, tmp_path, capsys):
    with pytest.raises(SystemExit):
        les_command("train", "nequip", "--les", *arguments(tmp_path), option)
    assert capsys.readouterr().err.count("\n") == 1


# --- continued runs


def test_continued_run(train, arguments, finished, tmp_path):
    """It gives what one long run gives."""
    train("--les", *arguments(tmp_path, epochs=1), "--resume")  # there is none yet
    train("--les", *arguments(tmp_path, epochs=3), "--resume")
    assert_same_weights(tmp_path, finished)


@pytest.mark.parametrize("n", [1, 2])
def test_run_that_is_killed_while_it_writes(killed, train, arguments, finished, n, tmp_path):
    options = arguments(tmp_path, epochs=3)
    with pytest.raises(SystemExit):
        killed("last.ckpt", n, "--les", *options)
    assert not (tmp_path / "run.nequip.pt").exists()
    (tmp_path / "run" / "last.ckpt.1.part").write_bytes(b"left behind")
    train("--les", *options, "--resume")
    assert not list((tmp_path / "run").glob("*.part"))
    assert_same_weights(tmp_path, finished)


def test_run_that_is_there_already(refused, arguments, finished):
    before = (finished / "run" / "last.ckpt").read_bytes()
    error = refused("--les", *arguments(finished, epochs=3))
    assert "best.ckpt is there already: continue that run with --resume" in error
    assert (finished / "run" / "last.ckpt").read_bytes() == before


def test_model_of_another_run(refused, arguments, finished, tmp_path):
    """It is not replaced when the run has ended."""
    model = tmp_path / "run.nequip.pt"
    model.write_bytes((finished / "run.nequip.pt").read_bytes())
    for extra in ([], ["--resume"], [f"--from={model}"]):
        error = refused("--les", *arguments(tmp_path), *extra)
        assert "run.nequip.pt is there already, of another run" in error


def test_run_that_is_going_on(refused, arguments, finished):
    with locked(finished / "run"):
        assert "is in use by process" in refused("--les", *arguments(finished), "--resume")


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of the finished run."""
    (tmp_path / "run").mkdir()
    for name in ("best.ckpt", "last.ckpt", "settings.json"):
        (tmp_path / "run" / name).write_bytes((finished / "run" / name).read_bytes())
    return tmp_path


@pytest.mark.parametrize(
    ("flag", "changes", "message"),
    [
        ("--les", {"les_arguments": "{sigma: 2.0}"}, "`les_arguments` = "),
        ("--les", {"seed": 5}, "is of a run with `seed`"),
        ("--no-les", {}, "`les` = True, this one has False"),
    ],
)
def test_continued_with_other_settings(refused, arguments, copied, flag, changes, message):
    assert message in refused(flag, *arguments(copied, **changes), "--resume")


def test_continued_with_other_data(refused, arguments, copied, data_files, tmp_path):
    other = tmp_path / "other.xyz"
    other.write_text(data_files[0].read_text().replace("REF_energy=-", "REF_energy=-1"))
    error = refused("--les", *arguments(copied, train_file=other), "--resume")
    assert "is of a run with other contents of `train_file`" in error


def test_continued_with_another_schedule(refused, arguments, copied, steady_config):
    """Upstream would take that of the checkpoint without a word."""
    options = [*arguments(copied, epochs=5), "training_module.lr_scheduler.scheduler.T_max=12"]
    error = refused("--les", *options, "--resume")
    assert "is continued with its own `training_module.lr_scheduler.scheduler.T_max`, 9; " in error


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("r_max=3.0", "`training_module.model.r_max`, 4.0; the configuration has another one, 3.0"),
        ("training_module.model.l_max=0", "`training_module.model.l_max`, 2; the configuration"),
        ("+training_module.model.parity_x=1", "`training_module.model.parity_x`, None; the conf"),
    ],
)
def test_continued_with_another_model(refused, arguments, copied, change, message):
    """Statistics of the data aside, which only a run that starts has."""
    error = refused("--les", *arguments(copied, epochs=3), change, "--resume")
    assert f"is continued with its own {message}" in error


@pytest.mark.parametrize("damage", ["truncated", "changed", "empty", "other"])
def test_checkpoint_that_is_not_whole(refused, arguments, copied, damage):
    """The run never starts again from the beginning."""
    path = copied / "run" / "last.ckpt"
    content = bytearray(path.read_bytes())
    half = len(content) // 2
    if damage == "truncated":
        path.write_bytes(content[:half])
    elif damage == "changed":
        content[half : half + 64] = bytes(255 - byte for byte in content[half : half + 64])
        path.write_bytes(content)
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        torch.save({"state_dict": {}}, path)
    best = (copied / "run" / "best.ckpt").read_bytes()
    error = refused("--les", *arguments(copied), "--resume")
    assert "last.ckpt" in error
    assert "allow" not in error
    assert (copied / "run" / "best.ckpt").read_bytes() == best


def test_last_checkpoint_that_is_missing(refused, arguments, copied):
    """The best one is the next to continue from; without it, nothing is."""
    (copied / "run" / "last.ckpt").unlink()
    (copied / "run" / "best.ckpt").write_bytes(b"")
    assert "best.ckpt" in refused("--les", *arguments(copied, epochs=3), "--resume")
    (copied / "run" / "best.ckpt").rename(copied / "run" / "epoch.ckpt")
    error = refused("--les", *arguments(copied), "--resume")
    assert "has neither last.ckpt nor best.ckpt to continue from; name one" in error


@pytest.mark.parametrize("extra", [[], ["--resume"]])
def test_checkpoints_that_are_gone(refused, arguments, finished, extra, tmp_path):
    """The run does not begin again at the first epoch."""
    log = "logs/version_0/metrics.csv"
    (tmp_path / "run" / log).parent.mkdir(parents=True)
    (tmp_path / "run" / log).write_bytes((finished / "run" / log).read_bytes())
    error = refused("--les", *arguments(tmp_path, epochs=3), *extra)
    assert f"{log} has epochs of a run, but {tmp_path / 'run'} no checkpoint" in error


def test_run_that_is_killed_before_its_first_checkpoint(killed, train, arguments, tmp_path):
    """Nothing is lost but the first epoch, which is done again."""
    with pytest.raises(SystemExit):
        killed("best.ckpt", 1, "--les", *arguments(tmp_path, epochs=1))
    assert not list((tmp_path / "run").glob("*.ckpt"))
    train("--les", *arguments(tmp_path, epochs=1), "--resume")


@pytest.mark.parametrize(("text", "message"), [("{", "is damaged"), ("[]", "holds no settings")])
def test_settings_that_are_damaged(refused, arguments, copied, text, message):
    path = copied / "run" / "settings.json"
    path.write_text(text)
    assert f"{path} {message}" in refused("--les", *arguments(copied, epochs=3), "--resume")


def change(path, edit):
    content = torch.load(path, weights_only=True)
    edit(content["hyper_parameters"])
    torch.save(content, path)


@pytest.mark.parametrize("place", ["model", "optimizer", "training_module"])
def test_checkpoint_that_would_run_other_code(refused, arguments, copied, place, monkeypatch):
    """Plain values name functions to be called, too."""
    called = []
    monkeypatch.setattr(json, "loads", called.append)

    def edit(hyper):
        section = hyper["info_dict"] if place == "training_module" else hyper
        section[place] = {"_target_": "json.loads", "s": "1"}

    (copied / "run" / "settings.json").unlink()
    change(copied / "run" / "last.ckpt", edit)
    error = refused("--les", *arguments(copied), "--resume")
    assert "json.loads is to be called" in error
    assert "--allow-pickle" in error
    assert not called


def test_pickled_checkpoint(refused, arguments, copied):
    content = torch.load(copied / "run" / "last.ckpt", weights_only=True)
    content["model"] = NequIPLightningModule
    torch.save(content, copied / "run" / "last.ckpt")
    error = refused("--les", *arguments(copied), "--resume")
    assert "is a pickle" in error
    assert "--allow-pickle" in error


def test_checkpoint_by_its_path(refused, train, arguments, make_config, copied, tmp_path):
    """The form of upstream goes through the same checks."""
    short_range = tmp_path / "short"
    train("--no-les", *arguments(short_range, epochs=1))
    path = short_range / "run" / "last.ckpt"
    options = [*arguments(tmp_path / "new"), f"++ckpt_path='{path}'"]
    error = refused("--les", *options)
    assert "is of a run without LES and would continue without it; add LES" in error
    error = refused("--les", *options, "--from", str(path))
    assert "`ckpt_path` names a run to continue, on which --les_arguments and --from" in error
    options = [*arguments(tmp_path / "new"), f"++ckpt_path='{copied / 'run' / 'last.ckpt'}'"]
    assert "is of a run with LES; continue it with --les" in refused("--no-les", *options)


def trap(file):
    """A metric whose arguments unpickle a file, if they are built."""
    load = {"_target_": "torch.load", "f": str(file), "weights_only": False}
    return {"_target_": "builtins.dict", "a": load}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hparams", {"train_metrics": trap("x")}),
        ("module_arguments", {"train_metrics": trap("x")}),
        ("hparams_type", "x"),
        ("hparams_name", "model"),
        ("_instantiator", "lightning.pytorch.cli.instantiate_module"),
    ],
)
@pytest.mark.parametrize("form", ["--resume", "++ckpt_path"])
def test_keys_that_lightning_reads_too(
    refused, arguments, copied, form, key, value, monkeypatch, tmp_path
):
    """What a checkpoint has built may stand in other places than upstream writes it to."""
    path = copied / "run" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    content["hyper_parameters"].pop("train_metrics")
    (content["hyper_parameters"] if key.startswith("_") else content)[key] = value
    torch.save(content, path)
    monkeypatch.setattr(NequIPLightningModule, "__init__", lambda *_: pytest.fail("was built"))
    options = arguments(copied, epochs=3)
    if form == "--resume":
        error = refused("--les", *options, form)
    else:
        error = refused("--les", *arguments(tmp_path / "new", epochs=3), f"{form}='{path}'")
    assert f"holds '{key}', which nequip-train writes to no checkpoint" in error
    assert "--allow-pickle" in error


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            {"_target_": "les_nequip.TrainedModel", "allow_pickle": True},
            "`allow_pickle` for les_nequip.TrainedModel, which is given on the command line only",
        ),
        (
            {"_target_": "nequip.model.ModelFromCheckpoint"},
            "nequip.model.ModelFromCheckpoint is to be called",
        ),
    ],
)
def test_checkpoint_that_names_another_file(refused, arguments, copied, model, message):
    """Also where the configuration names the same builder, as that of ``--from`` does."""
    (copied / "run" / "settings.json").unlink()
    evil = {"model_file": "evil.ckpt", "checkpoint_path": "evil.ckpt", **model}
    change(copied / "run" / "last.ckpt", lambda hyper: hyper.update(model=evil))
    start = f"--from={copied / 'run' / 'best.ckpt'}"
    error = refused("--les", *arguments(copied), start, "--resume")
    assert message in error
    assert "--allow-pickle" in error


def test_best_model_that_is_a_pickle(refused, arguments, copied):
    """Upstream unpickles it after the training, wherever the checkpoint says it is."""
    evil = copied / "evil.ckpt"
    torch.save({"state_dict": NequIPLightningModule}, evil)
    path = copied / "run" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    for state in content["callbacks"].values():
        state["best_model_path"] = str(evil)
    torch.save(content, path)
    assert "evil.ckpt is a pickle" in refused("--les", *arguments(copied, epochs=3), "--resume")
