"""LAMMPS on one, two and four ranks, as ASE."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import read, write

from les.testing.lammps import check_against_ase, mpirun, water
from les_mace import LESCalculator, save_model

pytestmark = pytest.mark.slow

#: Name of a case -> model file, cell, molecules along each axis, what LAMMPS does.
CASES = {
    # The box changes.
    "water": {
        "model": "model.pt",
        "cell": [[9.5, 0, 0], [0, 9.6, 0], [0, 0, 9.4]],
        "n": (3, 3, 3),
        "before": [],
        "commands": [
            "velocity all create 300 1",
            "fix npt all npt temp 300 300 0.05 aniso 1 1 0.05",
        ],
        "steps": 5,
    },
    # So hot that atoms migrate.
    "triclinic": {
        "model": "model.pt",
        "cell": [[9.5, 0, 0], [2.5, 9.0, 0], [-2.2, 1.1, 9.4]],
        "n": (3, 3, 3),
        "before": [],
        "commands": ["velocity all create 20000 1 loop all", "fix nve all nve"],
        "steps": 12,
    },
    # All ranks but the first are above the slab and have no atoms.
    "slab": {
        "model": "model.pt",
        "cell": [[9.5, 0, 0], [1.5, 9.6, 0], [0, 0, 30]],
        "n": (3, 3, 2),
        "before": ["processors 1 1 *"],
        "commands": ["velocity all create 300 1 loop all", "fix nve all nve"],
        "steps": 2,
        "born_every": 2,
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, model, short_range_model):
    """Models, structures, and the results of LAMMPS on one, two and four ranks."""
    folder = tmp_path_factory.mktemp("lammps")
    save_model(model, folder / "model.pt")
    save_model(short_range_model, folder / "short.pt")
    generator = np.random.default_rng(1)
    for name, case in CASES.items():
        write(folder / f"{name}.xyz", water(case["cell"], case["n"], generator))
    (folder / "cases.json").write_text(json.dumps(CASES))
    mpirun(4, Path(__file__).parents[1] / "lammps_worker.py", folder)
    return folder


@pytest.fixture(scope="module")
def calculator(folder):
    return LESCalculator(folder / "model.pt", dtype="float64")


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("name", CASES)
def test_results_are_those_of_ase(folder, calculator, name, size):
    check_against_ase(folder, name, size, calculator)
    with np.load(folder / f"{name}-{size}.npz") as found:
        same_cell = np.allclose(found["cell"], read(folder / f"{name}.xyz").cell[:])
    assert same_cell != (name == "water")


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("name", CASES)
def test_ranks_agree(folder, name, size):
    """After steps on which atoms have migrated."""
    with np.load(folder / f"{name}-1.npz") as one, np.load(folder / f"{name}-{size}.npz") as many:
        assert len(one["n_own"]) == 1 and len(many["n_own"]) == size
        for quantity in ("pe", "pressure", "forces", "charges"):
            largest = np.abs(one[quantity]).max()
            np.testing.assert_allclose(many[quantity], one[quantity], rtol=0, atol=1e-9 * largest)
        np.testing.assert_allclose(many["vector"], one["vector"], rtol=1e-7, atol=1e-9)
        assert (name == "triclinic") == bool(many["has_migrated"])
        assert (name == "slab") == (0 in many["n_own"])


def test_dipole_is_that_of_ase(folder, calculator):
    """Of a slab, no atom of which is wrapped on the way."""
    with np.load(folder / "slab-2.npz") as found:
        start = read(folder / "slab.xyz")
        atoms = Atoms(start.numbers, found["positions"], cell=found["cell"], pbc=start.pbc)
        atoms.calc = calculator
        np.testing.assert_allclose(found["vector"][:3], atoms.get_dipole_moment(), rtol=1e-9)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_born_effective_charges_and_current(folder, size):
    with np.load(folder / f"slab-{size}.npz") as found:
        start = read(folder / "slab.xyz")
        atoms = Atoms(start.numbers, found["positions"], cell=found["cell"], pbc=start.pbc)
        atoms.calc = LESCalculator(folder / "model.pt", dtype="float64", bec=True)
        atoms.get_potential_energy()
        born = atoms.calc.results["born_effective_charges"]
        np.testing.assert_allclose(found["born"], born, rtol=0, atol=1e-9 * np.abs(born).max())
        current = np.einsum("iab,ib->a", born.reshape(-1, 3, 3), found["velocities"])
        assert np.abs(current).max() > 1e-3
        np.testing.assert_allclose(found["current"], current, rtol=1e-8, atol=1e-9)


def test_errors_are_the_same_on_all_ranks(folder):
    refused = json.loads((folder / "refused.json").read_text())
    for name, message in {
        "no IDs": "LAMMPS must have atoms with IDs, got `atom_modify id no`",
        "fix": "LAMMPS must not have a fix 'les' yet",
        "bec": "`bec` has no effect in LAMMPS",
        "born_every": "`born_every` must be a number of steps, got -1",
        "eps_inf": "`eps_inf` has no effect in LAMMPS",
        "units": "LAMMPS must have `units metal`, got `units real`",
        "too few elements": "each of LAMMPS's 2 atom types, in their order, got 1: H",
        "unknown element": "the model does not know Xe, type 2; it knows H, O",
        "no element": "chemical symbols, got 'Q' for type 2",
        "wire": "wires are not supported",
        "without LES": "a model with LES is needed",
        "missing": "missing.pt",
        "one rank": "this one is broken (on rank 1)",
        "late lists": "got `neigh_modify every 1 delay 5 check yes`",
    }.items():
        first, second = refused[name]
        assert message in first and first == second


SCRIPT = """\
units metal
boundary p p p
read_data water.data
mass 1 1.008
mass 2 15.999
timestep 0.0005
fix les all external pf/callback 1 1
velocity all create 300 1 loop all
fix npt all npt temp 300 300 0.05 iso 1 1 0.5
thermo_style custom step etotal press f_les[4]
dump charges all custom 2 dump.water id type x y z d_les_charge
dump_modify charges sort id format float %20.15g
run 2
write_restart restart.water
run 2
"""
AGAIN = """\
units metal
read_restart restart.water
timestep 0.0005
fix npt all npt temp 300 300 0.05 iso 1 1 0.5
fix les all external pf/callback 1 1
dump charges all custom 2 dump.again id type x y z d_les_charge
dump_modify charges sort id format float %20.15g
run 2
"""


def test_command(folder, monkeypatch):
    """A restart on another number of ranks goes on as if there had been no interruption."""
    monkeypatch.chdir(folder)
    write("water.data", read("water.xyz"), format="lammps-data", specorder=["H", "O"])
    Path("in.water").write_text(SCRIPT)
    Path("in.again").write_text(AGAIN)
    options = ("--model", "model.pt", "--elements", "H", "O", "--", "-log", "log.lammps")
    out, _ = mpirun(2, "-m", "les", "lammps", "in.water", *options)
    assert "MPI processor grid" in out
    mpirun(1, "-m", "les", "lammps", "in.again", *options)

    def last_frame(name):
        rows = Path(name).read_text().split("ITEM: ATOMS")[-1].splitlines()[1:]
        return np.array([[float(value) for value in row.split()] for row in rows])

    np.testing.assert_allclose(last_frame("dump.again"), last_frame("dump.water"), atol=1e-9)
    charges = last_frame("dump.water")[:, 5]
    assert abs(charges.sum()) < 1e-10 and np.abs(charges).max() > 0.01


def test_command_tells_errors_once(folder, monkeypatch):
    monkeypatch.chdir(folder)
    Path("in.late").write_text(SCRIPT.replace("run 2", "jump in.more"))
    Path("in.more").write_text("neigh_modify delay 5\nrun 2\nprint 'not reached'\n")
    write("water.data", read("water.xyz"), format="lammps-data", specorder=["H", "O"])
    options = ("--model", "model.pt", "--elements", "H", "O")
    out, err = mpirun(2, "-m", "les", "lammps", "in.late", *options, status=1)
    assert err.count("les: error: LAMMPS must have `neigh_modify") == 1
    assert "not reached" not in out.replace("print", "")
