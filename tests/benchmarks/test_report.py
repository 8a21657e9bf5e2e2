"""Reports: their numbers, their pictures, that they open offline, and bad input."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from les_bench import cli
from les_bench.report import plots
from les_bench.report.page import write_report
from les_bench.report.summary import EPOCH_TIME, ERRORS, Column, grouped
from les_bench.suite.results import ResultError, read_all, read_result, write_json
from les_bench.suite.run import run_suite


@pytest.fixture
def folder(fake_backend, data: Path, tmp_path: Path) -> Path:
    """Results of two seeds of both variants."""
    out = tmp_path / "out"
    run_suite(["dipeptides"], ["fake"], seeds=2, data=str(data), epochs=3, output=out)
    return out


def test_report_is_complete_and_offline(folder: Path) -> None:
    settings = {key: mpl.rcParams[key] for key in mpl.rcParams if key != "backend"}
    html = write_report(folder).read_text()
    assert settings == {key: mpl.rcParams[key] for key in settings}
    text = (folder / "report.md").read_text()
    result = read_result(folder / "dipeptides-custom-fake-les-seed1" / "result.json")
    for page in (html, text):
        assert f"{result['metrics']['test']['force_rmse']:.1f}" in page
        assert "dipeptides (custom data), fake, 3 epochs" in page
        assert "Born effective charges are compared on the valid set" in page
        assert "(-90%)" in page  # the fake LES model has a tenth of the errors
    pictures = sorted(path.name for path in folder.glob("*.png"))
    assert pictures == [f"1-dipeptides-custom-fake-{kind}.png" for kind in ("learning", "parity")]
    assert all(name in text for name in pictures)
    assert html.count('src="data:image/png;base64,') == 2
    assert not re.search(r"""(src|href)=["'](?!data:)|https?://|@import|url\(""", html)


def test_statistics_over_seeds(folder: Path) -> None:
    path = folder / "dipeptides-custom-fake-les-seed2" / "result.json"
    changed = read_result(path)
    changed["timing"]["seconds_per_epoch"] = 1.2
    changed["metrics"]["test"]["energy_mae"] = None  # e.g. not measured
    write_json(path, changed)
    (group,) = grouped(read_all(folder))
    assert group.ratio(EPOCH_TIME) == "1.100 ± 0.141"
    assert len(group.pairs(ERRORS[0])) == 1
    assert len(group.pairs(ERRORS[1])) == 2
    assert Column("", ("x",), 1).text([1.0, 3.0, None]) == "2.0 ± 1.4"
    assert Column("", ("x",), 1).text([None]) == "–"


def test_different_budgets_are_not_compared(folder: Path, data: Path) -> None:
    run_suite(["dipeptides"], ["fake"], ["les"], data=str(data), epochs=9, output=folder)
    groups = grouped(read_all(folder))
    assert sorted(len(group.results) for group in groups) == [1, 3]


def test_wrong_charge_sign_is_said(folder: Path) -> None:
    path = folder / "dipeptides-custom-fake-les-seed1" / "result.json"
    result = read_result(path)
    result["metrics"]["test"]["dipole"].update(r2=-3.0, scale=-0.9)
    write_json(path, result)
    write_report(folder)
    text = (folder / "report.md").read_text()
    assert "les-seed1: Dipoles correlate negatively with the reference" in text


def test_wetting_table(folder: Path) -> None:
    for path in folder.glob("*/result.json"):
        result = read_result(path)
        wetting = {"reference": {"doped": -0.067}, "predicted": {"doped": 0.25}}
        result["metrics"]["test"]["wetting"] = wetting
        write_json(path, result)
    write_report(folder)
    text = (folder / "report.md").read_text()
    assert "| les | doped | -0.067 | 0.250 ± 0.000 |" in text


def test_bad_folders_are_named(folder: Path, tmp_path: Path, caplog) -> None:
    path = folder / "dipeptides-custom-fake-sr-seed1" / "result.json"
    path.write_bytes(path.read_bytes()[:200])
    assert cli.main(["report", str(folder)]) == 1
    assert str(path) in caplog.text
    write_json(path, {"schema": 99})
    with pytest.raises(ResultError, match=r"sr-seed1.result\.json: `schema` must be 2, got 99"):
        write_report(folder)
    write_json(path, {"schema": 2, "metrics": {}})
    with pytest.raises(ResultError, match="lacks configuration, hash"):
        write_report(folder)
    with pytest.raises(ResultError, match="holds no results"):
        write_report(tmp_path)
    with pytest.raises(ResultError, match="no such folder"):
        write_report(tmp_path / "nowhere")


def test_truncated_predictions_are_named(folder: Path) -> None:
    path = folder / "dipeptides-custom-fake-sr-seed1" / "predictions.npz"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ResultError, match=r"predictions\.npz: not a readable"):
        write_report(folder)


def test_plots_draw_into_the_given_axes() -> None:
    ax = Figure().subplots()
    history = [{"epoch": 0, "valid_force_rmse": 0.2}, {"epoch": 1, "valid_force_rmse": None}]
    assert plots.learning_curve(history, ax=ax, variant="sr") is ax
    assert ax.lines[0].get_ydata() == [200.0]
