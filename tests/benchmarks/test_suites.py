"""Suites as tables: what they hold, what is chosen from them, and tables that cannot be used."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from les.backends import backend_names
from les_bench.suite.cell import Cell, Settings
from les_bench.suite.suites import SuiteError, get_suite, suite_names, suite_of
from les_bench.systems.datasets import load
from les_bench.systems.evaluation_only import EVALUATION_ONLY
from les_bench.systems.in_field import IN_FIELD
from les_bench.systems.systems import SYSTEMS

TABLE = """
mine:
  data: embedded
  parts:
    - systems: [water]
      models: [mace, cace]
      seeds: 2
      epochs: {default: 9, cace: 5, mace/water: 7}
    - systems: [water]
      models: [mace]
      fractions: [0.5, 1]
      epochs: 7
"""


@pytest.fixture
def table(tmp_path: Path):
    """Write a table; returns its name."""

    def write(text: str) -> str:
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return str(path)

    return write


@pytest.mark.parametrize("name", suite_names())
def test_suites_that_come_with_les(name: str) -> None:
    suite = get_suite(name)
    cells = [cell for cell in suite.cells() if not cell.control]
    assert {cell.system for cell in suite.cells()} <= set(SYSTEMS)
    if name not in ("demo", "charges_quick", "moments", "moments_quick"):
        assert {cell.model for cell in cells} == {"mace", "nequip", "allegro", "cace", "chgnet"}
    assert {cell.model for cell in cells} <= set(backend_names())
    assert len(cells) == len(set(cells))
    # Every short-range training is followed by the one with LES that it is compared with.
    for short, les in zip(cells[::2], cells[1::2], strict=True):
        assert (short.variant, les.variant) == ("sr", "les")
        assert Cell(**{**vars(short), "variant": "les"}) == les


def test_every_system_has_a_card() -> None:
    text = (Path(__file__).parents[2] / "docs" / "benchmark-cards.md").read_text()
    cards = re.split(r"^### `(\w+)`$", text, flags=re.MULTILINE)
    assert set(cards[1::2]) == {*SYSTEMS, *EVALUATION_ONLY, *IN_FIELD}
    for card in cards[2::2]:
        for part in ("**Tells**", "**Does not tell**", "**Metrics**", "**Cost**", "**Data**"):
            assert part in card


def test_a_table_of_ones_own(table) -> None:
    suite = get_suite(table(TABLE))
    assert (suite.name, suite.data) == ("mine", "embedded")
    cells = [(c.model, c.variant, c.seed, c.epochs, c.fraction) for c in suite.cells()]
    assert cells == [
        ("mace", "sr", 1, 7, 1.0),
        ("mace", "les", 1, 7, 1.0),
        ("cace", "sr", 1, 5, 1.0),
        ("cace", "les", 1, 5, 1.0),
        ("mace", "sr", 1, 7, 0.5),
        ("mace", "les", 1, 7, 0.5),
        ("mace", "sr", 2, 7, 1.0),
        ("mace", "les", 2, 7, 1.0),
        ("cace", "sr", 2, 5, 1.0),
        ("cace", "les", 2, 5, 1.0),
    ]


def test_controls(table) -> None:
    text = (
        "{systems: [water], models: [mace], variants: [sr], control: large, options: {mace: [-x]}}"
    )
    (cell,) = get_suite(table(f"mine: {{parts: [{text}]}}")).cells()
    assert cell == Cell("water", "mace", "sr", 1, control="large", options=("-x",))
    run = Settings(data="embedded", extra=("-y",)).run(cell, load(SYSTEMS["water"], "embedded"))
    assert run.extra == ("-y", "-x")
    assert run.name == "water-embedded-mace-large-sr-seed1"
    assert run.name == Settings(data="embedded").name(cell)


def test_a_part_of_a_suite(table) -> None:
    suite = get_suite(table(TABLE))
    cells = suite.only(models=["cace"], variants=["les"], seeds=1, epochs=3).cells()
    assert cells == [Cell("water", "cace", "les", 1, 3)]
    assert suite.only(fractions=[0.1], seeds=1, models=["mace"]).cells()[0].fraction == 0.1
    with pytest.raises(SuiteError, match="has no model 'mce'; did you mean 'mace'"):
        suite.only(models=["mce"])
    with pytest.raises(SuiteError, match=r"has no system 'dipeptides' \(it has: water\)"):
        suite.only(systems=["dipeptides"])
    with pytest.raises(SuiteError, match="`seeds` and `epochs` must be positive numbers, got 0"):
        suite.only(seeds=0)
    with pytest.raises(SuiteError, match="fractions"):
        suite.only(fractions=[1.5])


def test_a_suite_without_a_name() -> None:
    suite = suite_of(["water"], ["mace"], demo=True)
    assert [cell.epochs for cell in suite.cells()] == [SYSTEMS["water"].demo_epochs] * 2
    assert suite_of(["water"], ["mace"]).cells()[0].epochs is None
    with pytest.raises(SuiteError, match="`variant` must be one of sr, les, got 'lse'"):
        suite_of(["water"], ["mace"], ["lse"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as a table"),
        ("[]", "must hold suites by their names"),
        ("{}", "must hold one suite, got none"),
        ("a: {parts: []}", "`parts` must be a list"),
        ("a: {part: []}", r"unknown key `part`; did you mean `parts`\?"),
        ("a: {title: x}", "lacks `parts`"),
        ("a: {parts: [{systems: [water]}]}", "part 1 lacks `models`"),
        ("a: {parts: [{systems: water, models: [mace]}]}", "`systems` must be a list of names"),
        ("a: {parts: [{systems: [watr], models: [mace]}]}", "did you mean 'water'"),
        ("a: {parts: [{systems: [water], models: [mace], seeds: 0}]}", "got 0 and None"),
        ("a: {parts: [{systems: [water], models: [mace], epochs: {x: y}}]}", "positive numbers"),
        ("a: {parts: [{systems: [water], models: [mace], fractions: [2]}]}", r"in \(0, 1\]"),
        ("a: {parts: [{systems: [water], models: [mace], variants: [x]}]}", "are sr, les, got"),
        ("a: {parts: [{systems: [water], models: [mace], control: x}]}", "a `control` needs"),
        ("a: {parts: [{systems: [water], models: [mace], options: {mce: [-x]}}]}", "lists by the"),
        ("a: {parts: [{systems: [water], models: [mace], options: {mace: -x}}]}", "lists by the"),
    ],
)
def test_tables_that_cannot_be_used(table, text: str, message: str) -> None:
    with pytest.raises(SuiteError, match=message):
        get_suite(table(text))


def test_unknown_suites(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="unknown suite 'quik'; did you mean 'quick'"):
        get_suite("quik")
    with pytest.raises(SuiteError, match=r"nowhere\.yaml cannot be read"):
        get_suite(str(tmp_path / "nowhere.yaml"))
