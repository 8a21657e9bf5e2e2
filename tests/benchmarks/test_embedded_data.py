"""The embedded default data: intact, complete, and physically consistent."""

from __future__ import annotations

import gzip
import hashlib
import json
from functools import cache
from importlib import resources
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import read

DATA = Path(str(resources.files("les_bench"))) / "data"
MANIFEST = json.loads((DATA / "manifest.json").read_text())
SYSTEMS = ("dipeptides", "water", "au2_mgo")
SPLITS = ("train", "val", "test")
FILES = [f"{system}_{split}.xyz.gz" for system in SYSTEMS for split in SPLITS]
INFO = {"dipeptides": {"REF_dipole"}, "water": {"REF_stress"}, "au2_mgo": {"doped", "geometry"}}


@cache
def load(name: str) -> tuple[Atoms, ...]:
    return tuple(read(DATA / name, index=":", format="extxyz"))


def everything(system: str) -> list[Atoms]:
    return [frame for split in SPLITS for frame in load(f"{system}_{split}.xyz.gz")]


def fingerprint(frame: Atoms) -> np.ndarray:
    """Sorted interatomic distances: blind to rotations, translations and order."""
    distances = frame.get_all_distances(mic=bool(frame.pbc.any()))
    return np.sort(distances[np.triu_indices(len(frame), 1)])


def test_manifest_lists_exactly_the_files() -> None:
    assert sorted(MANIFEST["files"]) == sorted(FILES)
    assert sorted(path.name for path in DATA.glob("*.gz")) == sorted(FILES)


@pytest.mark.parametrize("name", FILES)
def test_file_is_what_the_manifest_says(name: str) -> None:
    content = (DATA / name).read_bytes()
    entry = MANIFEST["files"][name]
    frames = load(name)
    assert hashlib.sha256(content).hexdigest() == entry["sha256"]
    assert len(content) < 400_000
    assert content[4:8] == bytes(4), "the gzip header must carry no time stamp"
    assert len(frames) == entry["frames"]
    assert sum(map(len, frames)) == entry["atoms"]["total"]
    assert {frame.info["config_type"] for frame in frames} == set(entry["config_types"])


def test_whole_set_is_small() -> None:
    assert sum((DATA / name).stat().st_size for name in FILES) < 3_000_000


@pytest.mark.parametrize("name", FILES)
def test_labels_are_complete_and_finite(name: str) -> None:
    system = name.rsplit("_", 1)[0]
    for frame in load(name):
        assert {"REF_energy", "config_type", "total_charge"} | INFO[system] <= set(frame.info)
        assert np.isfinite(frame.info["REF_energy"])
        forces, charges = frame.arrays["REF_forces"], frame.arrays["REF_charges"]
        assert forces.shape == (len(frame), 3)
        assert charges.shape == (len(frame),)
        assert np.isfinite(frame.positions).all()
        assert np.isfinite(forces).all()
        assert np.isfinite(charges).all()
        assert np.abs(forces).max() < 15
        assert frame.pbc.all() if system != "dipeptides" else not frame.pbc.any()
        assert np.shape(frame.info.get("REF_dipole", np.zeros(3))) == (3,)
        assert np.shape(frame.info.get("REF_stress", np.zeros(6))) == (6,)


@pytest.mark.parametrize("name", FILES)
def test_conservation_laws(name: str) -> None:
    for frame in load(name):
        assert np.abs(frame.arrays["REF_forces"].sum(axis=0)).max() < 2e-3
        assert frame.arrays["REF_charges"].sum() == pytest.approx(
            frame.info["total_charge"], abs=1e-3
        )


@pytest.mark.parametrize("system", SYSTEMS)
def test_no_two_frames_share_a_geometry(system: str) -> None:
    groups: dict[str, list[np.ndarray]] = {}
    for frame in everything(system):
        groups.setdefault(frame.get_chemical_formula(), []).append(fingerprint(frame))
    for formula, prints in groups.items():
        for a, b in combinations(prints, 2):
            assert np.abs(a - b).max() > 0.01, f"two equal frames of {formula}"


def test_dipole_agrees_with_charges() -> None:
    """GFN2 adds atomic dipoles to the point charges; the direction and size remain."""
    frames = [f for f in everything("dipeptides") if np.linalg.norm(f.info["REF_dipole"]) > 1.5]
    assert len(frames) > 50
    for frame in frames:
        dipole = frame.info["REF_dipole"]
        from_charges = frame.arrays["REF_charges"] @ frame.positions
        assert np.linalg.norm(dipole - from_charges) < 0.35 * np.linalg.norm(dipole)


def test_born_effective_charges() -> None:
    frames = [f for f in load("dipeptides_test.xyz.gz") if "REF_bec" in f.arrays]
    assert len(frames) >= 4
    for frame in frames:
        assert frame.arrays["REF_bec"].shape == (len(frame), 9)
        assert np.abs(frame.arrays["REF_bec"].sum(axis=0)).max() < 5e-3
        # Turning the molecule turns the dipole: sum_i Z_i (n x r_i) = n x mu.
        z = frame.arrays["REF_bec"].reshape(-1, 3, 3)
        for axis in np.eye(3):
            turned = np.einsum("iab,ib->a", z, np.cross(axis, frame.positions))
            np.testing.assert_allclose(turned, np.cross(axis, frame.info["REF_dipole"]), atol=5e-3)


def test_test_split_probes_transfer_and_long_range() -> None:
    def types(split: str) -> set[str]:
        return {frame.info["config_type"] for frame in load(f"dipeptides_{split}.xyz.gz")}

    assert types("test") - types("train") == {"betaine_ser"}
    assert types("val") <= types("train")
    pairs = [
        frame
        for frame in load("dipeptides_test.xyz.gz")
        if frame.info["config_type"] == "tetramethylammonium_acetate"
    ]
    # The cation's 17 atoms come first; no short-range model with a 4 A cut-off sees such a pair.
    gaps = [frame.get_all_distances()[:17, 17:].min() for frame in pairs]
    assert sum(gap > 4.0 for gap in gaps) >= 5
    for frame in pairs:
        assert frame.arrays["REF_charges"][:17].sum() == pytest.approx(1.0, abs=0.01)
        if "REF_bec" in frame.arrays:
            cation = frame.arrays["REF_bec"].reshape(-1, 3, 3)[:17].sum(axis=0)
            np.testing.assert_allclose(cation, np.eye(3), atol=0.1)


def test_water_has_the_stated_density() -> None:
    for frame in everything("water"):
        assert len(frame) == 96
        assert frame.get_masses().sum() / frame.get_volume() * 1.66053907 == pytest.approx(
            0.997, abs=2e-3
        )


@pytest.mark.parametrize("split", SPLITS)
def test_au2_mgo_has_all_classes(split: str) -> None:
    frames = load(f"au2_mgo_{split}.xyz.gz")
    classes = {(bool(f.info["doped"]), f.info["geometry"]) for f in frames}
    assert len(classes) == 4
    for frame in frames:
        assert frame.symbols.count("Al") == (2 if frame.info["doped"] else 0)
        gold = frame.positions[[atom.index for atom in frame if atom.symbol == "Au"]]
        tilt = abs(gold[1, 2] - gold[0, 2]) / np.linalg.norm(gold[1] - gold[0])
        assert (tilt < 0.5) == (frame.info["geometry"] == "wetting")


@pytest.mark.parametrize("system", SYSTEMS)
def test_labels_come_out_again(system: str) -> None:
    tblite = pytest.importorskip("tblite.ase")
    name = f"{system}_test.xyz.gz"
    frame = load(name)[0].copy()
    frame.calc = tblite.TBLite(method=MANIFEST["files"][name]["level"], accuracy=0.1, verbosity=0)
    forces = frame.get_forces()
    assert frame.get_potential_energy() == pytest.approx(frame.info["REF_energy"], abs=1e-4)
    np.testing.assert_allclose(forces, frame.arrays["REF_forces"], atol=1e-3)
    np.testing.assert_allclose(frame.get_charges(), frame.arrays["REF_charges"], atol=1e-3)
    if "REF_stress" in frame.info:
        np.testing.assert_allclose(frame.get_stress(), frame.info["REF_stress"], atol=1e-5)
    if "REF_dipole" in frame.info:
        dipole = frame.get_dipole_moment()
        np.testing.assert_allclose(dipole, frame.info["REF_dipole"], atol=1e-3)


def test_stress_is_the_strain_derivative() -> None:
    """The sign and order of the stress that the labels were made with."""
    tblite = pytest.importorskip("tblite.ase")
    cell = np.array([[6.4, 0.5, 0.2], [0.0, 6.9, 0.3], [0.0, 0.0, 6.6]])
    water = np.array([[0.0, 0.0, 0.1], [0.0, 0.8, -0.5], [0.0, -0.7, -0.5]])
    positions = np.concatenate([water, water[:, ::-1] + [2.2, 2.0, 2.2]])

    def calculated(strain: np.ndarray) -> Atoms:
        atoms = Atoms("OHHOHH", positions, cell=cell, pbc=True)
        atoms.set_cell(cell @ (np.eye(3) + strain), scale_atoms=True)
        atoms.calc = tblite.TBLite(method="GFN1-xTB", accuracy=0.01, verbosity=0)
        return atoms

    start = calculated(np.zeros((3, 3)))
    stress, volume = start.get_stress(), start.get_volume()
    for number, (a, b) in enumerate([(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]):
        strain = np.zeros((3, 3))
        strain[a, b] += 5e-4
        strain[b, a] += 5e-4
        up, down = (calculated(s).get_potential_energy() for s in (strain, -strain))
        assert (up - down) / (4 * 5e-4 * volume) == pytest.approx(stress[number], abs=1e-6)


def test_born_charges_match_the_response_to_a_field() -> None:
    """The derivative dF/dE is an independent route to d mu / d R."""
    library = pytest.importorskip("tblite.library")
    interface = pytest.importorskip("tblite.interface")
    frame = next(
        f
        for f in load("dipeptides_test.xyz.gz")
        if "REF_bec" in f.arrays and f.info["config_type"] == "formamide_water"
    )
    bohr, step = 0.529177210544, 1e-3

    def forces(field: np.ndarray) -> np.ndarray:
        calculator = interface.Calculator("GFN2-xTB", frame.numbers, frame.positions / bohr)
        calculator.set("verbosity", 0)
        calculator.set("accuracy", 0.01)
        calculator.add("electric-field", library.ffi.new("double[3]", field.tolist()))
        return -np.asarray(calculator.singlepoint().get("gradient"))

    for alpha, axis in enumerate(np.eye(3)):
        response = (forces(step * axis) - forces(-step * axis)) / (2 * step)
        expected = frame.arrays["REF_bec"].reshape(-1, 3, 3)[:, alpha]
        np.testing.assert_allclose(response, expected, atol=5e-3)


def test_files_are_plain_numbers() -> None:
    with gzip.open(DATA / "water_val.xyz.gz", "rt") as file:
        assert file.readline().strip() == "96"
        assert 'Lattice="' in file.readline()
