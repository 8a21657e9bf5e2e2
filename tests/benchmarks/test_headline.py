"""The small table of kept results: what it says, and that the pages show it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from les_bench import cli
from les_bench.report.controls import BEGIN as CONTROLS_BEGIN
from les_bench.report.controls import END as CONTROLS_END
from les_bench.report.controls import control_headline
from les_bench.report.headline import BEGIN, END, headline, put_into
from les_bench.suite.results import ResultError, read_result, write_json

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
SHORT, LES = (f"salt-made-mace-{variant}-seed1" for variant in ("sr", "les"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A pair of the results that are kept."""
    for name in (SHORT, LES):
        (tmp_path / name).mkdir()
        shutil.copy(RESULTS / name / "result.json", tmp_path / name)
    return tmp_path


def change(path: Path, seed: int | None = None, **errors: float) -> None:
    """Write a result with another seed and other errors."""
    result = read_result(path)
    result["metrics"]["test"].update(errors)
    if seed is not None:
        result["configuration"]["seed"] = seed
        path = path.parent.with_name(path.parent.name.replace("seed1", f"seed{seed}")) / path.name
        path.parent.mkdir()
    write_json(path, result)


@pytest.mark.parametrize("page", ["README.md", "docs/benchmarks.md"])
def test_pages_show_what_the_files_say(page: str) -> None:
    """If not: les bench headline benchmarks/results --write README.md docs/benchmarks.md."""
    text = (ROOT / page).read_text()
    assert f"{BEGIN}\n{headline(RESULTS)}\n{END}\n" in text


def test_the_page_of_backbones_shows_what_the_files_say() -> None:
    """If not: les bench headline benchmarks/results/standard --write PAGE."""
    text = (ROOT / "docs" / "choosing-a-backbone.md").read_text()
    assert f"{BEGIN}\n{headline(RESULTS / 'standard')}\n{END}\n" in text


def test_the_page_of_charges_shows_what_the_files_say() -> None:
    """If not: les bench headline benchmarks/results --controls --write docs/charges-compared.md."""
    text = (ROOT / "docs" / "charges-compared.md").read_text()
    assert f"{CONTROLS_BEGIN}\n{control_headline(RESULTS)}\n{CONTROLS_END}\n" in text


def test_the_page_of_moments_shows_what_the_files_say() -> None:
    """If not: les bench headline benchmarks/results/moments --controls --write docs/multipoles.md.

    As long as no results are kept it says so.
    """
    kept = RESULTS / "moments"
    text = "There are none yet, and nothing is claimed. The default stays charges alone."
    text = control_headline(kept) if kept.is_dir() else text
    page = (ROOT / "docs" / "multipoles.md").read_text()
    assert f"{CONTROLS_BEGIN}\n{text}\n{CONTROLS_END}\n" in page


def test_errors_and_seeds(folder: Path) -> None:
    change(folder / SHORT / "result.json", force_rmse=200.0, energy_rmse=10.0)
    change(folder / LES / "result.json", force_rmse=50.0, energy_rmse=5.0)
    (row,) = headline(folder).splitlines()[2:3]
    cells = [text.strip() for text in row.strip("|").split("|")]
    epochs = read_result(folder / LES / "result.json")["configuration"]["epochs"]
    assert cells[:5] == ["salt", "mace", "formula", str(epochs), "1"]
    assert cells[5:7] == ["200 → 50.0 (−75 %)", "10.0 → 5.00 (−50 %)"]
    assert "All rows have one seed only" in headline(folder)
    change(folder / SHORT / "result.json", seed=2, force_rmse=100.0, energy_rmse=4.0)
    change(folder / SHORT / "result.json", seed=3, force_rmse=1.0, energy_rmse=1.0)  # no partner
    change(folder / LES / "result.json", seed=2, force_rmse=100 / 3, energy_rmse=5.0)
    (row,) = headline(folder).splitlines()[2:3]
    cells = [text.strip() for text in row.strip("|").split("|")]
    assert cells[4] == "2"
    assert cells[5] == "150 → 41.7 (−72 %)"
    assert cells[6] == "7.00 → 5.00 (none shown)"  # the seeds disagree
    assert "one seed" not in headline(folder)


def test_no_pairs(folder: Path) -> None:
    shutil.rmtree(folder / SHORT)
    with pytest.raises(ResultError, match="has no seed with both a short-range model and one with"):
        headline(folder)


def test_into_a_page(folder: Path, capsys) -> None:
    page = folder / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    assert cli.main(["headline", str(folder), "--write", str(page)]) == 0
    assert not capsys.readouterr().out
    assert cli.main(["headline", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert page.read_text() == f"before\n{BEGIN}\n{printed}{END}\nafter\n"
    for text in (f"{BEGIN}\n", f"{END}\n{BEGIN}\n", f"{BEGIN}\n{END}\n{BEGIN}\n{END}\n"):
        page.write_text(text)
        with pytest.raises(ValueError, match=r"page\.md: must have the lines"):
            put_into(page, "new")
        assert page.read_text() == text


def test_controls(folder: Path, tmp_path: Path) -> None:
    """Models with LES beside other ones of the same data and budget, without predictions."""
    with pytest.raises(ResultError, match="has no controls of models with LES"):
        control_headline(folder)
    other = read_result(folder / LES / "result.json")
    other["configuration"] |= {"control": "free sums of charges", "extra": ["--x"]}
    other["group"] = "another"
    other["metrics"]["test"] |= {"force_rmse": 99.0, "charge_neutrality": 0.5}
    other["metrics"]["test"]["part_charge"] = {"mean": 0.7, "reference": 0.4, "rmse": 0.3}
    (folder / "other").mkdir()
    write_json(folder / "other" / "result.json", other)
    title, _, header, _, short, own, control = control_headline(folder).splitlines()[:7]
    assert title == "`salt` (formula), mace, 10 epochs:"
    assert header.startswith("|  | seeds | force RMSE [meV/Å] | energy RMSE [meV/atom] | ")
    assert "charge of the part [e] | of the reference [e]" in header
    error = read_result(folder / SHORT / "result.json")["metrics"]["test"]["force_rmse"]
    assert short.startswith(f"| without LES | 1 | {error:.1f} | ")
    assert own.startswith("| with LES | 1 | ")
    assert control.startswith("| free sums of charges | 1 | 99.0 |")
    assert "| 0.70 | 0.40 |" in control
    cells = dict(zip(header.split(" | "), control.split(" | "), strict=True))
    assert cells["max. charge error [e]"] == "0.50"
    for extra, name in (("--a", "one"), ("--b", "two"), ("--b", "again")):
        more = read_result(folder / LES / "result.json")
        more["configuration"] |= {"extra": [extra], "seed": 2}
        more["configuration"]["versions"] = more["group"] = name
        (folder / name).mkdir()
        write_json(folder / name / "result.json", more)
        if name == "two":
            lines = control_headline(folder).splitlines()
            assert [line.split(" |")[0] for line in lines[4:8]] == [
                "| without LES",
                "| with LES",
                "| with LES (--a)",
                "| with LES (--b)",
            ]
    with pytest.raises(ResultError, match=r"salt .*: there are two results of seed 2"):
        control_headline(folder)
    shutil.rmtree(folder / "again")
    page = tmp_path / "page.md"
    page.write_text(f"{CONTROLS_BEGIN}\nold\n{CONTROLS_END}\n")
    assert cli.main(["headline", str(folder), "--controls", "--write", str(page)]) == 0
    assert page.read_text() == f"{CONTROLS_BEGIN}\n{control_headline(folder)}\n{CONTROLS_END}\n"
