"""Errors of models that are trained already."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.io import read, write

from les_bench import cli
from les_bench.suite import trained
from les_bench.suite.trained import labelled_test_set, lines
from les_bench.systems.evaluation_only import EVALUATION_ONLY
from les_bench.systems.labels import DataError


@pytest.fixture
def models(tmp_path: Path, fake_backend, monkeypatch) -> list[Path]:
    """Two models, whose errors are a tenth and a hundredth of all energies and forces."""
    monkeypatch.setattr(trained, "get_backend", lambda name: fake_backend())
    monkeypatch.setattr(trained, "backend_of", lambda path: "fake")
    paths = [tmp_path / "sr.json", tmp_path / "les.json"]
    for path in paths:
        path.write_text(f'{{"variant": "{path.stem}"}}')
    return paths


def test_errors_and_their_mean(models, data: Path, capsys) -> None:
    frames = labelled_test_set("dipeptides", str(data))
    forces = np.concatenate([frame.arrays["REF_forces"] for frame in frames])
    spread = np.std([frame.info["REF_energy"] / len(frame) for frame in frames])
    size = 1000 * np.sqrt(np.mean(forces**2))
    found = [line.split() for line in list(lines(frames, models))[2:]]
    for row, error in zip(found, (0.1, 0.01, 0.055), strict=True):
        n, energy, _, rmse = row[-4:]
        assert n == "4"
        assert float(rmse) == pytest.approx(error * size, abs=0.06)
        assert float(energy) == pytest.approx(1000 * error * spread, abs=0.006)
    assert cli.main(["evaluate", "dipeptides", *map(str, models), "--data", str(data)]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[2:] == list(lines(frames, models))[2:]
    assert "mean of 2" in printed


def test_structures_to_evaluation_only(
    models, data: Path, tmp_path: Path, monkeypatch, caplog
) -> None:
    (frame, *_) = read(data / "dipeptides_test.xyz", ":")
    expected = frame.arrays.pop("REF_forces")
    frame.arrays["F_DFT"] = expected
    path = tmp_path / EVALUATION_ONLY["licl_gaf3"].file
    path.parent.mkdir()
    write(path, frame)
    monkeypatch.setenv("LES_DATA_DIR", str(tmp_path))
    (found,) = labelled_test_set("licl_gaf3")
    np.testing.assert_allclose(found.arrays["REF_forces"], expected, atol=1e-7)
    assert list(lines([found], models[:1]))[-1].split()[2] == "-"  # no energies
    frame.arrays["F_DFT"][0, 0] = np.nan
    write(path, frame)
    with pytest.raises(DataError, match="frame 0: must have an array F_DFT of forces"):
        labelled_test_set("licl_gaf3", str(tmp_path))
    monkeypatch.setenv("LES_DATA_DIR", str(tmp_path / "nowhere"))
    assert cli.main(["evaluate", "licl_gaf3", str(models[0])]) == 1
    assert "licl_gaf3: needs licl_gaf3/ood_lr.xyz in LES_DATA_DIR" in caplog.text
    assert cli.main(["evaluate", "licl", str(models[0])]) == 1
