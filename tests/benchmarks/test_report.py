"""Reports: their numbers, their pictures, that they open offline, and bad input."""

from __future__ import annotations

import re
import shutil
import struct
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from ase.io import read, write
from matplotlib.figure import Figure

from les_bench import cli
from les_bench.report import plots
from les_bench.report.page import write_report
from les_bench.report.summary import EPOCH_TIME, Column, gain_of_opposite_sign, grouped
from les_bench.suite.results import ResultError, read_all, read_result, write_json


@pytest.fixture
def folder(run_fake, tmp_path: Path) -> Path:
    """Results of two seeds of both variants."""
    out = tmp_path / "out"
    run_fake(out, seeds=2)
    return out


def png_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels, from the header."""
    return struct.unpack(">II", path.read_bytes()[16:24])


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
        assert "−90 %" in page  # the fake LES model has a tenth of the errors
        assert "With LES, force errors are lower by 90 %." in page
    pictures = sorted(path.name for path in folder.glob("*.png"))
    kinds = ("bec", "dipole", "energy", "force", "learning")
    assert pictures == [f"1-dipeptides-custom-fake-{kind}.png" for kind in kinds]
    assert all(name in text for name in pictures)
    assert html.count('src="data:image/png;base64,') == 5
    assert html.count("<figcaption>") == 5
    assert len({png_size(path) for path in folder.glob("*.png")}) == 1
    assert '<meta name="viewport"' in html
    assert "prefers-color-scheme: dark" in html
    assert html.index('class="verdict"') < html.index("<table>") < html.index("<details>")
    assert not re.search(r"""(src|href)=["'](?!data:)|https?://|@import|url\(""", html)


def test_statistics_over_seeds(folder: Path) -> None:
    path = folder / "dipeptides-custom-fake-les-seed2" / "result.json"
    changed = read_result(path)
    changed["timing"]["seconds_per_epoch"] = 1.2
    changed["metrics"]["test"]["energy_mae"] = None  # e.g. not measured
    write_json(path, changed)
    (group,) = grouped(read_all(folder))
    assert group.ratio(EPOCH_TIME, 3) == "1.100 ± 0.141"
    assert group.paired_seeds == [1, 2]
    (folder / "dipeptides-custom-fake-sr-seed1" / "result.json").unlink()
    (group,) = grouped(read_all(folder))
    assert group.paired_seeds == [2]
    assert group.ratio(EPOCH_TIME, 3) == "1.200"
    assert Column("", ("x",), 1).text([1.0, 3.0, None]) == "2.0 ± 1.4"
    assert Column("", ("x",), 1).text([None]) == "–"


def test_different_budgets_are_not_compared(folder: Path, run_fake) -> None:
    run_fake(folder, ["les"], epochs=9)
    groups = grouped(read_all(folder))
    assert sorted(len(group.results) for group in groups) == [1, 3]


def test_wrong_charge_sign_is_said(folder: Path) -> None:
    path = folder / "dipeptides-custom-fake-les-seed1" / "result.json"
    result = read_result(path)
    result["metrics"]["test"]["dipole"].update(r2=-3.0, scale=-0.9, r2_scaled=1.0)
    write_json(path, result)
    write_report(folder)
    text = (folder / "report.md").read_text()
    assert "les-seed1: Dipoles correlate negatively with the reference" in text
    result["metrics"]["test"]["dipole"].update(r2=-0.188, scale=-0.02, r2_scaled=-0.177)
    write_json(path, result)
    write_report(folder)
    assert "correlate negatively" not in (folder / "report.md").read_text()


def test_dipoles_that_were_trained_on_are_told_apart(folder: Path) -> None:
    assert "Dipoles, never trained on, have an R² of" in write_report(folder).read_text()
    for seed, r2 in ((1, 0.42), (2, 0.53)):
        path = folder / f"dipeptides-custom-fake-les-seed{seed}" / "result.json"
        result = read_result(path)
        result["metrics"] = {"test": result["metrics"]["test"]}
        result["metrics"]["test"]["dipole"]["r2"] = r2
        if seed == 1:
            result["history"][-1]["valid_dipole_rmse"] = 0.0
        write_json(path, result)
    write_report(folder)
    text = (folder / "report.md").read_text()
    assert "Dipoles, never trained on, have an R² of 0.53. " in text
    assert "Dipoles, trained on, have an R² of 0.42." in text
    assert "Dipoles, trained on (test set)." in text


def test_gain_of_the_opposite_sign() -> None:
    x, y = np.random.default_rng(1).normal(size=(2, 50))
    y -= y.mean()

    def r2(values: np.ndarray) -> float:
        return 1 - np.sum((values - y) ** 2) / np.sum(y**2)

    scale = np.sum(x * y) / np.sum(x**2)
    figures = {"scale": scale, "r2": r2(x), "r2_scaled": r2(scale * x)}
    assert gain_of_opposite_sign(figures) == pytest.approx(r2(-x) - r2(x))
    assert gain_of_opposite_sign({"scale": None}) == 0.0


def test_wetting_table(folder: Path) -> None:
    for path in folder.glob("*/result.json"):
        result = read_result(path)
        wetting = {
            "reference": {"doped": -0.067, "undoped": 0.935},
            "predicted": {"doped": 0.25, "undoped": 0.5},
        }
        result["metrics"]["test"]["wetting"] = wetting
        write_json(path, result)
    write_report(folder)
    text = (folder / "report.md").read_text()
    assert "| reference | 0.935 | -0.067 | -1.002 |" in text
    assert "| short-range | 0.500 ± 0.000 | 0.250 ± 0.000 | -0.250 ± 0.000 |" in text
    assert "| LES | 0.500 ± 0.000 |" in text


def test_what_was_not_done_is_said(folder: Path) -> None:
    cells = {
        "a": {"status": "done"},
        "b": {"status": "failed", "error": "ran out of luck\nTraceback"},
        "c": {"status": "not installed", "error": "no such upstream"},
    }
    write_json(folder / "suite.json", {"cells": cells})
    write_report(folder)
    text = (folder / "report.md").read_text()
    assert "2 trainings were not done." in text
    assert "| b | failed | ran out of luck |" in text
    assert "| c | not installed | no such upstream |" in text
    assert "| a |" not in text


def test_shares_of_the_training_set(folder: Path, run_fake) -> None:
    run_fake(folder, fractions=[0.5])
    write_report(folder)
    text = (folder / "report.md").read_text()
    assert re.search(r"dipeptides fake \| 50 % \| 3 \|", text)
    assert re.search(r"dipeptides fake \| 100 % \| 6 \|", text)
    assert "50 % of the training set" in text


def test_scans_have_pictures_and_a_table(run_fake, data: Path, tmp_path: Path) -> None:
    """Training up to 4 A, tests at 3, 4, 5 and 6 A."""
    for split, distances in (("train", (2.0, 3.0, 4.0)), ("test", (3.0, 4.0, 5.0, 6.0))):
        path = data / f"dipeptides_{split}.xyz"
        frames = read(path, ":", format="extxyz")
        for frame, distance in zip(frames, distances):
            frame.info["distance"] = distance
        write(path, frames, format="extxyz")
    out = tmp_path / "out"
    run_fake(out)
    write_report(out)
    text = (out / "report.md").read_text()
    assert text.index("(1-curve-1.png)") < text.index("|")
    assert "H2O drawn apart (fake). Shaded: distances in the training data" in text
    assert "| within 4 Å |" in text
    assert "| beyond 4 Å |" in text


def test_controls_are_compared_with_les(folder: Path) -> None:
    """One that is as good as LES on every frame shows no difference, and no pair is made of it."""
    for seed in (1, 2):
        name = f"dipeptides-custom-fake-large-sr-seed{seed}"
        shutil.copytree(folder / f"dipeptides-custom-fake-les-seed{seed}", folder / name)
        path = folder / name / "result.json"
        result = read_result(path)
        result["configuration"].update(control="large", extra=["-x"], variant="sr")
        result.update(group="another", name=name, n_parameters=12345)
        write_json(path, result)
    write_report(folder)
    text = (folder / "report.md").read_text()
    assert "With LES, force errors are lower by 90 %." in text
    table = text.partition("### Controls")[2].partition("###")[0]
    assert re.search(r"\| the same without charges \| – \| .* −90 % \|", table)
    assert re.search(r"\| large \| 12345 \| .* none shown \(", table)
    for seed in (1, 2):  # the same as a model that has charges, but not those that were learned
        path = folder / f"dipeptides-custom-fake-large-sr-seed{seed}" / "result.json"
        result = read_result(path)
        result["configuration"].update(control="random", variant="les")
        result["metrics"]["test"]["dipole"]["r2"] = 0.5
        write_json(path, result)
    write_report(folder)
    text = (folder / "report.md").read_text()
    assert "With LES, force errors are lower by 90 %." in text
    assert "have an R² of 1.00." in text  # that of a control does not count
    assert re.search(r"\| random, LES \| 12345 \| .* none shown \(", text)


def test_a_gain_without_electrostatics_is_a_warning(folder: Path) -> None:
    assert "Warning" not in write_report(folder).read_text()
    paths = list(folder.glob("*/result.json"))
    for path in paths:
        result = read_result(path)
        result["data"]["electrostatic"] = False
        write_json(path, result)
    write_report(folder)
    text = (folder / "report.md").read_text()
    warning = "nothing is electrostatic in dipeptides fake, but force errors are lower by 90 %"
    assert f"**Warning: {warning} with LES" in text
    assert "−90 %: a warning |" in text
    assert "With LES, force errors are lower" not in text
    for seed in (1, 2):
        names = (f"dipeptides-custom-fake-{variant}-seed{seed}" for variant in ("sr", "les"))
        short, les = (folder / name / "predictions.npz" for name in names)
        shutil.copy(les, short)
    write_report(folder)
    text = (folder / "report.md").read_text()
    assert "**Where nothing is electrostatic (dipeptides fake), no difference is shown" in text


def test_consistency_has_a_table(folder: Path) -> None:
    """The largest of all seeds; what was made before there were checks has none."""
    for seed, value in ((1, 2e-6), (2, 3e-5)):
        path = folder / f"dipeptides-custom-fake-les-seed{seed}" / "result.json"
        result = read_result(path)
        assert result["consistency"].keys() >= {"rotation", "huge_box", "force"}
        result["consistency"] = {"rotation": value}
        write_json(path, result)
        path = folder / f"dipeptides-custom-fake-sr-seed{seed}" / "result.json"
        result = read_result(path)
        del result["consistency"]
        write_json(path, result)
    write_report(folder)
    text = (folder / "report.md").read_text()
    table = text.partition("### Symmetry and consistency")[2].partition("###")[0]
    assert "| dipeptides fake | LES | 3e−05 | – |" in table
    assert "short-range" not in table


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
