"""Settings of a distillation: what is refused, and in which words."""

from __future__ import annotations

import re

import pytest
import yaml

from les.distillation.recipe import Settings

STUDENT = {"backend": "mace", "config": "mace/water"}
GOOD = {
    "teachers": ["gfn1-xtb"],
    "start": ["start.xyz"],
    "configurations": {"rattles": {"count": 2}},
    "student": STUDENT,
}


def changed(**changes):
    return {key: value for key, value in {**GOOD, **changes}.items() if value is not None}


def test_defaults_and_names(tmp_path):
    path = tmp_path / "distill.yaml"
    teachers = ["gfn1-xtb", {"teacher": "some.module:make", "options": {"a": 1}}]
    path.write_text(yaml.safe_dump(changed(teachers=teachers, start="start.xyz")))
    settings = Settings.from_yaml(path)
    assert [each.name for each in settings.teachers] == ["gfn1-xtb", "some.module-make"]
    assert settings.start == ("start.xyz",)
    assert settings.path("start.xyz") == tmp_path / "start.xyz"
    assert settings.path("/elsewhere/start.xyz").parts[1] == "elsewhere"
    assert settings.configurations.rattles.count == 2
    assert settings.configurations.dynamics is None
    assert settings.teacher("gfn1-xtb").options == {}
    with pytest.raises(ValueError, match=r"no teacher 'x' \(known: gfn1-xtb, some.module-make\)"):
        settings.teacher("x")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teachers": None}, "has no `teachers`"),
        ({"teachers": "gfn1-xtb"}, "`teachers` must be a list of teachers, got 'gfn1-xtb'"),
        ({"teachers": ["gfn1-xtb", "gfn1-xtb"]}, "two teachers have the name 'gfn1-xtb'"),
        ({"teachers": [{"name": "x"}]}, "teachers: has no `teacher`"),
        ({"teachers": [{"teacher": "x", "name": "a/b"}]}, "`name` must be letters"),
        ({"temperature": 300}, "unknown key 'temperature'"),
        ({"start": None}, "rattles, dynamics and scans need `start`"),
        ({"configurations": {"files": ["a.xyz"]}}, "`start` has no effect without rattles"),
        ({"configurations": {}}, "must have at least one of files, rattles, dynamics and scans"),
        ({"configurations": {"rattle": {}}}, "unknown key 'rattle'; did you mean 'rattles'"),
        ({"configurations": {"rattles": {"count": 0}}}, "rattles: `count` must be a whole number"),
        ({"configurations": {"rattles": {"amplitudes": [0.1, 0.1]}}}, "same number twice"),
        ({"configurations": {"dynamics": {"temperatures": [-1]}}}, "numbers above 0"),
        ({"configurations": {"dynamics": {"steps": 10, "every": 20}}}, "of at least 20, got 10"),
        ({"configurations": {"scans": {"distances": []}}}, "`distances` must be a list of numbers"),
        ({"selection": {"count": 2}}, "selection: `count` must be a whole number of at least 3"),
        ({"split": {"valid": 0.6}}, "split: `valid` must be a share between 0 and 0.5, got 0.6"),
        ({"split": {"block": 2}}, "split: `block` must be more than twice `gap`"),
        ({"limits": {"force": "x"}}, "limits: `force` must be a positive number, got 'x'"),
        ({"student": {"backend": "mace"}}, "student: has no `config`"),
        ({"student": {**STUDENT, "les": 1}}, "`les` must be true or false, got 1"),
        ({"teachers": [{"teacher": "x", "name": 7}]}, "`name` must be a text, got 7"),
        ({"teachers": [{"teacher": "x", "python": 3}]}, "`python` must be a text, got 3"),
        ({"teachers": [{"teacher": "x", "options": [1]}]}, "`options` must be a mapping of names"),
        ({"teachers": [{"teacher": "x", "options": 3}]}, "`options` must be a mapping of names"),
        ({"teachers": [{"teacher": "x", "options": {1: 2}}]}, "must be a mapping of names"),
        ({"student": {**STUDENT, "device": 3}}, "student: `device` must be a text, got 3"),
        ({"student": {**STUDENT, "python": ["x"]}}, "`python` must be a text, got ['x']"),
        ({"selection": 0}, "`selection` must be a mapping of keys to values, got 0"),
        ({"limits": []}, "`limits` must be a mapping of keys to values, got []"),
        ({"split": False}, "`split` must be a mapping of keys to values, got False"),
        ({"configurations": {"dynamics": {"steps": 130, "every": 50}}},
         "dynamics: `steps` must be a multiple of `every` (50), got 130"),
        ({"seed": -1}, "`seed` must be a whole number of at least 0, got -1"),
    ],
)  # fmt: skip
def test_bad_settings(changes, message, tmp_path):
    path = tmp_path / "distill.yaml"
    path.write_text(yaml.safe_dump(changed(**changes)))
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        Settings.from_yaml(path)
    assert str(error.value).startswith(f"{path}: ")
