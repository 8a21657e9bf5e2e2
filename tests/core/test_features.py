"""The page of what works says what the backends declare."""

from __future__ import annotations

from pathlib import Path

import pytest

from les import cli
from les.backends import backend_names, get_backend
from les.backends.features import FEATURES, Support, no, table, yes

PAGE = Path(__file__).parents[2] / "docs" / "what-works.md"


@pytest.mark.parametrize("name", backend_names())
def test_every_backend_declares_every_feature(name):
    features = get_backend(name).features
    assert set(features) == set(FEATURES)
    for support in features.values():
        assert isinstance(support, Support)
        assert support.works or support.note  # nobody is told "no" without a reason


def test_the_page_has_the_table(capsys):
    """To mend it: write what ``les doctor --features`` prints to the page."""
    assert cli.main(["doctor", "--features"]) == 0
    printed = capsys.readouterr().out
    assert printed in PAGE.read_text()
    assert all(text in printed for text in FEATURES.values())


def test_columns_and_notes():
    all_work = dict.fromkeys(FEATURES, yes())
    two = {**all_work, "training": no("why"), "slabs": yes("limit"), "wires": no("why")}
    lines = table({"one": all_work, "two": two, "three": all_work}).splitlines()
    assert lines[0] == "| | one, three | two |"
    assert lines[2] == f"| {FEATURES['training']} | yes | no (1) |"
    assert f"| {FEATURES['slabs']} | yes | yes (2) |" in lines
    assert f"| {FEATURES['wires']} | yes | no (1) |" in lines
    assert lines[-3:] == ["", "1. why", "2. limit"]
