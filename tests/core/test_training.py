"""What training commands share: order, errors, reference energies, options, results."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from les.backends import EpochRecord, TrainingJob, config_path, registry
from les.locks import InUseError
from les.training.arguments import (
    HelpFormatter,
    TrainingParser,
    configuration,
    label_keys,
    mapping,
    parse,
    positive,
)
from les.training.backend import TrainingBackend
from les.training.composition import energies_per_element
from les.training.errors import Errors, table
from les.training.files import RunFiles
from les.training.history import write_history
from les.training.loaders import EpochShuffle
from les.training.stages import Stage, start_of_the_last


def test_order_of_each_epoch():
    order = EpochShuffle(20, seed=3)
    epochs = [list(order) for _ in range(4)]
    assert len(order) == 20
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 4


def test_order_depends_on_seed_and_epoch_alone():
    first = EpochShuffle(20, seed=3)
    torch.manual_seed(11)
    epochs = [list(first) for _ in range(4)]
    torch.manual_seed(12)
    later = EpochShuffle(20, seed=3, epoch=2)
    assert [list(later), list(later)] == epochs[2:]
    assert list(EpochShuffle(20, seed=4)) not in epochs
    state = torch.get_rng_state()
    list(first)
    assert torch.equal(torch.get_rng_state(), state)


def test_errors_count_all_components():
    errors = Errors()
    assert errors.rmse("energy") is None
    assert errors.mae("energy") is None
    errors.add("energy", torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]))
    errors.add("energy", torch.tensor([0.0]), torch.tensor([-4.0]))
    errors.add("forces", torch.zeros(2, 3), torch.full((2, 3), 0.5))
    assert errors.mae("energy") == 2.0
    assert errors.rmse("energy") == pytest.approx((20.0 / 3.0) ** 0.5)
    assert errors.rmse("forces") == errors.mae("forces") == 0.5
    errors.add_loss(torch.tensor(3.0))
    errors.add_loss(torch.tensor(1.0))
    assert errors.loss() == 2.0
    assert errors.summary() == "energy 2e+03 meV/atom, forces 500 meV/A"


def test_table():
    valid, test = Errors(), Errors()
    valid.add("energy", torch.tensor([0.001]), torch.tensor([0.003]))
    test.add("forces", torch.tensor([0.1]), torch.tensor([0.2]))
    head, first, second = table({"valid": valid, "test": test}).splitlines()
    assert "energy MAE / RMSE [meV/atom] | forces MAE / RMSE [meV/A]" in head
    assert first.split("|")[1].strip() == "2 / 2"
    assert first.split("|")[2].strip() == "- / -"
    assert second.split("|")[2].strip() == "100 / 100"


def test_reference_energies_of_elements():
    numbers = [[1, 1, 8], [8, 8], [1, 8]]
    per_element = {1: -0.5, 8: -2.0}
    energies = [np.mean([per_element[z] for z in atoms]) for atoms in numbers]
    found = energies_per_element(numbers, energies, 94)
    assert found.shape == (94,)
    assert found[0] == pytest.approx(-0.5)
    assert found[7] == pytest.approx(-2.0)
    assert not found[[1, 5, 93]].any()


def test_elements_in_fixed_proportions_share():
    found = energies_per_element([[1, 1, 8]] * 3, [-1.0] * 3, 8)
    assert (2 * found[0] + found[7]) / 3 == pytest.approx(-1.0)
    # The smallest solution is along the composition.
    assert found[0] == pytest.approx(2 * found[7])


@pytest.fixture
def parser():
    parser = argparse.ArgumentParser(prog="train", formatter_class=HelpFormatter)
    parser.add_argument("--config", help="a file")
    parser.add_argument("--epochs", type=positive, default=3, help="how many")
    parser.add_argument("--model", type=mapping, help="settings")
    parser.add_argument("--freeze", action="store_true", help="do not train it")
    return parser


def test_options_from_a_file(parser, tmp_path):
    path = tmp_path / "some.yaml"
    path.write_text("epochs: 7\nmodel: {n: 2, name: a}\nfreeze: true\nof_another: 1\n")
    options = parse(parser, [f"--config={path}"], also_known=["of_another"])
    assert (options.epochs, options.model, options.freeze) == (7, {"n": 2, "name": "a"}, True)
    options = parse(parser, ["--config", str(path), "--epochs", "9"], also_known=["of_another"])
    assert options.epochs == 9
    with pytest.raises(ValueError, match=r"some.yaml: unknown key 'of_another'"):
        parse(parser, [f"--config={path}"])
    path.write_text("epoch: 7\n")
    with pytest.raises(ValueError, match=r"some.yaml: unknown key 'epoch'; did you mean 'epochs'"):
        parse(parser, [f"--config={path}"])
    with pytest.raises(ValueError, match=r"none.yaml"):
        parse(parser, [f"--config={tmp_path / 'none.yaml'}"])


def test_bad_options(parser, capsys):
    for options, message in (
        (["--epochs", "0"], "at least 1, got 0"),
        (["--model", "3"], "a mapping"),
    ):
        with pytest.raises(SystemExit):
            parse(parser, options)
        assert message in capsys.readouterr().err


@pytest.fixture
def shipped(monkeypatch, tmp_path):
    """Configurations of one backend."""
    (tmp_path / "shipped").mkdir()
    path = tmp_path / "shipped" / "water.yaml"
    path.write_text("batch_size: 3\n")
    configs = type("Some", (), {"configs": lambda self: {"water": path}})
    monkeypatch.setattr(registry, "backend_names", lambda: ["some"])
    monkeypatch.setattr(registry.metadata, "entry_points", lambda group: [Entry("some", configs)])
    return path


class Entry(NamedTuple):
    name: str
    backend: type

    def load(self):
        return self.backend


def test_configurations_by_name(shipped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    find = configuration("some")
    assert find("water") == find("some/water") == shipped
    (tmp_path / "water").write_text("batch_size: 5\n")  # a file wins
    assert find("water") == Path("water")
    options = ["--train_file=a", "--valid_file=b"]
    parsed = parse(some_parser(les=True), [*options, "--config", "some/water"])
    assert (parsed.batch_size, parsed.config) == (3, shipped)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("watre", "there is no file watre, and no configuration 'watre' (known: some/water)"),
        ("some/watre", "there is no file some/watre, and no configuration 'some/watre'"),
        ("runs/water", "there is no file runs/water, and unknown backend 'runs'"),
        ("runs/water.yaml", "there is no file runs/water.yaml"),
    ],
)
@pytest.mark.usefixtures("shipped")
def test_configurations_that_are_not_there(name, message, capsys):
    with pytest.raises(SystemExit):
        parse(some_parser(les=True), ["--train_file=a", "--valid_file=b", "--config", name])
    error = capsys.readouterr().err
    assert error.startswith("les train some: error: argument --config: ")
    assert message in error
    assert error.count("\n") == 1


def test_configurations_of_another_backend(tmp_path, capsys):
    """By name, and as a file that knows what this one does not."""
    options = ["--train_file=a", "--valid_file=b", "--config"]
    with pytest.raises(SystemExit):
        parse(some_parser(les=True, backend="cace"), [*options, "mace/water"])
    error = capsys.readouterr().err
    assert "mace/water is a configuration of mace, and not of cace (known: cace/au2_mgo" in error
    path = tmp_path / "water.yaml"
    path.write_text(config_path("mace/water").read_text())
    with pytest.raises(ValueError, match=r"it is a configuration of mace, and not of cace \("):
        parse(some_parser(les=True, backend="cace"), [*options, str(path)])
    path.write_text("max_ell: 3\nnothing: 2\n")
    with pytest.raises(ValueError, match="unknown key 'max_ell'"):
        parse(some_parser(les=True, backend="cace"), [*options, str(path)])
    assert configuration("chgnet")("chgnet-pretrained/water").stem == "water"


def test_mappings(tmp_path):
    path = tmp_path / "les.yaml"
    path.write_text("sigma: 1.5\n")
    assert mapping(str(path)) == {"sigma": 1.5}
    assert mapping("{sigma: 2.0}") == mapping(" sigma: 2.0") == {"sigma": 2.0}
    path.write_text("- 1\n")
    for text, message in (
        (str(path), "must hold a mapping"),
        (str(tmp_path / "none.yaml"), r"or a YAML file of one, got .*none\.yaml"),
        ("{sigma: ", "must be a mapping"),
        ("{sigma: " + "1" * 5000, "must be a mapping"),
        ("s" * 5000, "File name too long"),
    ):
        with pytest.raises(argparse.ArgumentTypeError, match=message):
            mapping(text)


@pytest.mark.parametrize("name", ["--allow-pickle", "--allow_pickle"])
def test_consent_is_given_on_the_command_line_only(name, tmp_path):
    options = ["--train_file=a", "--valid_file=b"]
    assert not parse(some_parser(les=True), options).allow_pickle
    assert parse(some_parser(les=True), [*options, name]).allow_pickle
    path = tmp_path / "some.yaml"
    path.write_text(f"{name[2:]}: true\n")
    with pytest.raises(ValueError, match=rf"some\.yaml: '{name[2:]}' is given on the command"):
        parse(some_parser(les=True), [*options, f"--config={path}"])


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--epoch=3", "unrecognized arguments: --epoch=3 (did you mean --epochs?)"),
        ("--allow-pickles", "did you mean --allow-pickle?"),
        ("xyz", "unrecognized arguments: xyz; see les train some --help"),
    ],
)
def test_mistyped_options(option, message, capsys):
    with pytest.raises(SystemExit) as caught:
        parse(some_parser(les=True), ["--train_file=a", "--valid_file=b", option])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_help_shows_defaults_that_there_are(parser):
    text = parser.format_help()
    assert "how many (default: 3)" in text
    assert text.count("(default") == 1


# --- a backend that trains with these


class SomeBackend(TrainingBackend):
    name = package = "some"
    suffix = ".some.pt"

    def train(self, arguments, *, les):
        raise NotImplementedError

    calculator = train


def some_parser(les, backend="some"):
    return TrainingParser(
        backend,
        "Train.",
        les=les,
        labels=("energy", "stress"),
        help={"from": "a file", "model": "settings", "epochs": "how many"},
        defaults={"epochs": 5, "batch_size": 2, "learning_rate": 1e-3},
    )


@pytest.mark.parametrize("epochs", [None, 7])
def test_arguments_of_a_job(epochs, tmp_path):
    (tmp_path / "some.yaml").write_text("batch_size: 3\n")
    files = {key: tmp_path / f"{key}.xyz" for key in ("train_file", "valid_file")}
    job = TrainingJob(
        "water", tmp_path, tmp_path / "some.yaml", **files, seed=4, epochs=epochs, device="cuda",
        extra=("--energy_key=dft",),
    )  # fmt: skip
    options = parse(some_parser(les=True), SomeBackend().training_arguments(job))
    assert {key: getattr(options, key) for key in files} == files
    assert (options.name, options.work_dir, options.resume) == ("water", tmp_path, True)
    assert (options.seed, options.device, options.epochs) == (4, "cuda", epochs or 5)
    assert (options.batch_size, options.valid_batch_size) == (3, 8)
    assert label_keys(options, ("energy", "stress")) == {"energy": "dft"}


def test_results_of_a_job(tmp_path):
    job = TrainingJob("water", tmp_path, Path("c"), Path("t"), Path("v"))
    backend = SomeBackend()
    with pytest.raises(FileNotFoundError, match=r"no model .*water\.some\.pt"):
        backend.trained_model(job)
    (tmp_path / "water.some.pt").touch()
    assert backend.trained_model(job) == tmp_path / "water.some.pt"
    records = [EpochRecord(0, valid_loss=2.0), EpochRecord(1, 0.5, valid_force_rmse=0.1)]
    write_history(records, tmp_path / "water_history.json")
    assert backend.history(job) == records
    whole = (tmp_path / "water_history.json").read_text()
    for text in (whole[:50], whole.replace("epoch", "age"), "3", ""):
        (tmp_path / "water_history.json").write_text(text)
        with pytest.raises(
            ValueError, match=r"water_history\.json is damaged, or holds no learning"
        ):
            backend.history(job)


def test_options_of_les_only_with_les(capsys):
    text = some_parser(les=False).format_help()
    assert "--les_arguments" not in text
    assert "--les_arguments" in some_parser(les=True).format_help()
    assert "how many (default: 5)" in text
    assert "start of the names of the results (default: some)" in text
    with pytest.raises(SystemExit):
        some_parser(les=True).parse_args(["--train_file=a"])
    assert "--valid_file" in capsys.readouterr().err


# --- whose files they are


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "../../x", "/tmp/x", "a/b", "a\\b", "c:x", "a\nb", "x/"]
)
def test_names_that_lead_elsewhere(name, tmp_path):
    with pytest.raises(ValueError, match=r"--name must be the start of file names.*--work_dir"):
        RunFiles(tmp_path, name, ".pt")


@pytest.mark.parametrize("name", ["water", "water.2", "..x", "-", "Wasser bei 300 K", "水"])
def test_ordinary_names(name, tmp_path):
    files = RunFiles(tmp_path, name, ".pt")
    assert files.checkpoint.parent == files.log.parent == tmp_path


def test_a_run_that_is_going_on_is_left_alone(tmp_path):
    files = RunFiles(tmp_path / "new", "water", ".pt")
    with files.claim(resume=False) as continued:
        assert not continued
        for resume in (False, True):
            refused = pytest.raises(InUseError, match=r"_checkpoint\.pt is in use by process \d+")
            with refused, files.claim(resume):
                pass
        with RunFiles(files.folder, "ice", ".pt").claim(resume=False):  # beside it
            pass
        files.checkpoint.touch()
    (files.folder / "water_checkpoint.pt.123.0123abcd.part").touch()  # of a killed process
    with files.claim(resume=True) as continued:
        assert continued
    refused = pytest.raises(ValueError, match="continue that run with --resume")
    with refused, files.claim(resume=False):
        pass
    assert list(files.folder.iterdir()) == [files.checkpoint]


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("left", ["model", "history"])
def test_results_without_their_checkpoint_are_left_alone(left, resume, tmp_path):
    """A new run would end by taking their place."""
    files = RunFiles(tmp_path, "water", ".pt")
    getattr(files, left).touch()
    refused = pytest.raises(ValueError, match=r"is there, but no checkpoint .*water_checkpoint\.pt")
    with refused, files.claim(resume):
        pass
    files.checkpoint.touch()
    with files.claim(resume=True) as continued:
        assert continued


def test_a_first_start_with_resume_is_told(tmp_path, caplog):
    files = RunFiles(tmp_path, "water", ".pt")
    files.best.touch()  # of a run that was killed in its first epoch
    with caplog.at_level("INFO", logger="les"), files.claim(resume=True) as continued:
        assert not continued
    assert f"no checkpoint {files.checkpoint}: starting with the first epoch" in caplog.text


def test_start_of_the_last_stage():
    stages = [Stage(3, {"energy": 1.0}), Stage(2, {"energy": 2.0}), Stage(4, {"energy": 3.0})]
    assert [start_of_the_last(stages[:n]) for n in (1, 2, 3)] == [None, 3, 5]
