"""Data: every frame counts, with labels that have the same names throughout a run."""

from __future__ import annotations

import numpy as np
import pytest
from ase.io import read, write
from nequip.data.dataset import ASEDataset, ase_dataset

from les.data.atoms import ANY_AXES, LONG_RANGE_AXES
from les.data.extxyz import DataError
from les.data.requirements import Requirements
from les_nequip.labels import LabelledFiles

pytestmark = pytest.mark.usefixtures("nequip_state")

FIELDS = {"total_energy": False, "forces": False}


def load(files, path, **settings):
    """A data set of upstream, as its data modules make it."""
    with files.reading():
        return ASEDataset(file_path=str(path), **settings)


@pytest.fixture(params=[True, False], ids=["les", "no-les"])
def files(request):
    axes = LONG_RANGE_AXES if request.param else ANY_AXES
    return LabelledFiles(FIELDS, Requirements([1, 8], axes))


@pytest.fixture
def frames(data_files):
    return read(data_files[0], ":")


@pytest.fixture
def written(tmp_path):
    """A function that writes frames, or a text, to a file."""

    def make(content, name="data.xyz"):
        path = tmp_path / name
        if isinstance(content, str):
            path.write_text(content)
        else:
            write(path, content, format="extxyz")
        return path

    return make


@pytest.mark.parametrize("prefix", ["REF_", ""])
def test_names_of_labels(files, written, data_files, prefix):
    """With ``REF_`` or without, whatever the configuration maps."""
    text = data_files[0].read_text().replace("REF_", prefix)
    expected = [frame.info["REF_energy"] for frame in read(data_files[0], ":")]
    for mapping in ({}, {"REF_energy": "total_energy"}):
        found = load(LabelledFiles(FIELDS, Requirements()), written(text), key_mapping=mapping)
        assert [data["total_energy"].item() for data in found.data_list] == expected
        assert all(data["forces"].abs().max() > 0 for data in found.data_list)
    assert ase_dataset.ase.__name__ == "ase"  # nothing of upstream stays changed


def test_reference_labels_come_first(files, written, frames):
    """ASE's own energy, such as one of a force field, is not taken in their place."""
    expected = [frame.info["REF_energy"] for frame in frames]
    for frame in frames:
        frame.info["energy"] = 17.0
    found = load(files, written(frames))
    assert [data["total_energy"].item() for data in found.data_list] == expected


def test_a_dipole_that_no_loss_has(files, written, frames):
    """Upstream takes it for one of each atom."""
    for frame in frames:
        frame.info["dipole"] = np.ones(3)
    found = load(files, written(frames))
    assert len(found.data_list) == len(frames)
    assert all("dipole" not in data for data in found.data_list)


def test_labels_by_the_names_given(written, data_files):
    text = data_files[0].read_text().replace("REF_energy", "E0")
    mapping = {"E0": "total_energy"}
    named = LabelledFiles(FIELDS, Requirements(), exact=["total_energy"])
    assert len(load(named, written(text), key_mapping=mapping).data_list) == 12
    plain = data_files[0].read_text().replace("REF_energy", "energy")
    with pytest.raises(DataError, match=r"frame 0: total_energy \(key 'E0'\) is missing"):
        load(
            LabelledFiles(FIELDS, Requirements(), exact=["total_energy"]),
            written(plain),
            key_mapping=mapping,
        )


def test_mixed_names(files, written, frames):
    frames[5].info["energy"] = frames[5].info.pop("REF_energy")
    with pytest.raises(DataError, match=r"frame 5: total_energy is there as 'energy', but .*fr"):
        load(files, written(frames))


def test_mixed_names_in_two_files(files, data_files, written):
    load(files, data_files[0])
    other = written(data_files[1].read_text().replace("REF_forces", "forces"))
    with pytest.raises(DataError, match=r"data.xyz: frame 0: forces is there as 'forces', but"):
        load(files, other)


@pytest.mark.parametrize("key", ["REF_energy", "REF_forces"])
@pytest.mark.parametrize("value", [None, np.nan, np.inf])
def test_labels_of_every_frame(files, written, frames, key, value):
    labels = frames[3].info if key == "REF_energy" else frames[3].arrays
    if value is None:
        del labels[key]
    else:
        labels[key] = labels[key] * value
    field = {"REF_energy": "total_energy", "REF_forces": "forces"}[key]
    problem = "is missing; name the right key" if value is None else "must be finite, got NaN"
    with pytest.raises(DataError, match=rf"data.xyz: frame 3: {field} \(key '{key}'.*{problem}"):
        load(files, written(frames))


def test_nan_where_the_loss_allows_it(written, frames):
    frames[3].info["REF_energy"] = np.nan
    files = LabelledFiles({"total_energy": True, "forces": False}, Requirements())
    assert len(load(files, written(frames)).data_list) == 12


def test_blank_line_between_frames(files, written, data_files):
    """ASE would end there, and the rest of the file be lost."""
    lines = data_files[0].read_text().split("\n")
    lines.insert(int(lines[0]) + 2, "")
    assert len(load(files, written("\n".join(lines))).data_list) == 12


def test_format_that_is_given(files, written, data_files):
    """It does not bring ASE's reader back, and the closing table has the same frames."""
    lines = data_files[0].read_text().split("\n")
    lines.insert(int(lines[0]) + 2, "")
    for name in ("data.xyz", "data.labels"):
        path = written("\n".join(lines), name)
        found = load(files, path, ase_args={"format": "extxyz"})
        assert len(found.data_list) == len(list(files.labelled(path))) == 12


@pytest.mark.parametrize(
    ("ase_args", "message"),
    [
        ({"index": ":"}, "data.xyz: `ase_args` must not have 'index': all frames count"),
        ({"format": "extxyz", "nope": 1}, "data.xyz: `ase_args` have 'nope', which has no effect"),
        ({"nope": 1}, "data.xyz: `ase_args` have 'nope', which has no effect"),
    ],
)
def test_arguments_of_reading(files, written, frames, ase_args, message):
    with pytest.raises(DataError, match=message):
        load(files, written(frames), ase_args=ase_args)


def test_truncated_file(files, written, data_files):
    text = data_files[0].read_text()
    with pytest.raises(DataError, match="is it truncated"):
        load(files, written(text[: text.rstrip().rindex("\n")]))


@pytest.mark.parametrize("content", ["", "\n"])
def test_file_without_frames(files, written, content):
    with pytest.raises(DataError, match="holds no frames"):
        load(files, written(content))


def test_missing_file(files, tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.xyz: cannot be read"):
        load(files, tmp_path / "nowhere.xyz")


def test_other_formats(files, frames, tmp_path):
    """Those of ASE that can carry labels, with as many frames."""
    path = tmp_path / "data.traj"
    write(path, frames)
    with pytest.raises(DataError, match=r"data\.traj: frame 0: forces"):
        load(files, path)  # its arrays lose what ASE does not know
    for frame in frames:
        from ase.calculators.singlepoint import SinglePointCalculator

        energy, forces = frame.info.pop("REF_energy"), frame.arrays.pop("REF_forces")
        frame.calc = SinglePointCalculator(frame, energy=energy, forces=forces)
    write(path, frames)
    assert len(load(LabelledFiles(FIELDS, Requirements()), path).data_list) == 12


def test_state_without_effect(files, written, frames, caplog):
    for frame in frames:
        frame.info["total_charge"] = 1
    load(files, written(frames))
    told = [record.message for record in caplog.records if "total_charge" in record.message]
    assert len(told) == 1
    assert "12 of 12 structures of" in told[0]


def test_structures_that_cannot_be_trained_on(files, written, frames):
    frames[2].numbers[0] = 79
    with pytest.raises(DataError, match=r"frame 2: the model knows the elements H, O, got Au"):
        load(files, written(frames))
    frames[2].numbers[0] = 8
    frames[2].positions[0] = np.nan
    with pytest.raises(DataError, match="frame 2: positions must be finite"):
        load(files, written(frames))


def test_slabs_and_wires(written, frames):
    frames[1].pbc = [True, True, False]
    load(LabelledFiles(FIELDS, Requirements()), written(frames))
    frames[1].pbc = [True, False, False]
    with pytest.raises(DataError, match="frame 1: pbc must have 0, 2 or 3 axes true"):
        load(LabelledFiles(FIELDS, Requirements()), written(frames))
    load(LabelledFiles(FIELDS, Requirements(axes=ANY_AXES)), written(frames))


def test_labels_of_the_test_file(files, data_files, written):
    """They are there, and under the names of the training; its frames are no table of `-`."""
    files.check(data_files[1])
    text = data_files[1].read_text()
    with pytest.raises(DataError, match=r"data.xyz: frame 0: total_energy .*is missing"):
        files.check(written(text.replace("REF_energy", "Etot")))
    path = written(text.replace("REF_forces", "forces"))
    with pytest.raises(DataError, match=r"data.xyz: frame 0: forces is there as 'forces', but"):
        files.check(path)
    other = LabelledFiles(FIELDS, Requirements([1, 8]))
    other.check(path)
    with pytest.raises(DataError, match=r"train.xyz: frame 0: forces is there as 'REF_forces'"):
        load(other, data_files[0])


def test_labels_of_the_closing(files, data_files):
    load(files, data_files[0])
    for (_, atoms, labels), frame in zip(files.labelled(data_files[0]), read(data_files[0], ":")):
        assert len(atoms) == len(frame)
        assert labels["energy"] == frame.info["REF_energy"]
        np.testing.assert_array_equal(labels["forces"], frame.arrays["REF_forces"])
        assert labels["stress"] is None
