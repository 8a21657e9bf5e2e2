"""Reading labelled structures, and what is refused with file, frame and key."""

from __future__ import annotations

import gzip
import re

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from les.data.atoms import has_stress
from les.data.labels import NAMES, DataError, LabelKeys, find_label, labelled_frames, read_extxyz
from les.data.requirements import Requirements
from les.testing.structures import dimer


def molecule(**info):
    """Two atoms at different distances, so that frames can be told apart."""
    return Atoms("OH", [[0, 0, 0], [0.1, 0.2, 0.9]], info=info)


@pytest.fixture
def frames():
    return [molecule(REF_energy=-1.0 - index) for index in range(3)]


def contents(path):
    return list(read_extxyz(path))


# --- files


@pytest.mark.parametrize("suffix", ["xyz", "xyz.gz"])
def test_frames_say_where_they_are_from(frames, suffix, tmp_path):
    path = tmp_path / f"data.{suffix}"
    write(tmp_path / "data.xyz", frames, format="extxyz")
    if suffix == "xyz.gz":
        path.write_bytes(gzip.compress((tmp_path / "data.xyz").read_bytes()))
    read = contents(str(path))
    assert [where for where, _ in read] == [f"{path}: frame {index}" for index in range(3)]
    assert [atoms.info["REF_energy"] for _, atoms in read] == [-1.0, -2.0, -3.0]
    np.testing.assert_allclose(read[2][1].positions, frames[2].positions, atol=1e-8)


def test_properties_of_a_frame(tmp_path):
    atoms = Atoms("Mg2", [[0, 0, 0], [2, 2, 2]], cell=[4, 4, 5], pbc=[True, True, False])
    atoms.arrays["REF_forces"] = np.arange(6.0).reshape(2, 3)
    write(tmp_path / "data.xyz", atoms, format="extxyz")
    ((_, read),) = contents(tmp_path / "data.xyz")
    assert read.pbc.tolist() == [True, True, False]
    np.testing.assert_array_equal(read.cell.lengths(), [4, 4, 5])
    np.testing.assert_array_equal(read.arrays["REF_forces"], np.arange(6.0).reshape(2, 3))


def test_blank_lines_at_the_end(frames, tmp_path):
    path = tmp_path / "data.xyz"
    write(path, frames, format="extxyz")
    path.write_text(path.read_text() + "\n\n  \n")
    assert len(contents(path)) == 3


def test_frames_come_one_by_one(frames, tmp_path):
    """Frames before a bad one can be used."""
    path = tmp_path / "data.xyz"
    write(path, frames, format="extxyz")
    path.write_text(path.read_text() + "two\n")
    reader = read_extxyz(path)
    assert [next(reader)[0] for _ in range(3)] == [f"{path}: frame {index}" for index in range(3)]
    with pytest.raises(DataError, match="frame 3: line 13 must be a number of atoms, got 'two'"):
        next(reader)


def spoil(path, text):
    path.write_text(text)
    return path


HEAD = 'Properties=species:S:1:pos:R:3 pbc="F F F"'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no frames"),
        ("\n\n", "holds no frames"),
        ("no atoms\n", "frame 0: line 1 must be a number of atoms, got 'no atoms'"),
        (f"2\n{HEAD}\nH 0 0 0\n", r"frame 0: announces 2 atoms, 1 lines follow .*truncated"),
        (f"1\n{HEAD}\nH 0 0 0\n3\n", r"frame 1: announces 3 atoms, 0 lines follow"),
        (f"0\n{HEAD}\n", "frame 0: announces 0 atoms"),
        (f"-1\n{HEAD}\n", "frame 0: announces -1 atoms"),
        (f"1\n{HEAD}\nH 0 zero 0\n", "frame 0: not valid extended XYZ"),
        (f"1\n{HEAD}\nH 0 0 0\n1\n{HEAD}\nH 0 0\n", "frame 1: not valid extended XYZ"),
        (f"1\n{HEAD}\nXx7 0 0 0\n", "frame 0: not valid extended XYZ"),
    ],
)
def test_bad_files(text, message, tmp_path):
    path = spoil(tmp_path / "bad.xyz", text)
    with pytest.raises(DataError, match=message) as error:
        contents(path)
    assert str(error.value).startswith(str(path))


def test_truncated_gzip(frames, tmp_path):
    write(tmp_path / "data.xyz", frames, format="extxyz")
    path = tmp_path / "data.xyz.gz"
    path.write_bytes(gzip.compress((tmp_path / "data.xyz").read_bytes())[:-20])
    with pytest.raises(DataError, match=f"{re.escape(str(path))}: cannot be read"):
        contents(path)


@pytest.mark.parametrize("name", ["plain.xyz.gz", "binary.xyz", "nowhere.xyz", "folder.xyz"])
def test_what_cannot_be_read(name, tmp_path):
    (tmp_path / "plain.xyz.gz").write_text("1\n")
    (tmp_path / "binary.xyz").write_bytes(bytes([0xFF, 0xFE, 0x80, 0x81]))
    (tmp_path / "folder.xyz").mkdir()
    with pytest.raises(DataError, match=f"{re.escape(str(tmp_path / name))}: cannot be read"):
        contents(tmp_path / name)


# --- labels


@pytest.mark.parametrize("label", NAMES)
def test_names_in_order_of_preference(label):
    atoms = molecule()
    size = {"energy": [1], "stress": [6], "dipole": [3], "quadrupole": [9], "forces": [2, 3]}
    shape = {**size, "bec": [2, 9]}.get(label, [2])
    per_atom = shape[0] == 2
    place = atoms.arrays if per_atom else atoms.info
    assert find_label(atoms, label, "here") is None
    for number, name in reversed(list(enumerate(NAMES[label]))):
        place[name] = np.full(shape, float(number))
        found = find_label(atoms, label, "here")
        assert found.dtype == np.float64
        assert found.shape == tuple(shape)
        assert (found == number).all()


def test_labels_in_a_calculator(tmp_path):
    """Where ASE puts ``energy`` and ``forces`` of a file."""
    atoms = molecule()
    atoms.calc = SinglePointCalculator(atoms, energy=-3.0, forces=np.ones((2, 3)))
    write(tmp_path / "data.xyz", atoms, format="extxyz")
    ((where, read),) = contents(tmp_path / "data.xyz")
    assert find_label(read, "energy", where).tolist() == [-3.0]
    assert find_label(read, "forces", where).tolist() == np.ones((2, 3)).tolist()
    assert find_label(read, "stress", where) is None


def test_names_of_ones_own():
    atoms = molecule(energy=-1.0, dft=-2.0)
    assert find_label(atoms, "energy", "here", ["dft"]).tolist() == [-2.0]
    assert find_label(atoms, "energy", "here", ["dft2"]) is None


def test_stress_in_the_order_of_voigt():
    """Six or nine numbers: xx, yy, zz, yz, xz, xy."""
    matrix = np.array([[1.0, 6.0, 5.0], [6.0, 2.0, 4.0], [5.0, 4.0, 3.0]])
    expected = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    for value in (expected, matrix, matrix.ravel(), matrix.tolist()):
        assert find_label(molecule(stress=value), "stress", "here").tolist() == expected


@pytest.mark.parametrize(
    ("label", "value", "message"),
    [
        ("energy", "low", "must be numeric, got 'low'"),
        ("energy", np.nan, "holds NaN or infinite values"),
        ("energy", -np.inf, "holds NaN or infinite values"),
        ("energy", [1.0, 2.0], r"must have shape \[1\], got \[2\]"),
        ("stress", [1.0, 2.0, 3.0], r"must have shape \[6\], got \[3\]"),
        ("dipole", 1.0, r"must have shape \[3\], got \[\]"),
        ("forces", np.zeros((2, 2)), r"must have shape \[2, 3\], got \[2, 2\]"),
        ("forces", [[0.0, 0, 0], [0, np.nan, 0]], "holds NaN or infinite values"),
        ("magmoms", np.zeros((2, 3)), r"must have shape \[2\], got \[2, 3\]"),
    ],
)
def test_bad_labels_name_place_and_key(label, value, message):
    atoms = molecule()
    place = atoms.arrays if np.shape(value)[:1] == (2,) and label != "energy" else atoms.info
    name = f"REF_{label}"
    place[name] = np.asarray(value) if place is atoms.arrays else value
    with pytest.raises(DataError, match=rf"^file\.xyz: frame 7: key '{name}' {message}"):
        find_label(atoms, label, "file.xyz: frame 7")


def test_data_error_is_a_value_error():
    """What the command line reports without a traceback."""
    assert issubclass(DataError, ValueError)


TRAINING = """2
Lattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3:dft_forces:R:3 E=-1.5 pbc="T T T"
H 0 0 0 0 0 1
F 0 0 1 0 0 -1
"""


@pytest.fixture
def training_frames(tmp_path):
    """A function for the frames of a text, with the keys of ``TRAINING``."""

    def read(text, required=("energy", "forces"), optional=(), **options):
        path = tmp_path / "train.xyz"
        path.write_text(text)
        keys = {"energy": "E", "forces": "dft_forces"}
        return list(labelled_frames(path, required, optional, keys=keys, **options))

    return read


def test_frames_to_train_on(training_frames, tmp_path):
    first, second = training_frames(2 * TRAINING, optional=["magmoms"])
    assert first[0] == f"{tmp_path / 'train.xyz'}: frame 0"
    assert second[2]["energy"].tolist() == [-1.5]
    assert second[2]["forces"].tolist() == [[0, 0, 1], [0, 0, -1]]
    assert second[2]["magmoms"] is None
    assert len(second[1]) == 2


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (TRAINING.replace("E=", "energy="), {}, r"has no energy \(looked for the key 'E'\).*_key"),
        (TRAINING, {"required": ["stress"]}, "has no stress .*'REF_stress' or 'stress'"),
        (TRAINING.replace("T T T", "F F F"), {"required": ["stress"]}, "open .* has no stress"),
        (TRAINING.replace("T T T", "T F F"), {}, "pbc must have 0, 2 or 3 axes true"),
        (TRAINING, {"requirements": Requirements([1, 8])}, "knows the elements H, O, got F"),
        (TRAINING.replace("F 0 0 1", "F 0 0 0"), {}, "at the same place"),
    ],
)
def test_frames_not_to_train_on(training_frames, text, options, message):
    with pytest.raises(DataError, match=rf"train.xyz: frame [01]: .*{message}"):
        training_frames(TRAINING.replace("E=", "REF_stress='1 1 1 0 0 0' E=") + text, **options)


def test_one_key_for_all_frames_of_a_run(tmp_path):
    """Also where frames have both, and those of optional labels; a key that is named is the one."""
    first, second = tmp_path / "first.xyz", tmp_path / "second.xyz"
    named = TRAINING.replace("E=", "REF_energy=")
    plain, both = TRAINING.replace("E=", "energy="), TRAINING.replace("E=", "REF_energy=1 energy=")
    first.write_text(named + both)
    second.write_text(plain)
    keys = LabelKeys()
    assert len(list(labelled_frames(first, ["energy"], keys=keys))) == 2
    message = (
        "second.xyz: frame 0 has the energy under 'energy', .*first.xyz: frame 0 under "
        "'REF_energy'.* --energy_key"
    )
    for required, optional in ((["energy"], []), ([], ["energy"])):
        with pytest.raises(DataError, match=message):
            list(labelled_frames(second, required, optional, keys=keys))
    assert len(list(labelled_frames(second, ["energy"]))) == 1  # a run of its own
    second.write_text(plain + named)
    with pytest.raises(DataError, match=r"frame 1 has .*'REF_energy', .*frame 0 under 'energy'"):
        list(labelled_frames(second, ["energy"]))
    second.write_text(plain + both)
    frames = labelled_frames(second, ["energy"], keys={"energy": "energy"})
    assert [labels["energy"].item() for _, _, labels in frames] == [-1.5, -1.5]


def test_numbers_of_periodic_axes(training_frames):
    slab = TRAINING.replace("T T T", "T T F")
    assert len(training_frames(slab)) == 1
    with pytest.raises(DataError, match="frame 0: pbc must have 0 or 3 axes true"):
        training_frames(slab, requirements=Requirements(axes=(0, 3)))


def test_labels_under_other_keys_are_named(training_frames):
    text = TRAINING.replace("E=", "dft_energy=1 Energies=")
    with pytest.raises(
        DataError, match=r"no energy .* perhaps 'dft_energy' or 'Energies', with --energy_key"
    ):
        training_frames(text)


@pytest.mark.parametrize(
    ("extra", "count"),
    [("total_charge=1", 3), ("charge=0.0", 0), ("spin=1", 0), ('electric_field="0 0 0.1"', 3)],
)
def test_labels_without_effect(training_frames, tmp_path, extra, count, caplog):
    """One warning for a file, that says of how many frames."""
    training_frames(2 * TRAINING + 3 * TRAINING.replace("E=", f"{extra} E="))
    path = tmp_path / "train.xyz"
    name = extra.partition("=")[0]
    expected = [f"{count} of 5 structures of {path} have a {name} other than 0"] * bool(count)
    assert [text.split(",")[0] for text in caplog.messages] == expected


def labelled_response(tmp_path, frames, **options):
    path = tmp_path / "frames.xyz"
    write(path, frames, format="extxyz")
    return list(labelled_frames(path, ("energy", "forces"), **options))


def test_dipoles_without_a_unique_value_are_left_out(tmp_path, caplog):
    neutral, ion, periodic = dimer(), dimer(), dimer()
    ion.info["total_charge"] = 1
    periodic.set_cell(np.full(3, 20.0))
    periodic.pbc = True
    for atoms in (neutral, ion, periodic):
        atoms.info |= {"REF_energy": 1.0, "REF_dipole": [1.0, 2.0, 3.0]}
        atoms.arrays["REF_forces"] = np.zeros((len(atoms), 3))
    frames = labelled_response(tmp_path, [neutral, ion, periodic], responses=("dipole",))
    assert [labels["dipole"] is not None for *_, labels in frames] == [True, False, False]
    assert "2 of 3 structures are periodic or charged and have a dipole" in caplog.text
    with pytest.raises(DataError, match="no open and neutral structure has a dipole"):
        labelled_response(tmp_path, [ion], responses=("dipole",))


def test_a_response_does_for_energy_and_forces(tmp_path, caplog):
    caplog.set_level("INFO", logger="les")
    whole = dimer()
    whole.info["REF_energy"] = 1.0
    whole.arrays["REF_forces"] = np.zeros((len(whole), 3))
    response = dimer()
    response.arrays["bec"] = np.ones((len(response), 9))
    frames = labelled_response(tmp_path, [whole, response], responses=("bec",))
    first, second = (labels for *_, labels in frames)
    assert first["bec"] is None
    assert second["energy"] is second["forces"] is None
    assert second["bec"].shape == (len(response), 9)
    assert "1 of 2 structures have the bec; the others do not count" in caplog.text
    assert "1 of 2 structures have the energy; the others do not count" in caplog.text
    with pytest.raises(DataError, match=r"frames.xyz: frame 1: has no energy"):
        labelled_response(tmp_path, [whole, response])
    with pytest.raises(DataError, match=r"frames.xyz: no structure has Born effective charges"):
        labelled_response(tmp_path, [whole], responses=("bec",))
    other = whole.copy()
    other.arrays["mybec"] = np.ones((len(other), 9))
    with pytest.raises(DataError, match=r"right key with --bec_key \(of that shape: mybec\)$"):
        labelled_response(tmp_path, [other], responses=("bec",))
    assert labelled_response(tmp_path, [whole], responses=("bec",), responses_needed=False)


def test_cells_without_a_volume_have_no_stress(tmp_path):
    """Vectors may be missing, or lie in one plane."""
    flat, bare, whole = dimer(), dimer(), dimer()
    flat.cell = [[8.0, 0.0, 0.0], [0.0, 8.0, 0.0], [8.0, -8.0, 0.0]]
    bare.cell = [[8.0, 0.0, 0.0], [0.0, 8.0, 0.0], [0.0, 0.0, 0.0]]
    whole.cell = [8.0, 8.0, 20.0]
    for atoms, expected in ((flat, False), (bare, False), (whole, True)):
        assert not has_stress(atoms)
        atoms.pbc = (True, True, False)
        assert has_stress(atoms) == expected
    flat.info.update(REF_energy=1.0, REF_stress=np.zeros(9))
    write(tmp_path / "flat.xyz", flat, format="extxyz")
    with pytest.raises(DataError, match=r"frame 0: a cell without a volume, .* has no stress"):
        list(labelled_frames(tmp_path / "flat.xyz", ("energy", "stress")))
