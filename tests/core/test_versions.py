"""Versions of stored settings, and of files."""

from __future__ import annotations

import copy
import json
import pickle
import re

import pytest
import torch

from les import Les, LESConfig
from les.legacy import stored_settings
from les.settings_buffer import SETTINGS, SETTINGS_BYTES, decode, encode
from les.testing.earlier import earlier_state
from les.versions import CURRENT, FORMAT_VERSION, UPGRADES, mark, read_mark, upgraded

NEWER = rf"format version {CURRENT + 1}, and this release of les reads versions 1 to {CURRENT}"


def stored(buffer):
    return json.loads(bytes(buffer.tolist()).decode())


def as_buffer(values):
    return torch.tensor(list(json.dumps(values).encode().ljust(SETTINGS_BYTES)), dtype=torch.uint8)


def test_every_older_version_has_one_function():
    assert sorted(UPGRADES) == list(range(1, CURRENT))


def test_settings_of_version_1():
    """What they do not say is as it was, and what they say stays."""
    assert upgraded({"sigma": 1.2}, 1) == {
        "sigma": 1.2,
        "neutrality": "none",
        "element_charges": False,
    }
    assert upgraded({"neutrality": "shift"}, 1)["neutrality"] == "shift"
    assert upgraded({"sigma": 1.2}, CURRENT) == {"sigma": 1.2}


def test_each_function_is_used_once(monkeypatch):
    """Settings of version 1 go through all of them, in their order."""
    monkeypatch.setattr("les.versions.CURRENT", 3)
    monkeypatch.setitem(UPGRADES, 2, lambda settings: {**settings, "sigma": 2 * settings["sigma"]})
    assert upgraded({"sigma": 1.0}, 1)["sigma"] == 2.0
    assert upgraded({"sigma": 1.0}, 2) == {"sigma": 2.0}
    assert upgraded({"sigma": 1.0}, 3) == {"sigma": 1.0}


def test_state_dictionaries_say_their_version():
    config = LESConfig(sigma=1.3, neutrality="shift")
    assert stored(encode(config))[FORMAT_VERSION] == CURRENT
    assert decode(encode(config)) == config
    before = earlier_state({SETTINGS: encode(config)})[SETTINGS]
    assert FORMAT_VERSION not in stored(before)
    assert decode(before) == LESConfig(sigma=1.3, neutrality="none")


def test_state_of_a_newer_release():
    state = Les(LESConfig()).state_dict()
    state[SETTINGS] = as_buffer({**stored(state[SETTINGS]), FORMAT_VERSION: CURRENT + 1})
    with pytest.raises(ValueError, match=NEWER):
        Les(LESConfig()).load_state_dict(state)


@pytest.mark.parametrize("version", [0, -1, 1.0, "2", True, None])
def test_versions_that_are_none(version):
    with pytest.raises(ValueError, match="which is no whole number"):
        stored_settings({FORMAT_VERSION: version})


def test_copies_and_pickles_of_configurations():
    config = LESConfig(sigma=1.3)
    for made in (copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert made == config
        assert not hasattr(made, FORMAT_VERSION)


def test_every_setting_fits_into_the_buffer():
    """Also where values are long ones."""
    wide = LESConfig(
        use_atomwise=True,
        n_features=100_000,
        n_layers=8,
        n_hidden=(1024,) * 7,
        sigma=1.2345678901234567,
        dl=1.2345678901234567,
        epsilon_factor=1.2345678901234567,
    )
    assert decode(encode(wide)) == wide


def test_marks():
    assert read_mark(mark("les_x.Model"), ("les_x.Model",), "m.pt", "X model") == (
        "les_x.Model",
        CURRENT,
    )
    assert read_mark("les_x.Model/1", ("les_x.Model",), "m.pt", "X model")[1] == 1
    for other in (None, "les_y.Model/1", "les_x.Model", "les_x.Model/", "les_x.Model/one"):
        message = f"m.pt is no X model: its format is {other!r}, not {mark('les_x.Model')!r}"
        with pytest.raises(ValueError, match=re.escape(message)):
            read_mark(other, ("les_x.Model",), "m.pt", "X model")
    with pytest.raises(ValueError, match=rf"^m\.pt has the {NEWER}; install a newer release$"):
        read_mark(f"les_x.Model/{CURRENT + 1}", ("les_x.Model",), "m.pt", "X model")
