"""Training data that lacks labels is refused, with file, frame and key."""

from __future__ import annotations

import re

import numpy as np
import pytest
from ase.io import read, write


def write_changed(source, target, change):
    """Write ``target`` with the frames of ``source`` after ``change(frames)``."""
    frames = read(source, ":")
    change(frames)
    write(target, frames, format="extxyz")
    return target


def without_energy(*chosen):
    def change(frames):
        for index in chosen or range(len(frames)):
            del frames[index].info["REF_energy"]

    return change


def without_forces(frames):
    del frames[4].arrays["REF_forces"]


def with_nan(frames):
    frames[3].arrays["REF_forces"][2, 1] = np.nan


def without_labels(frames):
    for atoms in frames:
        del atoms.info["REF_energy"], atoms.arrays["REF_forces"]


@pytest.mark.parametrize("option", ["train_file", "valid_file"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_energy(), r"frame 0: energy \(key 'REF_energy'\) is missing; .*--energy_key"),
        (without_energy(2), r"frame 2: energy \(key 'REF_energy'\) is missing"),
        (without_forces, r"frame 4: forces \(key 'REF_forces'\) is missing"),
        (with_nan, r"frame 3: forces \(key 'REF_forces'\) must be finite"),
        (without_labels, r"'REF_energy'.* found in .*bad\.xyz"),
    ],
    ids=["no energies", "one energy", "forces", "nan", "nothing"],
)
def test_data_without_labels(option, change, message, refused, data_files, arguments, tmp_path):
    """Upstream would give such frames the weight zero, but for the last case."""
    bad = write_changed(data_files[0], tmp_path / "bad.xyz", change)
    error = refused(arguments(tmp_path, **{option: bad}))
    assert "bad.xyz" in error
    assert re.search(message, error), error


def test_frames_may_waive_a_label(initial_state, data_files, arguments, tmp_path):
    def waive(frames):
        without_energy(5)(frames)
        frames[5].info["config_energy_weight"] = 0.0

    partly = write_changed(data_files[0], tmp_path / "partly.xyz", waive)
    options = arguments(tmp_path, train_file=partly, E0s="{1: 0.0, 8: -2.0}")
    assert initial_state("--les", options)
    # With forces alone in the loss, energies are not needed.
    forces = write_changed(data_files[0], tmp_path / "forces.xyz", without_energy())
    options = arguments(tmp_path, train_file=forces, loss="forces_only", E0s="{1: 0.0, 8: -2.0}")
    assert initial_state("--les", options)


def test_labels_under_the_names_of_ase(initial_state, refused, data_files, arguments, tmp_path):
    def rename(frames):
        for atoms in frames:
            atoms.info["energy"] = atoms.info.pop("REF_energy")
            atoms.arrays["forces"] = atoms.arrays.pop("REF_forces")

    def rename_but_one(frames):
        rename(frames)
        del frames[6].info["energy"]

    plain = write_changed(data_files[0], tmp_path / "plain.xyz", rename)
    keys = {"energy_key": "energy", "forces_key": "forces", "valid_file": plain}
    assert initial_state("--les", arguments(tmp_path, train_file=plain, **keys))
    partly = write_changed(data_files[0], tmp_path / "partly.xyz", rename_but_one)
    error = refused(arguments(tmp_path, train_file=partly, **keys))
    assert "frame 6: energy (key 'energy') is missing" in error


def test_short_range_training_stays_upstreams(initial_state, data_files, arguments, tmp_path):
    """``--no-les`` accepts what upstream accepts."""
    bad = write_changed(data_files[0], tmp_path / "bad.xyz", without_energy(3))
    options = arguments(tmp_path, train_file=bad, E0s="{1: 0.0, 8: -2.0}")
    assert initial_state("--no-les", options)
