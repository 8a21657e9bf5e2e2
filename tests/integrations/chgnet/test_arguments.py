"""Options on the command line and in configuration files."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from les.backends import get_backend
from les.training.arguments import mapping
from les_chgnet.arguments import OF_LES, build_parser, parse, training_stages

FILES = ["--train_file=train.xyz", "--valid_file=valid.xyz"]


@pytest.fixture
def config(tmp_path):
    """A function that writes a configuration file and returns its option."""

    def make(text):
        (tmp_path / "config.yaml").write_text(text)
        return f"--config={tmp_path / 'config.yaml'}"

    return make


def test_defaults():
    options = parse(FILES, les=True)
    assert (options.train_file, options.valid_file) == (Path("train.xyz"), Path("valid.xyz"))
    assert options.test_file is options.start is options.model is options.trainer is None
    assert (options.atomic_energies, options.targets, options.seed) == ("fit", "ef", 1)
    assert options.resume is options.allow_pickle is False
    assert options.freeze_short_range_epochs is options.stages is None
    assert [(each.epochs, each.weights) for each in training_stages(options)] == [
        (50, {"energy": 1.0, "forces": 1.0, "stress": 0.1, "magmoms": 0.1})
    ]


def test_mappings():
    options = parse(
        [*FILES, "--les_arguments", "{sigma: 1.2}", "--model={n_conv: 2, mlp_hidden_dims: [8]}"],
        les=True,
    )
    assert options.les_arguments == {"sigma": 1.2}
    assert options.model == {"n_conv": 2, "mlp_hidden_dims": [8]}


def test_settings_of_les_in_a_file_of_their_own(config, tmp_path, capsys):
    (tmp_path / "les.yaml").write_text("sigma: 1.2\n")
    (tmp_path / "bad.yaml").write_text("- sigma\n")
    path = tmp_path / "les.yaml"
    assert parse([*FILES, f"--les_arguments={path}"], les=True).les_arguments == {"sigma": 1.2}
    option = config(f"les_arguments: {path}\n")
    assert parse([option, *FILES], les=True).les_arguments == {"sigma": 1.2}
    for bad in (tmp_path / "bad.yaml", tmp_path / "none.yaml"):
        with pytest.raises(SystemExit):
            parse([*FILES, f"--les_arguments={bad}"], les=True)
        error = capsys.readouterr().err
        assert "argument --les_arguments: " in error
        assert str(bad) in error


@pytest.mark.parametrize("text", ["sigma", "[1, 2]", "{sigma: [1", "3"])
def test_what_is_no_mapping(text, capsys):
    with pytest.raises(SystemExit) as end:
        parse([*FILES, "--model", text], les=True)
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert "argument --model: must be a mapping such as '{key: 1}'" in error
    assert f"got {text!r}" in error


def test_empty_mapping():
    assert mapping("{}") == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs=0"], "argument --epochs: must be at least 1, got 0"),
        (["--epochs=-3"], "argument --epochs: must be at least 1, got -3"),
        (["--batch_size=0"], "argument --batch_size: must be at least 1"),
        (["--valid_batch_size=x"], "argument --valid_batch_size: invalid"),
        (["--learning_rate=fast"], "argument --learning_rate: invalid rate value: 'fast'"),
        (["--targets=e"], "argument --targets: invalid choice: 'e'"),
        (["--atomic_energies=no"], "argument --atomic_energies: invalid choice: 'no'"),
        (["--learning=1"], "unrecognized arguments: --learning=1"),  # no abbreviations
    ],
)
def test_bad_options(arguments, message, capsys):
    with pytest.raises(SystemExit) as end:
        parse([*FILES, *arguments], les=True)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("missing", FILES)
def test_files_that_are_needed(missing, capsys):
    with pytest.raises(SystemExit):
        parse([text for text in FILES if text != missing], les=True)
    assert f"required: {missing.partition('=')[0]}" in capsys.readouterr().err


def test_options_of_les_without_les(capsys):
    for arguments in (["--les_arguments={sigma: 1}"], ["--freeze_short_range_epochs=1"]):
        with pytest.raises(SystemExit):
            parse([*FILES, *arguments], les=False)
        assert "unrecognized arguments" in capsys.readouterr().err


STAGES = "--stages=[{epochs: 6, forces: 1}, {epochs: 2, energy: 10, forces: 1}]"


def test_stages():
    for epochs, expected in (([], [6, 2]), (["--epochs=4"], [3, 1]), (["--epochs=1"], [1])):
        options = parse([*FILES, STAGES, *epochs], les=True)
        stages = training_stages(options)
        assert [each.epochs for each in stages] == expected
        assert stages[0].weights == {"forces": 1.0}
    with pytest.raises(ValueError, match="--stages excludes --energy_loss_ratio"):
        parse([*FILES, STAGES, "--energy_loss_ratio=10"], les=True)
    with pytest.raises(ValueError, match="no weight of the stress, but --targets is efs"):
        training_stages(parse([*FILES, STAGES, "--targets=efs"], les=True))
    stages = "--stages=[{epochs: 1, energy: 1, forces: 1, stress: 0.1}]"
    with pytest.raises(ValueError, match="a weight of the stress, but --targets is ef"):
        training_stages(parse([*FILES, stages], les=True))
    assert training_stages(parse([*FILES, stages, "--targets=efs"], les=True))


# --- configuration files


def test_configuration_file(config):
    option = config(
        "from: 0.3.0\nepochs: 7\nlearning_rate: 1.0e-2\nfreeze_short_range_epochs: 3\n"
        "resume: false\ntest_file: null\nles_arguments: {sigma: 1.2, n_hidden: [8, 4]}\nname: a b\n"
        "trainer:\n  optimizer: AdamW\n  weight_decay: 1.0e-3\n"
    )
    options = parse([option, *FILES], les=True)
    assert (options.start, options.epochs, options.learning_rate) == ("0.3.0", 7, 0.01)
    assert options.freeze_short_range_epochs == 3
    assert options.resume is False
    assert options.test_file is None
    assert options.les_arguments == {"sigma": 1.2, "n_hidden": [8, 4]}
    assert options.trainer == {"optimizer": "AdamW", "weight_decay": 1e-3}
    assert options.name == "a b"


@pytest.mark.parametrize("first", [True, False])
def test_command_line_wins(first, config):
    """Wherever ``--config`` stands in it."""
    option = config("epochs: 7\nbatch_size: 3\nles_arguments: {sigma: 1.2, dl: 1.5}\n")
    typed = [*FILES, "--epochs", "9", "--les_arguments={sigma: 2.0}"]
    options = parse([option, *typed] if first else [*typed, option], les=True)
    assert (options.epochs, options.batch_size) == (9, 3)
    assert options.les_arguments == {"sigma": 2.0}  # as a whole


def test_config_as_two_words(config):
    option = config("epochs: 7\n").removeprefix("--config=")
    assert parse([*FILES, "--config", option], les=True).epochs == 7


def test_files_in_the_configuration(config):
    options = parse([config("train_file: a.xyz\nvalid_file: b.xyz\n")], les=True)
    assert options.train_file == Path("a.xyz")


@pytest.mark.parametrize("les", [True, False])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch: 3", "unknown key 'epoch'; did you mean 'epochs'"),
        ("les_argument: {}", "unknown key 'les_argument'; did you mean 'les_arguments'"),
        ("qwertz: 3", r"unknown key 'qwertz' \(known: .*atomic_energies"),
        ("config: other.yaml", "unknown key 'config'"),
        ("help: true", "unknown key 'help'"),
        ("1: 3", "unknown key 1"),
        ("- epochs", "must hold a mapping of keys to values, got list"),
        ("epochs: [1", "not valid YAML"),
    ],
)
def test_bad_configuration_files(text, message, les, config, tmp_path):
    with pytest.raises(ValueError, match=message) as error:
        parse([config(text), *FILES], les=les)
    assert str(error.value).startswith(f"--config {tmp_path / 'config.yaml'}: ")


def test_missing_configuration_file(tmp_path, capsys):
    path = tmp_path / "none.yaml"
    with pytest.raises(SystemExit):
        parse([f"--config={path}", *FILES], les=True)
    assert f"argument --config: there is no file {path}; see" in capsys.readouterr().err


def test_bad_values_in_the_configuration(config, capsys):
    with pytest.raises(SystemExit) as end:
        parse([config("epochs: many\n"), *FILES], les=True)
    assert end.value.code == 2
    assert "argument --epochs" in capsys.readouterr().err


def test_one_configuration_for_both(config):
    """What is of LES means nothing without it."""
    option = config("epochs: 7\nles_arguments: {sigma: 1.2}\nfreeze_short_range_epochs: 3\n")
    options = vars(parse([option, *FILES], les=False))
    assert options["epochs"] == 7
    assert not set(OF_LES) & set(options)
    assert set(vars(parse([option, *FILES], les=True))) - set(options) == set(OF_LES)


@pytest.mark.parametrize("les", [True, False])
def test_no_options_but_those_of_les_differ(les):
    known = {action.dest for action in build_parser(les)._actions}
    assert known | set(OF_LES) == {action.dest for action in build_parser(True)._actions}


SHIPPED = {
    f"{name}/{system}": path
    for name in ("chgnet", "chgnet-pretrained")
    for system, path in get_backend(name).configs().items()
}


def test_shipped_configurations_are_there():
    systems = ("au2_mgo", "dipeptides", "water")
    assert sorted(SHIPPED) == [
        *(f"chgnet-pretrained/{system}" for system in systems),
        *(f"chgnet/{system}" for system in systems),
    ]


@pytest.mark.parametrize("les", [True, False])
@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_configurations(name, les):
    """Every value arrives, under its key."""
    options = vars(parse([f"--config={SHIPPED[name]}", *FILES], les=les))
    values = yaml.safe_load(SHIPPED[name].read_text())
    assert sum(stage["epochs"] for stage in values["stages"]) > 1
    for key, value in values.items():
        assert options[{"from": "start"}.get(key, key)] == value, key
    assert options["start"] == ("0.3.0" if "pretrained" in name else None)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--learning_rate=-1", "must be a number above 0, got -1"),
        ("--learning_rate=nan", "must be a number above 0, got nan"),
        ("--charge_learning_rate=0", "must be a number above 0, got 0"),
        ("--force_loss_ratio=-1", "must be a number of at least 0, got -1"),
        ("--mag_loss_ratio=inf", "must be a number of at least 0, got inf"),
    ],
)
def test_rates_and_weights(option, message, capsys):
    with pytest.raises(SystemExit):
        parse([*FILES, option], les=True)
    assert f"argument {option.split('=')[0]}: {message}" in capsys.readouterr().err
