"""The entry for ML-PEG: what it accepts, judged by the rules of ML-PEG 0.7."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest
import yaml

from les.backends import BackendError
from les_bench import ml_peg

#: Keys of an entry that ML-PEG reads, and those that it wants.
KEYS = {
    "module", "class_name", "device", "datasets", "additional_supported_elements",
    "level_of_theory", "overwrite_dtype", "trained_on_dispersion", "dispersion_kwargs", "kwargs",
}  # fmt: skip
REQUIRED = {"module", "class_name", "trained_on_dispersion"}

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"


@pytest.fixture
def entry() -> dict:
    """The entry in the docs."""
    section = PAGE.read_text().partition("## ML-PEG")[2]
    ((_, entry),) = yaml.safe_load(section.split("```")[1].removeprefix("yaml")).items()
    return entry


def test_the_entry_of_the_docs(entry: dict) -> None:
    assert REQUIRED <= entry.keys() <= KEYS
    factory = getattr(importlib.import_module(entry["module"]), entry["class_name"])
    assert factory is ml_peg.calculator
    accepted = set(inspect.signature(factory).parameters)
    # ML-PEG gives these itself, and refuses them in an entry.
    assert {"device", "default_dtype"} <= accepted - entry["kwargs"].keys()
    assert entry["kwargs"].keys() <= accepted


class Backend:
    def __init__(self, name: str) -> None:
        self.name = name

    def require(self) -> None:
        if self.name == "absent":
            raise BackendError("upstream is not installed")

    def calculator(self, model: Path, **options: object) -> tuple:
        return self.name, model, options


def test_the_model_decides_the_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ml_peg, "get_backend", Backend)
    path = tmp_path / "water.cace.pt"
    with pytest.raises(FileNotFoundError, match=r"`model` must be a model file, got .*cace\.pt"):
        ml_peg.calculator(str(path))
    path.touch()
    options = {"device": "cpu", "dtype": "float32", "allow_pickle": False}
    assert ml_peg.calculator(str(path), default_dtype="float32") == ("cace", path, options)
    assert ml_peg.calculator(str(path), "auto", backend="mace", allow_pickle=True)[0] == "mace"
    with pytest.raises(BackendError, match="not installed"):
        ml_peg.calculator(str(path), backend="absent")
