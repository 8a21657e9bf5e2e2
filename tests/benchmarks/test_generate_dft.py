"""The generator of the DFT data: inputs, outputs, and a computation that is stopped anywhere.

A small program stands for CP2K, which the tests do not need.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.io import read

ROOT = Path(__file__).parents[2]
GENERATE = ROOT / "benchmarks" / "generate"
DATA = ROOT / "benchmarks" / "les_bench" / "data" / "dft"

#: Speaks like CP2K about springs that pull every atom to a place of its element, and about charges
#: in a field. Every call is noted. ``mode`` in the folder above tells it to fail or to hang.
STAND_IN = """\
#!{python}
import os, pathlib, re, sys, time
import numpy as np

if "--version" in sys.argv:
    sys.exit(print("Stand-in 1.0"))
top = pathlib.Path({top!r})
text = pathlib.Path("input.inp").read_text()
with open(top / "calls", "a") as file:
    cutoff = re.search("^CUTOFF (.*)", text, re.M)[1]
    print(pathlib.Path.cwd().name, "SCF_GUESS RESTART" in text, cutoff, file=file)
mode = (top / "mode").read_text() if (top / "mode").exists() else ""
if mode.startswith("hang") and len((top / "calls").read_text().splitlines()) == int(mode[4:]):
    pathlib.Path("frame-RESTART.wfn").write_text("half a wavefunction")
    (top / "hanging").touch()
    time.sleep(60)
if mode == "killed":
    os.kill(os.getpid(), 9)
guessed = "SCF_GUESS RESTART" in text
if mode == "bad guesses" and guessed or mode == "no convergence":
    print(" *** WARNING in qs_scf.F:598 :: SCF run NOT converged ***\\n PROGRAM ENDED AT now")
    sys.exit()
if mode == "abort" or mode == "fails at " + cutoff + " Ry":
    print(" * [ABORT]                    *\\n *  \\\\___/   out of its senses  *\\n ********")
    sys.exit(1)
rows = re.search(r"&COORD\\n(.*?)&END", text, re.S)[1].split("\\n")[:-1]
symbols = [row.split()[0] for row in rows]
places = np.array([[float(x) for x in row.split()[1:]] for row in rows]) / 0.529177210903
charges = np.array([{{"O": -0.8, "H": 0.4}}[s] for s in symbols])
reference = re.search("REFERENCE_POINT .angstrom. (.*)", text)
field = np.zeros(3)
if "&EFIELD" in text:
    intensity = float(re.search("INTENSITY (.*)", text)[1])
    axis = [float(x) for x in re.search("POLARISATION (.*)", text)[1].split()]
    field = intensity * np.array(axis)
centre = np.array([float(x) for x in reference[1].split()]) / 0.529177210903 if reference else 0.0
forces = -0.05 * (places - centre) + charges[:, None] * field
energy = 0.025 * ((places - centre) ** 2).sum() - field @ (charges @ (places - centre))
dipole = charges @ (places - centre) / 0.393430307
pathlib.Path("frame-RESTART.wfn").write_text("wavefunction")
print("  *** SCF run converged in     3 steps ***")
if reference:
    print("  Dipole moment [Debye]")
    print("    X= %.8E Y= %.8E Z= %.8E   Total= 1.0" % tuple(dipole))
print(" ENERGY| Total FORCE_EVAL ( QS ) energy [a.u.]:    %.15f" % energy)
print(" ATOMIC FORCES in [a.u.]\\n\\n # Atom   Kind   Element   X   Y   Z")
for i, (s, f) in enumerate(zip(symbols, forces)):
    print("  %d  1  %s   %.12f  %.12f  %.12f" % (i + 1, s, *f))
print(" SUM OF ATOMIC FORCES   0.0 0.0 0.0 0.0")
if "STRESS_TENSOR ANALYTICAL" in text:
    print(" STRESS| Analytical stress tensor [GPa]\\n STRESS|   x  y  z")
    for name in "xyz":
        print(" STRESS|      %s   1.0E+00  2.0E+00 3.0E+00" % name)
print("  **** PROGRAM ENDED AT now")
"""

#: Lines of CP2K 2023.1 about a water molecule, and about the dipole of formate.
OUTPUT = """\
  *** SCF run converged in     3 steps ***

 ENERGY| Total FORCE_EVAL ( QS ) energy [a.u.]:              -17.244542204913056

 ATOMIC FORCES in [a.u.]

 # Atom   Kind   Element          X                  Y                  Z
      1      1      O           0.000338813921    -0.000217398498     0.000837371381
      2      2      H          -0.000603285056     0.000254745711    -0.000185425740
      3      2      H           0.000202793298    -0.000077496932    -0.000743906715
 SUM OF ATOMIC FORCES          -0.000061677837    -0.000040149719    -0.000091961074     0.0001177

 STRESS| Analytical stress tensor [GPa]
 STRESS|                        x                   y                   z
 STRESS|      x        8.90479784216E-02  -2.18196928282E-02   6.54022328982E-03
 STRESS|      y       -2.18196928282E-02   5.06773150100E-02   8.79638671464E-03
 STRESS|      z        6.54022328982E-03   8.79638671464E-03   3.87588615085E-02
 STRESS| 1/3 Trace                                             5.94947183133E-02

  **** **** ******  **  PROGRAM ENDED AT                 2026-11-29 13:42:32.762
"""
DIPOLE = """\
  Dipole moment [Debye]
    X= -0.24112191E+00 Y=  0.15381620E+01 Z=  0.20804158E+00   Total=     1.57078432

 ENERGY|"""


@pytest.fixture
def dft(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The generator's modules."""
    pytest.importorskip("tblite.ase")
    pytest.importorskip("rdkit")
    monkeypatch.syspath_prepend(str(GENERATE))
    names = ("checks", "cli", "collect", "cp2k", "methods", "store", "trajectories", "work")
    parts = ("water", "molecules", "au2_mgo")
    return SimpleNamespace(
        **{name: importlib.import_module(f"dft.{name}") for name in (*names, *parts)}
    )


@pytest.fixture
def program(tmp_path: Path) -> str:
    """A program that stands for CP2K."""
    path = tmp_path / "cp2k"
    path.write_text(STAND_IN.format(python=sys.executable, top=str(tmp_path)))
    path.chmod(0o755)
    return str(path)


def geometries(count: int, seed: int = 0) -> list[Atoms]:
    """Distorted water molecules around the origin."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(count):
        atoms = molecule("H2O")
        atoms.positions += rng.normal(0.0, 0.1, (3, 3))
        frames.append(atoms)
    return frames


#: A method in open boundaries that begins with the density of atoms.
METHOD = {
    "level": "of springs",
    "exchange_correlation": "&XC_FUNCTIONAL PBE\n&END XC_FUNCTIONAL",
    "self_consistency": ("MAX_SCF 9", "MAX_SCF 99"),
    "self_consistency_in_field": ("MAX_SCF 9",),
    "periodic": False,
    "cutoff": 400,
    "relative_cutoff": 40,
}


def small_part(dft: SimpleNamespace, born: tuple[int, ...] = ()) -> object:
    """Three trajectories of a water molecule, and one relaxation."""
    info = {"config_type": "water"}
    trajectories = [
        dft.trajectories.Trajectory(
            f"{split}-0", split, n, partial(geometries, n, seed), info=info, born=born
        )
        for seed, (split, n) in enumerate((("train", 4), ("val", 2), ("test", 2)))
    ]
    start = partial(geometries, 1, 9)
    trajectories.append(
        dft.trajectories.Relaxation("relax", "path", 20, start, info=info, restart=True)
    )
    return dft.work.Part("water", dft.methods.Method(**METHOD), tuple(trajectories))


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().splitlines() if (folder / "calls").exists() else []


def finished(folder: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes() for path in (folder / "frames").rglob("*") if path.is_file()
    }


@pytest.mark.parametrize("name", ["water", "molecules", "au2_mgo"])
def test_input_is_complete(dft: SimpleNamespace, name: str) -> None:
    part = getattr(dft, name).part()
    atoms = molecule("H2O") if name == "molecules" else dft.au2_mgo.slab(True, True)
    if name == "water":
        atoms = molecule("H2O", cell=[9.0] * 3, pbc=True)
    text = dft.cp2k.input_text(atoms, part.method, part.method.self_consistency[0], charge=-1)
    open_sections = []
    for line in text.splitlines():
        if line.startswith("&END"):
            assert open_sections.pop() == line.split()[1]
        elif line.startswith("&"):
            open_sections.append(line.split()[0][1:])
    assert not open_sections
    assert "CHARGE -1" in text
    assert ("STRESS_TENSOR ANALYTICAL" in text) == (name != "molecules")
    assert ("&MOMENTS" in text) == (name == "molecules")
    assert ("POTENTIAL GTH-PBE-q2" in text) == (name == "au2_mgo")
    assert "FIELD" not in text
    kinds = set(re.findall(r"&KIND (\w+)", text))
    assert kinds == set(atoms.symbols)


def test_molecule_sits_in_the_middle_and_its_dipole_is_about_its_origin(
    dft: SimpleNamespace,
) -> None:
    atoms = molecule("H2O")
    atoms.positions += [5.0, 0.0, -3.0]
    text = dft.cp2k.input_text(atoms, dft.methods.MOLECULES, "", charge=0)
    rows = re.search(r"&COORD\n(.*?)\n&END", text, re.S)[1].splitlines()
    placed = np.array([[float(x) for x in row.split()[1:]] for row in rows])
    cell = re.findall(r"^[ABC] \[bohr\] (.*)", text, re.M)
    edges = np.array([row.split() for row in cell], float).diagonal() * units.Bohr
    np.testing.assert_allclose(placed.max(axis=0) + placed.min(axis=0), edges, atol=1e-9)
    assert placed.min() >= dft.cp2k.WALL - 1e-9
    origin = [float(x) for x in re.search(r"REFERENCE_POINT \[angstrom\] (.*)", text)[1].split()]
    np.testing.assert_allclose(placed - origin, atoms.positions, atol=1e-9)


@pytest.mark.parametrize("periodic", [True, False])
def test_field_of_the_input(dft: SimpleNamespace, periodic: bool) -> None:
    method = dft.methods.WATER if periodic else dft.methods.MOLECULES
    atoms = molecule("H2O", cell=[9.0] * 3, pbc=periodic)
    text = dft.cp2k.input_text(atoms, method, "", field=(0.0, -2e-3, 0.0))
    intensity = float(re.search("INTENSITY (.*)", text)[1])
    assert "POLARISATION 0.0000000000 -1.0000000000 0.0000000000" in text.replace(" -0.0", " 0.0")
    assert "STRESS_TENSOR ANALYTICAL" not in text
    assert intensity == pytest.approx(2e-3)


def test_output_is_read_in_our_units(dft: SimpleNamespace) -> None:
    result = dft.cp2k.read_output(OUTPUT, 3, stress=True, dipole=False)
    assert result.energy == pytest.approx(-17.244542204913056 * units.Ha)
    assert result.forces[2, 2] == pytest.approx(-0.000743906715 * units.Ha / units.Bohr)
    gpa = [8.90479784216e-02, 5.06773150100e-02, 3.87588615085e-02]
    gpa += [8.79638671464e-03, 6.54022328982e-03, -2.18196928282e-02]
    np.testing.assert_allclose(result.stress, -units.GPa * np.array(gpa))
    molecular = OUTPUT.replace(" ENERGY|", DIPOLE)
    result = dft.cp2k.read_output(molecular, 3, stress=False, dipole=True)
    debye = np.array([-0.24112191, 1.5381620, 0.20804158])
    np.testing.assert_allclose(result.dipole, debye * units.Debye)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("run converged", "run NOT converged"), "did not converge"),
        (lambda text: text[:700], "stopped early"),
        (lambda text: text.replace("      3      2      H", "      3      2      ?"), "of 2 atoms"),
        (lambda text: text.replace("STRESS|", "STRAIN|"), "nothing like"),
    ],
)
def test_output_that_is_no_result(
    dft: SimpleNamespace, change: Callable[[str], str], message: str
) -> None:
    with pytest.raises(dft.cp2k.CalculationError, match=message):
        dft.cp2k.read_output(change(OUTPUT), 3, stress=True, dipole=False)


def test_every_frame_is_computed_once(dft: SimpleNamespace, program: str, tmp_path: Path) -> None:
    part, store = small_part(dft), dft.store.Store(tmp_path / "work")
    dft.cli.run([part], store, program)
    first = finished(tmp_path / "work")
    assert len(calls(tmp_path)) == len(first)
    assert sum(not name.startswith("relax") for name in first) == 8
    frame = store.frame("water", part.trajectories[0], 0)
    expected = geometries(4, 0)[0]
    np.testing.assert_allclose(frame.positions, expected.positions, atol=1e-5)
    spring = 0.05 * units.Ha / units.Bohr**2
    np.testing.assert_allclose(frame.arrays["REF_forces"], -spring * frame.positions, atol=2e-5)
    energy = spring / 2 * (frame.positions**2).sum()
    assert frame.info["REF_energy"] == pytest.approx(energy, abs=1e-5)
    dipole = np.array([-0.8, 0.4, 0.4]) @ frame.positions
    np.testing.assert_allclose(frame.info["REF_dipole"], dipole, atol=1e-5)
    dft.cli.run([part], store, program)
    assert finished(tmp_path / "work") == first
    assert len(calls(tmp_path)) == len(first)


def test_relaxation_goes_down_to_the_end(
    dft: SimpleNamespace, program: str, tmp_path: Path
) -> None:
    part, store = small_part(dft), dft.store.Store(tmp_path / "work")
    dft.cli.run([part], store, program)
    relaxation = part.trajectories[-1]
    frames = store.frames("water", relaxation)
    assert 3 < len(frames) < relaxation.count
    energies = [frames[n].info["REF_energy"] for n in range(len(frames))]
    assert energies[-1] == min(energies)
    assert relaxation.relaxed(frames[len(frames) - 1])
    assert not relaxation.relaxed(frames[len(frames) - 2])
    # All but the first begin with the wavefunction of the one before.
    guesses = [line.split()[1] for line in calls(tmp_path) if "relax" in line]
    assert guesses == ["False"] + ["True"] * (len(frames) - 1)


DRIVER = """
import pathlib, sys
sys.path[:0] = {paths!r}
import importlib
from types import SimpleNamespace
import test_generate_dft as tests
names = ("cli", "methods", "store", "trajectories", "work")
dft = SimpleNamespace(**{{name: importlib.import_module("dft." + name) for name in names}})
store = dft.store.Store(pathlib.Path({work!r}))
with store.locked():
    dft.cli.run([tests.small_part(dft)], store, {program!r})
"""


@pytest.mark.parametrize("stop_at", [1, 4, 9])
def test_a_kill_costs_the_frame_at_work_only(
    dft: SimpleNamespace, program: str, tmp_path: Path, stop_at: int
) -> None:
    work = tmp_path / "work"
    (tmp_path / "mode").write_text(f"hang{stop_at}")
    paths = [str(GENERATE), str(Path(__file__).parent)]
    driver = DRIVER.format(paths=paths, work=str(work), program=program)
    process = subprocess.Popen([sys.executable, "-c", driver], start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "hanging").exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        process.kill()
        process.wait()
        before = finished(work)
        assert len(before) == stop_at - 1
        # CP2K is an orphan now and still works: nobody else may.
        store = dft.store.Store(work)
        with pytest.raises(dft.store.Busy, match="left behind"), store.locked():
            pass
    finally:
        os.killpg(process.pid, signal.SIGKILL)
    (tmp_path / "mode").unlink()
    (tmp_path / "hanging").unlink()
    deadline = time.monotonic() + 60
    while True:  # until the orphan's lock is gone
        try:
            with store.locked():
                dft.cli.run([small_part(dft)], store, program)
            break
        except dft.store.Busy:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    after = finished(work)
    assert before.items() <= after.items()
    names = [line.split()[0] for line in calls(tmp_path)]
    twice = {name for name in names if names.count(name) > 1}
    assert twice == {names[stop_at - 1]}
    # The killed frame began where it was.
    resumed = [line for line in calls(tmp_path) if line.startswith(names[stop_at - 1] + " ")]
    assert resumed[1].split()[1] == "True"
    assert not list(work.rglob("partial-*"))


def test_grid_of_a_molecule_has_one_spacing(dft: SimpleNamespace) -> None:
    method = dft.methods.MOLECULES
    for extent in np.random.default_rng(0).uniform(0.0, 15.0, (50, 3)):
        atoms = Atoms("H2", [[0.0, 0.0, 0.0], extent])
        edges = dft.cp2k.box_of(atoms, method)
        asked = edges * np.sqrt(method.cutoff) / np.pi
        points = dft.cp2k.POINTS[np.searchsorted(dft.cp2k.POINTS, asked)]
        assert len(set(edges / points)) == 1
        assert (edges * units.Bohr >= extent + 2 * dft.cp2k.WALL).all()


def test_a_cheap_calculation_comes_first(
    dft: SimpleNamespace, program: str, tmp_path: Path
) -> None:
    cheap = METHOD | {"first_self_consistency": "MAX_SCF 7", "first_cutoff": 100}
    method, atoms = dft.methods.Method(**cheap), geometries(1)[0]
    assert method.surface == dft.methods.Method(**METHOD).surface
    plain = dft.cp2k.calculate(
        atoms, dft.methods.Method(**METHOD), tmp_path / "plain", program=program
    )
    result = dft.cp2k.calculate(atoms, method, tmp_path / "run", program=program)
    assert [line.split() for line in calls(tmp_path)] == [
        ["plain", "False", "400"],
        ["run", "False", "100"],
        ["run", "True", "400"],
    ]
    assert result.energy == plain.energy
    # Not in a field, where the orbitals without one are at hand.
    guess = tmp_path / "run" / "frame-RESTART.wfn"
    field = (0.0, 0.0, 5e-4)
    dft.cp2k.calculate(atoms, method, tmp_path / "f", program=program, field=field, guess=guess)
    assert [line.split() for line in calls(tmp_path)][3:] == [["f", "True", "400"]]
    (tmp_path / "mode").write_text("fails at 100 Ry")
    result = dft.cp2k.calculate(atoms, method, tmp_path / "again", program=program)
    assert result.energy == plain.energy
    assert [line.split() for line in calls(tmp_path)][4:] == [
        ["again", "False", "100"],
        ["again", "False", "400"],
    ]


def test_a_bad_guess_is_not_the_end(dft: SimpleNamespace, program: str, tmp_path: Path) -> None:
    guess = tmp_path / "guess"
    guess.write_text("of another molecule")
    (tmp_path / "mode").write_text("bad guesses")
    atoms = geometries(1)[0]
    result = dft.cp2k.calculate(
        atoms, dft.methods.Method(**METHOD), tmp_path / "run", program=program, guess=guess
    )
    assert np.isfinite(result.energy)
    assert [line.split()[1] for line in calls(tmp_path)] == ["True", "False"]


@pytest.mark.parametrize(
    ("mode", "reason"), [("no convergence", "did not converge"), ("abort", "out of its senses")]
)
def test_a_failure_is_noted_and_not_tried_again(
    dft: SimpleNamespace, program: str, tmp_path: Path, mode: str, reason: str
) -> None:
    part, store = small_part(dft), dft.store.Store(tmp_path / "work")
    (tmp_path / "mode").write_text(mode)
    dft.cli.run([part], store, program)
    assert not finished(tmp_path / "work")
    note = tmp_path / "work" / "failed" / "water" / "train-0-000.txt"
    assert reason in note.read_text()
    number = len(calls(tmp_path))
    (tmp_path / "mode").unlink()
    dft.cli.run([part], store, program)
    assert len(calls(tmp_path)) == number
    assert "9 failed" in dft.cli.status(part, store)
    note.unlink()
    dft.cli.run([part], store, program)
    assert list(finished(tmp_path / "work")) == ["train-0-000.xyz"]


def test_a_killed_calculation_is_tried_again(
    dft: SimpleNamespace, program: str, tmp_path: Path
) -> None:
    part, store = small_part(dft), dft.store.Store(tmp_path / "work")
    (tmp_path / "mode").write_text("killed")
    with pytest.raises(dft.cp2k.Killed, match="signal 9"):
        dft.cli.run([part], store, program)
    assert not list((tmp_path / "work" / "failed").rglob("*.txt"))
    (tmp_path / "mode").unlink()
    dft.work.do(next(dft.work.open_tasks(part, store)), store, program)
    assert list(finished(tmp_path / "work")) == ["train-0-000.xyz"]


def test_born_charges_from_fields(dft: SimpleNamespace, program: str, tmp_path: Path) -> None:
    part, store = small_part(dft, born=(1,)), dft.store.Store(tmp_path / "work")
    dft.cli.run([part], store, program)
    for trajectory in part.trajectories[:3]:
        frames = store.frames("water", trajectory)
        assert "REF_bec" not in frames[0].arrays
        born = frames[1].arrays["REF_bec"].reshape(3, 3, 3)
        expected = np.array([-0.8, 0.4, 0.4])[:, None, None] * np.eye(3)
        np.testing.assert_allclose(born, expected, atol=1e-4)


def test_checks_compare_forces_with_differences(
    dft: SimpleNamespace, program: str, tmp_path: Path
) -> None:
    part, store = small_part(dft), dft.store.Store(tmp_path / "work")
    dft.cli.run([part], store, program)
    dft.checks.check([part], store, program)
    text = (tmp_path / "work" / "checks" / "water.txt").read_text()
    found = re.search(r"along .: (\S+) eV/A, by difference of 0.01 A (\S+)", text)
    assert abs(float(found[1])) > 1.0
    assert float(found[1]) == pytest.approx(float(found[2]), abs=1e-3)
    assert text.count("600 Ry") == 3
    moved = re.findall(r"elsewhere on the grid: energy (\S+) meV an atom, forces (\S+) meV/A", text)
    assert len(moved) == 3
    assert (np.array(moved, float) < 0.05).all()
    number = len(calls(tmp_path))
    dft.checks.check([part], store, program)
    assert len(calls(tmp_path)) == number


@pytest.mark.parametrize(
    ("name", "at_least"), [("water", 150), ("molecules", 300), ("au2_mgo", 80)]
)
def test_plan(dft: SimpleNamespace, tmp_path: Path, name: str, at_least: int) -> None:
    part = getattr(dft, name).part()
    names = [trajectory.name for trajectory in part.trajectories]
    assert len(set(names)) == len(names)
    labelled = [t for t in part.trajectories if t.split != "path"]
    assert sum(trajectory.count for trajectory in labelled) >= at_least
    assert {trajectory.split for trajectory in labelled} == {"train", "val", "test"}
    tasks = dft.work.open_tasks(part, dft.store.Store(tmp_path))
    early = {next(tasks).trajectory.split for _ in range(12)}
    assert {"train", "val", "test"} <= early


def test_collected_files(dft: SimpleNamespace, program: str, tmp_path: Path) -> None:
    part, store = small_part(dft, born=(0,)), dft.store.Store(tmp_path / "work")
    store.folder.mkdir()
    store.note_program(program)
    tasks = dft.work.open_tasks(part, store)
    for _ in range(5):
        dft.work.do(next(tasks), store, program)
    dft.collect.collect([part], store, tmp_path / "early")
    dft.cli.run([part], store, program)
    for folder in ("out", "again"):
        dft.collect.collect([part], store, tmp_path / folder)
    out = tmp_path / "out"
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["made_with"]["cp2k"] == "Stand-in 1.0"
    check_files(out, manifest)
    for path in out.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()
    # A lost working folder comes back from what was collected, and nothing is computed again.
    number = len(calls(tmp_path))
    fresh = dft.store.Store(tmp_path / "fresh")
    assert dft.collect.restore([part], fresh, out) == len(finished(tmp_path / "work"))
    fresh.note_program(program)
    dft.cli.run([part], fresh, program)
    assert len(calls(tmp_path)) == number
    dft.collect.collect([part], fresh, tmp_path / "restored")
    for path in out.iterdir():
        assert path.read_bytes() == (tmp_path / "restored" / path.name).read_bytes()
    other = dataclasses.replace(part, method=dataclasses.replace(part.method, cutoff=1.0))
    with pytest.raises(RuntimeError, match=r"cutoff differ"):
        dft.collect.collect([other], fresh, out)
    # What was collected earlier is still in its split.
    for path in (tmp_path / "early").glob("*.xyz.gz"):
        later = [frame.positions.tobytes() for frame in read(out / path.name, ":")]
        for frame in read(path, ":"):
            assert frame.positions.tobytes() in later
    relaxed = [frame for frame in read(out / "water_test.xyz.gz", ":") if frame.info.get("relaxed")]
    assert len(relaxed) == 1
    relaxation = manifest["relaxations"]["relax"]
    assert relaxation["relaxed"] and relaxation["largest_force"] < 0.05
    assert relaxation["energy"] == relaxed[0].info["REF_energy"]
    counts = {name: entry["frames"] for name, entry in manifest["files"].items()}
    assert counts["water_train.xyz.gz"] == 4
    assert counts["water_test.xyz.gz"] == 3


def test_a_geometry_in_two_splits_is_refused(
    dft: SimpleNamespace, program: str, tmp_path: Path
) -> None:
    make = dft.trajectories.Trajectory
    twins = [make(split, split, 1, lambda: geometries(1)) for split in ("train", "test")]
    part = dft.work.Part("water", dft.methods.Method(**METHOD), tuple(twins))
    store = dft.store.Store(tmp_path / "work")
    dft.cli.run([part], store, program)
    with pytest.raises(RuntimeError, match="in two splits"):
        dft.collect.collect([part], store, tmp_path / "out")


def check_files(folder: Path, manifest: dict) -> None:
    """Checksums, counts and labels of collected files, and that no trajectory is in two splits."""
    assert sorted(manifest["files"]) == sorted(path.name for path in folder.glob("*.gz"))
    homes: dict[tuple[str, str], set[str]] = {}
    for name, entry in manifest["files"].items():
        content = (folder / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]
        assert content[4:8] == bytes(4), "the gzip header must carry no time stamp"
        assert gzip.decompress(content).isascii()
        frames = read(folder / name, ":", format="extxyz")
        assert len(frames) == entry["frames"]
        system, split = name.removesuffix(".xyz.gz").rsplit("_", 1)
        for frame in frames:
            assert {"REF_energy", "total_charge"} <= set(frame.info)
            assert ("REF_stress" if frame.pbc.any() else "REF_dipole") in frame.info
            assert np.isfinite(frame.arrays["REF_forces"]).all()
            if "relaxed" not in frame.info:
                homes.setdefault((system, frame.info["trajectory"]), set()).add(split)
            if "REF_bec" in frame.arrays:
                total = frame.arrays["REF_bec"].sum(axis=0).reshape(3, 3)
                expected = frame.info["total_charge"] * np.eye(3)
                np.testing.assert_allclose(total, expected, atol=0.1)
    assert all(len(splits) == 1 for splits in homes.values())
    for name, entry in manifest["inputs"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == entry["sha256"]


@pytest.mark.skipif(not (DATA / "manifest.json").exists(), reason="nothing collected yet")
def test_committed_files_are_what_their_manifest_says() -> None:
    check_files(DATA, json.loads((DATA / "manifest.json").read_text()))
    assert sum(path.stat().st_size for path in DATA.iterdir()) < 5_000_000
