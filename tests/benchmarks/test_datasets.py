"""Reading, checking and splitting of benchmark data."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import write

from les.user_cache import user_cache
from les_bench.systems import datasets
from les_bench.systems.datasets import find, load
from les_bench.systems.labels import DataError, read_frames
from les_bench.systems.systems import SYSTEMS, get_system

DIPEPTIDES = SYSTEMS["dipeptides"]
FRAME = """2
Properties=species:S:1:pos:R:3:forces:R:3 energy=-1.5 dipole="0 0 1" pbc="F F F"
H 0 0 0 0 0 1
F 0 0 1 0 0 -1
"""


@pytest.fixture(autouse=True)
def no_outside_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def frames_of(tmp_path: Path, text: str, *, periodic: bool = False) -> list[Atoms]:
    path = tmp_path / "some.xyz"
    path.write_text(text)
    return read_frames(path, periodic=periodic)


def test_plain_keys_become_reference_labels(tmp_path: Path) -> None:
    (frame,) = frames_of(tmp_path, FRAME)
    assert frame.info["REF_energy"] == -1.5
    np.testing.assert_array_equal(frame.info["REF_dipole"], [0, 0, 1])
    np.testing.assert_array_equal(frame.arrays["REF_forces"], [[0, 0, 1], [0, 0, -1]])
    assert frame.calc is None


def test_blank_lines_between_frames(tmp_path: Path) -> None:
    assert len(frames_of(tmp_path, f"{FRAME}\n\n{FRAME}\n{FRAME}")) == 3


def test_labels_under_other_keys_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"has no REF_energy .*; it has dft_energy, which is not read"
    ):
        frames_of(tmp_path, FRAME.replace("energy=-1.5", "dft_energy=-1.5"))


def test_reference_labels_win_over_plain_keys(tmp_path: Path) -> None:
    (frame,) = frames_of(tmp_path, FRAME.replace("energy=-1.5", "energy=-1.5 REF_energy=-2.5"))
    assert frame.info["REF_energy"] == -2.5


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (" energy=-1.5", "", r"frame 1: has no REF_energy \(looked for the keys REF_energy, ene"),
        (":forces:R:3", ":other:R:3", "frame 1: has no REF_forces"),
        ("energy=-1.5", "energy=nan", "frame 1: key 'energy' holds NaN"),
        ("energy=-1.5", "energy=low", "frame 1: key 'energy' must be numeric, got 'low'"),
        ("H 0 0 0 0 0 1", "H 0 0 0 0 0 nan", "frame 1: key 'forces' holds NaN"),
        ("H 0 0 0 0 0 1", "H 0 nan 0 0 0 1", "frame 1: positions are not finite"),
        ("H 0 0 0 0 0 1", "H 0 0 0", "frame 1: not valid extended XYZ"),
        ('dipole="0 0 1"', 'dipole="0 1"', r"frame 1: key 'dipole' must have shape \[3\]"),
        ('pbc="F F F"', 'pbc="T T T"', "frame 1: pbc must be not periodic"),
        ("F 0 0 1 0 0 -1\n", "", "frame 1: announces 2 atoms, 1 lines follow"),
        ("2\nProp", "3\nProp", "frame 1: announces 3 atoms, 2 lines follow"),
        ("2\nProp", "two\nProp", "frame 1: line 5 must be a number of atoms, got 'two'"),
    ],
)
def test_bad_frame_is_refused_by_name(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        frames_of(tmp_path, FRAME + FRAME.replace(old, new))
    assert str(tmp_path / "some.xyz") in str(error.value)


def test_periodic_frame_needs_a_cell(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="frame 0: is periodic but its cell has no volume"):
        frames_of(tmp_path, FRAME.replace("F F F", "T T T"), periodic=True)


def test_empty_and_truncated_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no frames"):
        frames_of(tmp_path, "\n")
    path = tmp_path / "cut.xyz.gz"
    path.write_bytes(gzip.compress(FRAME.encode())[:-20])
    with pytest.raises(DataError, match=r"cut\.xyz\.gz: cannot be read"):
        read_frames(path, periodic=False)


def test_order_of_sources(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(datasets, "_embedded", lambda: data)
    monkeypatch.delenv("LES_DATA_DIR", raising=False)
    assert find(DIPEPTIDES)[0] == "embedded"
    fetched = user_cache() / DIPEPTIDES.layout.train
    fetched.parent.mkdir(parents=True)
    fetched.touch()
    assert find(DIPEPTIDES)[0] == "fetched"
    monkeypatch.setenv("LES_DATA_DIR", str(data))
    assert find(DIPEPTIDES)[0] == "datadir"
    assert find(DIPEPTIDES, "embedded")[0] == "embedded"
    assert find(DIPEPTIDES, str(data))[0] == "custom"
    monkeypatch.setenv("LES_DATA_DIR", str(tmp_path))
    assert find(DIPEPTIDES)[0] == "fetched"
    assert "not in LES_DATA_DIR" in caplog.text  # falling back is said
    monkeypatch.setenv("LES_DATA_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="`LES_DATA_DIR` must be an existing folder"):
        find(DIPEPTIDES)


def test_missing_system_and_split(data: Path) -> None:
    with pytest.raises(DataError, match=r"water: no data found in custom.*water_rpbe_d3"):
        load(SYSTEMS["water"], str(data))
    (data / "dipeptides_val.xyz").unlink()
    with pytest.raises(DataError, match="the valid file is missing"):
        load(DIPEPTIDES, str(data))
    with pytest.raises(ValueError, match="did you mean 'water'"):
        get_system("watr")


def test_load_records_checksums_and_keeps_energies(data: Path) -> None:
    dataset = load(DIPEPTIDES, str(data))
    assert [len(dataset.train), len(dataset.valid), len(dataset.test)] == [6, 3, 4]
    assert set(dataset.checksums) == {f"dipeptides_{s}.xyz" for s in ("train", "val", "test")}
    assert dataset.energy_offsets == {}


def test_frames_with_responses_only(data: Path) -> None:
    frames = [Atoms("OH", np.eye(3)[:2], info={"REF_dipole": [0.1, 0.0, 0.0]}) for _ in range(2)]
    write(data / "dipeptides_response.xyz", frames, format="extxyz")
    dataset = load(DIPEPTIDES, str(data))
    assert len(dataset.response) == 2
    assert "dipeptides_response.xyz" in dataset.checksums
    del frames[1].info["REF_dipole"]
    write(data / "dipeptides_response.xyz", frames, format="extxyz")
    with pytest.raises(DataError, match=r"response.xyz: frame 1: has no REF_charges or .*REF_bec"):
        load(DIPEPTIDES, str(data))


def test_all_electron_energies_are_shifted_equally_in_all_sets(tmp_path: Path) -> None:
    offsets = {"H": -1e5, "O": -1e6}
    rng = np.random.default_rng(1)
    expected = []
    for split in ("train", "val", "test"):
        frames = [Atoms(f, rng.normal(size=(len(Atoms(f)), 3))) for f in ("OH2", "OH", "OH2")]
        for frame in frames:
            binding = rng.normal()
            expected.append(binding)
            frame.info["REF_energy"] = binding + sum(offsets[s] for s in frame.symbols)
            frame.arrays["REF_forces"] = np.zeros((len(frame), 3))
        write(tmp_path / f"dipeptides_{split}.xyz", frames, format="extxyz")
    dataset = load(DIPEPTIDES, str(tmp_path))
    found = [f.info["REF_energy"] for f in (*dataset.train, *dataset.valid, *dataset.test)]
    assert np.abs(found).max() < 20
    # Differences at equal composition are untouched, within a set and across sets.
    assert found[0] - found[8] == pytest.approx(expected[0] - expected[8], abs=1e-6)
    assert dataset.energy_offsets["O"] == pytest.approx(-1e6, abs=10)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("dipeptides", [495, 55, 50]),
        ("water", [36, 4, 10]),
        ("water_pbe0ts", [288, 32, 80]),
        ("au2_mgo", [17, 2, 4]),
        ("spice_bec", [59, 6, 16]),
        ("spice_bec_monomers", [89, 9, 24]),
        ("superionic_water", [138, 15, 16]),
        ("charged_dimers", [54, 6, 18]),
        ("carbon_chain", [94, 10, 25]),
    ],
)
def test_reference_data(data_dir: Path, name: str, sizes: list[int]) -> None:
    dataset = load(SYSTEMS[name], str(data_dir))
    assert [len(dataset.train), len(dataset.valid), len(dataset.test)] == sizes
    if name == "dipeptides":
        assert all(f.arrays["REF_bec"].shape == (len(f), 9) for f in dataset.valid)
        assert all("REF_charges" in f.arrays for f in dataset.train)
    if name.startswith("spice"):
        assert all({"REF_energy", "REF_dipole"} <= f.info.keys() for f in dataset.test)
        assert all(f.arrays["REF_bec"].shape == (len(f), 9) for f in dataset.test)
    assert len(dataset.response) == (50 if name == "superionic_water" else 0)
    assert all("REF_bec" in f.arrays for f in dataset.response)
    if name == "carbon_chain":
        for frame in (*dataset.train, *dataset.valid, *dataset.test):
            assert frame.arrays["REF_charges"].sum() == pytest.approx(
                frame.info["total_charge"], abs=1e-3
            )
        for frames in (dataset.train, dataset.valid, dataset.test):
            assert {frame.info["total_charge"] for frame in frames} == {0, 1}
    if name == "au2_mgo":
        assert {bool(f.info["doped"]) for f in dataset.valid} == {True, False}
        energy = {(bool(f.info["doped"]), f.info["geometry"]): f for f in dataset.test}
        for doped, expected in ((False, 0.935), (True, -0.067)):
            pair = energy[doped, "wetting"], energy[doped, "nonwetting"]
            difference = pair[0].info["REF_energy"] - pair[1].info["REF_energy"]
            assert difference == pytest.approx(expected, abs=1e-3)
        assert max(abs(f.info["REF_energy"]) for f in dataset.test) < 100
