"""Options: upstream's, those that all trainings share, and what is refused."""

from __future__ import annotations

import pytest
import yaml

from les_mace.arguments import parse
from les_mace.labels import UnnamedKey

NEEDED = ["--name=x", "--train_file=train.xyz"]


def test_common_names_of_upstreams_options():
    options = parse([*NEEDED, "--resume", "--epochs=7", "--learning_rate=0.5"], les=True)
    assert (options.restart_latest, options.max_num_epochs, options.lr) == (True, 7, 0.5)
    options = parse([*NEEDED, "--restart_latest", "--max_num_epochs=7", "--lr=0.5"], les=False)
    assert (options.restart_latest, options.max_num_epochs, options.lr) == (True, 7, 0.5)


def test_no_second_stage_in_one_epoch(caplog):
    assert parse([*NEEDED, "--swa", "--epochs=2"], les=True).swa
    assert not caplog.messages
    assert not parse([*NEEDED, "--swa", "--epochs=1"], les=True).swa
    assert caplog.messages == ["a run of one epoch has no second stage"]


def test_common_names_in_a_file(tmp_path):
    """The command line wins, whichever name it uses."""
    (tmp_path / "a.yaml").write_text("epochs: 7\nlearning_rate: 0.5\nles_arguments: {sigma: 1.5}")
    options = parse([*NEEDED, f"--config={tmp_path / 'a.yaml'}", "--max_num_epochs=8"], les=True)
    assert (options.max_num_epochs, options.lr) == (8, 0.5)
    assert options.les_arguments == {"cutoff": "smooth", "neutrality": "shift", "sigma": 1.5}


@pytest.mark.parametrize("name", ["mace/water", "water"])
def test_configurations_that_are_shipped(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = parse([*NEEDED, "--config", name], les=True)
    assert (options.model, options.max_num_epochs) == ("ScaleShiftMACE", 100)
    (tmp_path / "water").write_text("max_num_epochs: 3")  # a file of that name wins
    assert parse([*NEEDED, "--config", "water"], les=True).max_num_epochs == 3


def test_settings_of_les(tmp_path):
    (tmp_path / "les.yaml").write_text(yaml.safe_dump({"sigma": 1.5}))
    for text in (str(tmp_path / "les.yaml"), "{sigma: 1.5}"):
        options = parse([*NEEDED, f"--les_arguments={text}"], les=True)
        assert options.les_arguments == {"cutoff": "smooth", "neutrality": "shift", "sigma": 1.5}
        assert options.les_given
    assert not parse(NEEDED, les=True).les_given


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("element_charges: true", "`element_charges` has no effect on this model"),
        ("remove_mean: false", "they keep it with `neutrality: none`"),
        ("sigmaa: 1", "did you mean 'sigma'"),
    ],
)
def test_bad_settings_of_les(settings, message):
    with pytest.raises(ValueError, match=f"--les_arguments: .*{message}"):
        parse([*NEEDED, f"--les_arguments={{{settings}}}"], les=True)


def test_charges_as_in_earlier_releases():
    arguments = [*NEEDED, "--les_arguments={neutrality: none, remove_mean: false}"]
    options = parse(arguments, les=True)
    assert options.les_arguments["neutrality"] == "none"


def test_device():
    assert parse(NEEDED, les=True).device == "cpu"
    assert parse([*NEEDED, "--device=auto"], les=True).device in ("cpu", "cuda")


def test_keys_that_nobody_has_named():
    options = parse([*NEEDED, "--energy_key=REF_energy"], les=True)
    assert not isinstance(options.energy_key, UnnamedKey)
    assert isinstance(options.forces_key, UnnamedKey)
    assert options.forces_key == "REF_forces"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batchsize=3"], "did you mean --batch_size?"),
        (["--batch_siz=3"], "unrecognized arguments: --batch_siz=3"),
        (["--epochs=0"], "must be at least 1, got 0"),
        (["--les_arguments=nowhere.yaml"], "must be a mapping such as"),
        (["--config=nowhere"], "there is no file nowhere, and no configuration"),
        (["--lr=fast"], "invalid float value: 'fast'"),
    ],
)
def test_errors_of_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as end:
        parse([*NEEDED, *arguments], les=True)
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("les train mace: error: ")
    assert error.count("\n") == 1


def test_a_file_cannot_consent(tmp_path):
    """Who writes the command does."""
    (tmp_path / "a.yaml").write_text("allow_pickle: true")
    with pytest.raises(ValueError, match=r"--allow-pickle.*on the command line, not in a file"):
        parse([*NEEDED, f"--config={tmp_path / 'a.yaml'}"], les=True)
    for consent in ("--allow-pickle", "--allow_pickle"):
        assert parse([*NEEDED, consent], les=True).allow_pickle
