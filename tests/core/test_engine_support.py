"""The page of engines says what the backends and the table of engines declare."""

from __future__ import annotations

from pathlib import Path

import pytest

from les.backends import get_backend
from les.engines.support import ENGINES, PROPERTIES, table

PAGE = Path(__file__).parents[2] / "docs" / "engines.md"
COLUMNS = {"MACE": "mace", "CACE": "cace", "CHGNet": "chgnet", "NequIP, Allegro": "nequip"}


@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_declares_every_property(name):
    gives = ENGINES[name].gives
    assert set(gives) == set(PROPERTIES)
    assert all(support.works or support.note for support in gives.values())


def test_the_page_has_the_table():
    """To mend it, put what is missing on the page."""
    assert get_backend("allegro").features == get_backend("nequip").features
    expected = table({name: get_backend(backend).features for name, backend in COLUMNS.items()})
    assert expected in PAGE.read_text(), expected


def test_every_engine_has_a_section():
    page = PAGE.read_text()
    sections = ("les md and ASE", "OpenMM", "i-PI", "LAMMPS", "TorchSim")
    assert len(sections) == len(ENGINES)
    for section in sections:
        text = page.split(f"\n## {section}\n")[1].split("\n## ")[0]
        for part in ("**Command:**", "**Units:**", "**Works:**", "**Does not:**"):
            assert part in text, (section, part)
