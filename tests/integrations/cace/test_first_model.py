"""What stands in docs/first-model.md runs, with fewer structures and epochs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from ase.io import read, write

from les import cli

PAGE = Path(__file__).parents[3] / "docs" / "first-model.md"


def blocks() -> list[tuple[str, str]]:
    """Language and text of each block that has one."""
    return re.findall(r"^```(\w+)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.S | re.M)


@pytest.mark.slow
def test_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert [language for language, _ in blocks()] == ["python", *3 * ["bash"], "python"]
    for language, text in blocks():
        if language == "python":
            exec(compile(text, str(PAGE), "exec"), {})
        else:
            words = shlex.split(text.replace("\\\n", "").replace("--epochs 10", "--epochs 1"))
            assert words.pop(0) == "les"
            assert cli.main(words) == 0
        for name in ("train", "valid", "test"):
            write(f"{name}.xyz", read(f"{name}.xyz", ":8"))
    said = capsys.readouterr().out
    assert Path("salt.cace.pt").is_file()
    assert "Na " in said and "Cl " in said  # charges by element
    assert "8 structures written to predictions.xyz" in said
    assert {"LES_charges", "LES_born_effective_charges"} <= set(read("predictions.xyz").arrays)
