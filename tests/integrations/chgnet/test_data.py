"""Labelled structures from files: units, and what is refused with file, frame and key."""

from __future__ import annotations

import copy
import gzip
import re

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.io import write
from chgnet.data.dataset import collate_graphs
from chgnet.trainer.trainer import CombinedLoss

from les.data.atoms import ANY_AXES
from les.data.labels import DataError
from les.testing.structures import CELLS, crystal, dimer
from les_chgnet import GraphConverter, LESCalculator
from les_chgnet.data import LabelledGraphs, to_targets


@pytest.fixture
def converter(short_range_model):
    return GraphConverter.like(short_range_model.graph_converter)


def labelled(atoms, seed=0, prefix="REF_"):
    """``atoms`` with made-up labels of all kinds."""
    generator = np.random.default_rng(seed)
    atoms = atoms.copy()
    atoms.info[f"{prefix}energy"] = float(generator.normal())
    atoms.arrays[f"{prefix}forces"] = generator.normal(size=[len(atoms), 3])
    if atoms.pbc.all():
        atoms.info[f"{prefix}stress"] = generator.normal(size=6)
    atoms.arrays[f"{prefix}magmoms"] = generator.normal(size=len(atoms))
    return atoms


@pytest.fixture
def frames():
    return [labelled(crystal(cell), seed) for seed, cell in enumerate(CELLS)]


@pytest.fixture
def read(converter, tmp_path):
    """A function that reads ``frames`` from a file."""

    def run(frames, targets="efsm", keys=None, name="data.xyz", **options):
        write(tmp_path / name, frames, format="extxyz")
        return LabelledGraphs(tmp_path / name, converter, targets, keys, **options)

    return run


# --- units


def test_units_of_targets():
    """Stress: 1 eV/A^3 is 160.2 GPa; tension is positive in both."""
    labels = {
        "energy": np.array([-6.0]),
        "forces": np.arange(9.0).reshape(3, 3),
        "stress": np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        "magmoms": np.array([-1.5, 0.5, 2.0]),
    }
    targets = to_targets(labels, 3)
    assert all(value.dtype == torch.float32 for value in targets.values())
    assert targets["e"] == -2.0
    np.testing.assert_array_equal(targets["f"], labels["forces"])
    expected = 160.21766 * np.array([[1.0, 6.0, 5.0], [6.0, 2.0, 4.0], [5.0, 4.0, 3.0]])
    np.testing.assert_allclose(targets["s"], expected, rtol=1e-6)
    assert targets["m"].tolist() == [1.5, 0.5, 2.0]
    assert labels["energy"].tolist() == [-6.0]
    assert labels["magmoms"][0] == -1.5  # what was given stays


def test_only_what_is_there():
    assert to_targets({"magmoms": None}, 2) == {"m": None}
    assert set(to_targets({"energy": np.array([1.0])}, 2)) == {"e"}


@pytest.mark.parametrize(
    ("cell", "pbc"),
    [
        *((cell, [True] * 3) for cell in CELLS),
        ("triclinic", [True, True, False]),
        ("left-handed", [False, True, True]),
    ],
)
@pytest.mark.parametrize("kind", ["short_range_model", "model"])
def test_own_predictions_as_labels(kind, cell, pbc, request, read):
    """Labels in ASE's units that are the model's own leave no error.

    Forces and stress come from finite differences of energies, so that nothing in the
    calculator but the energy can hide a wrong unit or sign.
    """
    model = request.getfixturevalue(kind)
    calculator = LESCalculator(copy.deepcopy(model), dtype="float64", use_device="cpu")
    atoms = crystal(cell)
    atoms.pbc = pbc
    frame = atoms.copy()
    atoms.calc = calculator
    frame.info["REF_energy"] = atoms.get_potential_energy()
    frame.arrays["REF_forces"] = calculate_numerical_forces(atoms, 1e-4, force_consistent=False)
    frame.info["REF_stress"] = calculate_numerical_stress(
        atoms, 1e-5, voigt=True, force_consistent=False
    )
    atoms.calc.calculate(atoms)
    frame.arrays["REF_magmoms"] = -atoms.calc.results["magmoms"]
    data = read([frame])
    graphs, targets = collate_graphs([data[0]])
    prediction = model(graphs, task="efsm")
    torch.testing.assert_close(targets["e"], prediction["e"].detach(), rtol=0, atol=1e-4)
    for letter, tolerance, scale in (("f", 1e-4, 1e-3), ("s", 3e-3, 1e-2), ("m", 1e-5, 1e-3)):
        assert targets[letter][0].abs().max() > 10 * tolerance, letter
        assert targets[letter][0].abs().max() > scale, letter
        error = targets[letter][0] - prediction[letter][0].detach()
        assert error.abs().max() < tolerance, letter
    loss = CombinedLoss(target_str="efsm")(targets, prediction)
    assert loss["loss"] < 1e-5


def test_no_stress_of_a_cell_without_a_volume(read):
    slab = labelled(crystal("cubic"))
    slab.cell[2] = 0.0
    slab.pbc = [True, True, False]
    with pytest.raises(DataError, match=r"frame 0: a cell without a volume, .* has no stress"):
        read([slab], "efs")
    assert len(read([slab], "ef")) == 1


def test_graphs_keep_boundary_conditions(read):
    data = read([labelled(dimer()), labelled(crystal())], "efm")
    assert [graph.pbc.tolist() for graph in data.graphs] == [[False] * 3, [True] * 3]
    assert len(data) == 2
    assert data[1][0] is data.graphs[1]
    assert data[1][0].atomic_number.tolist() == crystal().numbers.tolist()


# --- files and keys


@pytest.mark.parametrize("prefix", ["REF_", ""])
def test_names_of_labels(prefix, read):
    frame = labelled(crystal(), 3, prefix)
    targets = read([frame])[0][1]
    assert targets["e"] * 6 == pytest.approx(frame.info[f"{prefix}energy"], rel=1e-6)
    np.testing.assert_allclose(targets["f"], frame.arrays[f"{prefix}forces"], rtol=1e-5, atol=1e-6)
    assert targets["s"][0, 0] * units.GPa == pytest.approx(
        frame.info[f"{prefix}stress"][0], rel=1e-6
    )


def test_names_of_ones_own(read):
    """They alone count, also beside labels under the usual names."""
    frame = labelled(crystal(), 3)
    other = labelled(crystal(), 4, prefix="dft_")
    frame.info.update(other.info)
    frame.arrays.update(other.arrays)
    keys = {label: f"dft_{label}" for label in ("energy", "forces", "stress", "magmoms")}
    targets = read([frame], keys=keys)[0][1]
    expected = read([other], keys=keys)[0][1]
    for letter, value in targets.items():
        torch.testing.assert_close(value, expected[letter])
    assert read([frame], keys={"energy": "dft_energy"})[0][1]["e"] == expected["e"]
    with pytest.raises(DataError, match=r"frame 0: has no energy \(looked for the key 'e'\)"):
        read([frame], keys={"energy": "e"})


def test_targets_that_are_not_asked_for(read):
    frame = labelled(crystal())
    del frame.info["REF_stress"], frame.arrays["REF_magmoms"]
    assert set(read([frame], "ef")[0][1]) == {"e", "f"}


def test_compressed_file(frames, read, converter, tmp_path):
    plain = read(frames)
    packed = tmp_path / "data.xyz.gz"
    packed.write_bytes(gzip.compress((tmp_path / "data.xyz").read_bytes()))
    for (_, first), (_, second) in zip(
        plain, LabelledGraphs(packed, converter, "efsm"), strict=True
    ):
        for letter, value in first.items():
            assert torch.equal(value, second[letter])


# --- what is refused


def without(kind):
    def change(atoms):
        atoms.info.pop(f"REF_{kind}", None)
        atoms.arrays.pop(f"REF_{kind}", None)

    return change


def replaced(kind, value):
    def change(atoms):
        atoms.info[f"REF_{kind}"] = value

    return change


def with_nan(kind):
    def change(atoms):
        atoms.arrays[f"REF_{kind}"][1] = np.nan

    return change


def moved(atoms):
    atoms.positions[1] = atoms.positions[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("energy"), r"has no energy \(looked for the key 'REF_energy' or 'energy'\).*"
         "--energy_key"),
        (without("forces"), r"has no forces \(looked for .*'REF_forces'.*--forces_key"),
        (without("stress"), r"has no stress \(looked for .*'REF_stress'.*--stress_key"),
        (replaced("energy", np.nan), "key 'REF_energy' holds NaN"),
        (replaced("energy", "low"), "key 'REF_energy' must be numeric, got 'low'"),
        (replaced("stress", [0.0, np.inf, 0, 0, 0, 0]), "key 'REF_stress' holds NaN or infinite"),
        (replaced("stress", [0.0, 1.0]), r"key 'REF_stress' must have shape \[6\], got \[2\]"),
        (with_nan("forces"), "key 'REF_forces' holds NaN"),
        (with_nan("magmoms"), "key 'REF_magmoms' holds NaN"),
        (with_nan("positions"), "positions must be finite, got .* for atom 1"),
        (moved, "atoms 0 and 1 are at the same place"),
        (lambda atoms: atoms.set_cell([0, 0, 0]), "a periodic structure needs a cell"),
        (lambda atoms: atoms.set_pbc([1, 0, 0]), "pbc must have 0, 2 or 3 axes true"),
        (lambda atoms: atoms.numbers.put(0, 95), "the model knows the elements H, .*, got Am"),
        (lambda atoms: atoms.numbers.put(0, 0), "the model knows the elements H, .*, got X"),
    ],
)  # fmt: skip
def test_bad_frames(change, message, frames, read, tmp_path):
    if "positions" in message:  # under its own name, not that of a label
        frames[2].positions[1] = np.nan
    else:
        change(frames[2])
    with pytest.raises(DataError, match=message) as error:
        read(frames, name="bad.xyz")
    assert str(error.value).startswith(f"{tmp_path / 'bad.xyz'}: frame 2: ")


def test_stress_of_an_open_structure(read):
    """It has none: the model's would be zero, whatever the label."""
    open_one = labelled(dimer())
    open_one.info["REF_stress"] = np.ones(6)
    with pytest.raises(DataError, match=r"frame 1: .*(stress|open|pbc)"):
        read([labelled(crystal()), open_one], "efs")
    assert len(read([labelled(crystal()), open_one], "ef")) == 2


def test_slabs_and_wires(read):
    """Upstream takes both; with LES wires are refused."""
    slab, wire = labelled(crystal()), labelled(crystal())
    slab.pbc, wire.pbc = [True, True, False], [True, False, False]
    data = read([slab, wire], "efs", axes=ANY_AXES)
    assert [graph.pbc.tolist() for graph in data.graphs] == [
        [True, True, False],
        [True, False, False],
    ]
    with pytest.raises(DataError, match=r"frame 1: pbc must have 0, 2 or 3 axes true, got \[True"):
        read([slab, wire], "efs")


def test_some_frames_without_magmoms(frames, read):
    del frames[1].arrays["REF_magmoms"]
    data = read(frames)
    assert [item[1]["m"] is None for item in data] == [False, True, False, False]


def test_no_frame_with_magmoms(frames, read, tmp_path):
    for frame in frames:
        del frame.arrays["REF_magmoms"]
    with pytest.raises(DataError, match=r"no frame has magmoms.*--magmoms_key") as at:
        read(frames)
    assert str(tmp_path / "data.xyz") in str(at.value)
    with pytest.raises(DataError, match=r"no frame has magmoms"):
        read(frames, keys={"magmoms": "spin"})
    assert len(read(frames, "efs")) == 4


def test_bad_files(converter, tmp_path):
    with pytest.raises(DataError, match=re.escape(f"{tmp_path / 'none.xyz'}: cannot be read")):
        LabelledGraphs(tmp_path / "none.xyz", converter, "ef")
    (tmp_path / "empty.xyz").write_text("")
    with pytest.raises(DataError, match=r"empty\.xyz: holds no frames"):
        LabelledGraphs(tmp_path / "empty.xyz", converter, "ef")


def test_isolated_atoms_are_ordinary(read):
    lone = Atoms("O", [[0.0, 0.0, 0.0]], info={"REF_energy": -3.0})
    lone.arrays["REF_forces"] = np.zeros((1, 3))
    apart = labelled(Atoms("H2", [[0, 0, 0], [0, 0, 9.0]]))
    data = read([lone, apart], "ef")
    assert data[0][1]["e"] == -3.0
    assert [len(graph.atom_graph) for graph in data.graphs] == [0, 0]


@pytest.mark.parametrize(("energy", "warned"), [(-80.0, False), (-12000.0, True)])
def test_energies_too_large_for_float32(energy, warned, read, caplog):
    """Of -2000 eV/atom the digits end at 1e-4 eV/atom."""
    frame = labelled(crystal())
    frame.info["REF_energy"] = energy
    read([labelled(crystal()), frame], "ef", name="large.xyz")
    messages = [x.getMessage() for x in caplog.records if x.levelname == "WARNING"]
    assert len(messages) == warned
    if warned:
        assert re.search(r"large\.xyz: energies of 2000 eV/atom are rounded", messages[0])
