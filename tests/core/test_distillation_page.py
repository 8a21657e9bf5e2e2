"""The walkthrough of docs/distillation.md, as far as it needs no upstream."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ase.io import read

from les.distillation.recipe import Settings
from les.distillation.registry import REGISTRY
from les.distillation.stages import STAGES, Distillation

PAGE = (Path(__file__).parents[2] / "docs" / "distillation.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.slow
def test_walkthrough(tmp_path):
    """Its start and its settings make configurations, labels and sets."""
    pytest.importorskip("tblite")
    python, *start = shlex.split(blocks("bash")[0].splitlines()[0])
    assert python == "python"
    subprocess.run([sys.executable, *start], cwd=tmp_path, check=True)
    source = tmp_path / "distill.yaml"
    source.write_text(blocks("yaml")[0])
    settings = Settings.from_yaml(source)
    made = Distillation(settings, tmp_path, source)
    (teacher,) = settings.teachers
    for stage in ("configurations", "selection", "labels", "split"):
        assert made.perform(stage, teacher.name if STAGES[stage] else "")
    scans = 9 * 3
    labelled = read(tmp_path / teacher.name / "labels.xyz", ":")
    assert len(labelled) == settings.selection.count + scans
    sets = [read(tmp_path / teacher.name / f"{name}.xyz", ":") for name in ("valid", "test")]
    assert all(len(each) >= 5 for each in sets)


def test_other_settings_are_read():
    for text in blocks("yaml")[1:]:
        values = {**yaml.safe_load(blocks("yaml")[0]), **yaml.safe_load(text)}
        assert Settings.from_mapping(values)


def test_all_teachers_are_there():
    for name, known in REGISTRY.items():
        assert f"`{name}`" in PAGE
        assert f"`{known.install}`" in PAGE
