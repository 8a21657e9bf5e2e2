"""Training data: every frame counts, and what lacks labels is refused, with file, frame and key."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from ase import Atoms
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


def with_energies_of_two_kinds(frames):
    rename(frames[1:2])


def with_atoms_at_one_place(frames):
    frames[2].positions[1] = frames[2].positions[0]


def with_one_periodic_axis(frames):
    frames[1].pbc = [True, False, False]


def rename(frames):
    """Labels under the names that ASE gives them."""
    for atoms in frames:
        atoms.info["energy"] = atoms.info.pop("REF_energy")
        atoms.arrays["forces"] = atoms.arrays.pop("REF_forces")


@pytest.mark.parametrize("option", ["train_file", "valid_file"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_energy(), r"frame 0: energy \(key 'REF_energy'\) is missing; .*--energy_key"),
        (without_energy(2), r"frame 2: energy \(key 'REF_energy'\) is missing"),
        (without_forces, r"frame 4: forces \(key 'REF_forces'\) is missing"),
        (with_nan, r"frame 3: key 'REF_forces' holds NaN or infinite values"),
        (without_labels, r"frame 0: energy \(key 'REF_energy'\) is missing"),
        (with_energies_of_two_kinds, r"frame 1 has the energy under 'energy', .*frame 0 under 'RE"),
        (with_atoms_at_one_place, r"frame 2: atoms 0 and 1 are at the same place"),
        (with_one_periodic_axis, r"frame 1: pbc must have 0, 2 or 3 axes true"),
    ],
    ids=["no energies", "one energy", "forces", "nan", "nothing", "mixed", "atoms", "wire"],
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


@pytest.mark.parametrize("flag", ["--les", "--no-les"])
def test_labels_under_the_names_of_ase(flag, initial_state, data_files, arguments, tmp_path):
    """They are found, named or not, where all files have them."""
    expected = initial_state(flag, arguments(tmp_path))
    plain = write_changed(data_files[0], tmp_path / "plain.xyz", rename)
    files = {"train_file": plain, "valid_file": plain}
    for keys in ({}, {"energy_key": "energy", "forces_key": "forces"}):
        state = initial_state(flag, arguments(tmp_path, **files, **keys))
        for key, value in expected.items():  # the average energies are in it
            assert torch.equal(state[key], value), key


def test_one_key_in_all_files(refused, data_files, arguments, tmp_path):
    plain = write_changed(data_files[0], tmp_path / "plain.xyz", rename)
    error = refused(arguments(tmp_path, valid_file=plain))
    assert re.search(
        "plain.xyz: frame 0 has the energy under 'energy', .*train.*xyz: frame 0 under 'REF_energy'"
        ".* --energy_key",
        error,
    ), error


def test_a_key_that_is_named_is_the_only_one(refused, data_files, arguments, tmp_path):
    plain = write_changed(data_files[0], tmp_path / "plain.xyz", rename)
    error = refused(arguments(tmp_path, train_file=plain, energy_key="REF_energy"))
    assert "frame 0: energy (key 'REF_energy') is missing" in error


def test_isolated_atoms_under_the_names_of_ase(initial_state, data_files, arguments, tmp_path):
    """Upstream would take their energies for zero."""

    def with_atoms(frames):
        rename(frames)
        for symbol, energy in (("H", -0.4), ("O", -6.0)):
            atom = Atoms(symbol, info={"config_type": "IsolatedAtom", "energy": energy})
            atom.arrays["forces"] = np.zeros((1, 3))
            frames.append(atom)

    path = write_changed(data_files[0], tmp_path / "atoms.xyz", with_atoms)
    state = initial_state("--les", arguments(tmp_path, train_file=path, valid_file=path))
    energies = state["atomic_energies_fn.atomic_energies"].reshape(-1).tolist()
    assert energies == pytest.approx([-0.4, -6.0])


@pytest.mark.parametrize("flag", ["--les", "--no-les"])
def test_blank_lines_between_frames(flag, initial_state, data_files, arguments, caplog, tmp_path):
    """ASE reads the first frame of such a file, and upstream trains on it."""
    n_lines = len(read(data_files[0], 0)) + 2
    lines = data_files[0].read_text().splitlines()
    blocks = ["\n".join(lines[i : i + n_lines]) for i in range(0, len(lines), n_lines)]
    (tmp_path / "blank.xyz").write_text("\n\n".join(blocks) + "\n")
    expected = initial_state(flag, arguments(tmp_path))
    state = initial_state(flag, arguments(tmp_path, train_file=tmp_path / "blank.xyz"))
    for key, value in expected.items():
        assert torch.equal(state[key], value), key
    assert caplog.text.count("train=12, valid=4") == 2


def test_truncated_file(refused, data_files, arguments, tmp_path):
    lines = data_files[0].read_text().splitlines()
    (tmp_path / "cut.xyz").write_text("\n".join(lines[:-3]) + "\n")
    error = refused(arguments(tmp_path, train_file=tmp_path / "cut.xyz"))
    assert re.search(r"cut\.xyz: frame 11", error), error


def test_labels_without_effect(initial_state, data_files, arguments, caplog, tmp_path):
    def charge(frames):
        for index, atoms in enumerate(frames):
            atoms.info["total_charge"] = index % 2
            atoms.info["REF_stress"] = np.zeros(6)

    path = write_changed(data_files[0], tmp_path / "charged.xyz", charge)
    options = {"train_file": path, "les_arguments": "{neutrality: none}"}
    assert initial_state("--les", arguments(tmp_path, **options))
    assert re.search(r"6 of 12 structures of .*charged\.xyz have a total_charge", caplog.text)
    assert "12 of 12 frames have stress (key 'REF_stress'), which have no effect" in caplog.text


def test_stress_of_what_has_none(refused, data_files, arguments, tmp_path):
    def stress(frames):
        for atoms in frames:
            atoms.info["REF_stress"] = np.zeros(6)

    path = write_changed(data_files[0], tmp_path / "stress.xyz", stress)
    error = refused(arguments(tmp_path, train_file=path, loss="stress"))
    assert "frame 0: has a stress (key 'REF_stress'), but no periodic axis" in error

    def slab(frames):
        for atoms in frames:
            atoms.pbc, atoms.cell = [True, True, False], [5.0, 5.0, 0.0]
        stress(frames)

    path = write_changed(data_files[0], tmp_path / "slab.xyz", slab)
    error = refused(arguments(tmp_path, train_file=path, loss="stress"), "--no-les")
    assert "frame 0: has a stress (key 'REF_stress'), but its cell has no volume" in error


def test_other_formats_of_ase(initial_state, data_files, arguments, tmp_path):
    plain = write_changed(data_files[0], tmp_path / "plain.xyz", rename)
    write(tmp_path / "train.traj", read(plain, ":"))
    options = arguments(tmp_path, train_file=tmp_path / "train.traj", valid_file=plain)
    expected, state = initial_state("--les", arguments(tmp_path)), initial_state("--les", options)
    assert torch.equal(*(x["atomic_energies_fn.atomic_energies"] for x in (expected, state)))


@pytest.mark.parametrize("flag", ["--les", "--no-les"])
def test_the_same_labels_with_les_and_without(flag, refused, data_files, arguments, tmp_path):
    """Upstream would train on the others; with average energies of elements, the model is NaN."""
    bad = write_changed(data_files[0], tmp_path / "bad.xyz", without_energy(3))
    error = refused(arguments(tmp_path, train_file=bad), flag)
    assert "bad.xyz: frame 3: energy (key 'REF_energy') is missing" in error
