"""Models that come with les: their names stand for their files, and their cards tell of them."""

from __future__ import annotations

import json

import pytest
import torch

from les import cli
from les.backends import BackendError, backend_of, get_backend, model_path, shipped_models
from les.backends.arguments import identity_of_models
from les.backends.interface import Backend
from les.backends.model_files import load_plain
from les.files import checksum

#: Bytes that a model may have: it travels with everyone's installation.
LARGEST = 1_000_000


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of models of MACE with one, and a working folder without files."""
    models = tmp_path / "models"
    models.mkdir()
    torch.save({"made": "here"}, models / "les-test.pt")
    card = {"for": "tests", "reference": "none", "licence": "MIT"}
    (models / "les-test.json").write_text(json.dumps(card))
    (models / "les-test.md").write_text("# les-test\n\nFor tests.\n")
    monkeypatch.setattr(type(get_backend("mace")), "model_folder", lambda self: models)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return models


def test_a_name_stands_for_a_file(folder):
    assert model_path("les-test") == folder / "les-test.pt"
    assert backend_of("les-test") == "mace"
    assert load_plain("les-test", "model") == {"made": "here"}
    assert shipped_models()["les-test"].facts["licence"] == "MIT"


def test_a_file_goes_first(folder, tmp_path):
    own = tmp_path / "here" / "les-test"
    own.write_text("no model")
    assert model_path("les-test").samefile(own)
    with pytest.raises(ValueError, match="not a file that torch has written"):
        load_plain("les-test", "model")


def test_names_that_are_none(folder):
    assert str(model_path("les-tset")) == "les-tset"
    assert str(model_path("models/les-test")) == "models/les-test"
    with pytest.raises(FileNotFoundError, match=r"les-tset \(did you mean 'les-test'\?\)"):
        load_plain("les-tset", "MACE model")
    with pytest.raises(BackendError, match=r"'les-tset' \(did you mean 'les-test'\?\) does not"):
        backend_of("les-tset")


def test_results_depend_on_the_file_behind_the_name(folder):
    class Arguments:
        head = eps_inf = dtype = None

    (before,) = identity_of_models(Arguments, ["les-test"], [])["models"]
    assert before == checksum(folder / "les-test.pt")


def test_the_command(folder, fails, capsys, monkeypatch):
    for words in (["models", "list"], ["models"]):
        assert cli.main(words) == 0
        assert "les-test | mace" in capsys.readouterr().out
    for problem, usable in (None, "yes"), ("mace-torch is not installed", "no"):
        monkeypatch.setattr(type(get_backend("mace")), "problem", lambda self, it=problem: it)
        assert cli.main(["models"]) == 0
        _, row, *more = capsys.readouterr().out.splitlines()
        assert row.split("|")[-1].strip() == usable
        assert more == ([f"models of mace cannot be used here: {problem}"] if problem else [])
    assert cli.main(["models", "show", "les-test"]) == 0
    assert capsys.readouterr().out == "# les-test\n\nFor tests.\n"
    assert cli.main(["models", "show", "--path", "les-test"]) == 0
    assert capsys.readouterr().out.strip() == str(folder / "les-test.pt")
    message = fails("models", "show", "les-tset")
    assert "no model 'les-tset' (did you mean 'les-test'?)" in message


def test_adapters_without_models_have_none(tmp_path, monkeypatch):
    monkeypatch.setattr(Backend, "model_folder", lambda self: tmp_path / "none")
    assert shipped_models() == {}


@pytest.mark.parametrize("name", shipped_models())
def test_what_is_shipped(name):
    """Each file is small and plain, and its card is that of this very file."""
    model = shipped_models()[name]
    assert model.path.stat().st_size <= LARGEST
    assert isinstance(load_plain(model.path, "model"), dict)
    facts = model.facts
    assert facts["checksum"] == checksum(model.path)
    card = model.card.read_text(encoding="utf-8")
    assert card.startswith(f"# {name}\n")
    for said in ("for", "reference", "licence"):
        assert facts[said] in card
