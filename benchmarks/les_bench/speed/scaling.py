"""What a step of LAMMPS costs on more ranks than were measured, from figures of a few.

Work is counted in what it grows with: the model's in edges, finding them in atoms that a rank sees,
the sum's in its own atoms and in components. How many there are of each follows from geometry: a
box is divided into equal blocks, and a rank has the edges that end within ``n_layers - 1`` cutoffs
of its block, and sees all atoms within ``n_layers`` of it. Communication is not measured on one
machine: its time follows from a bandwidth and a latency that are given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from les_bench.speed.lammps_rank import FORCES, GRAPH, MODEL, SUM, WAITING

#: Of a number in float64, and of one of a force.
COMPONENT_BYTES, FORCE_BYTES = 16, 24


class Network(NamedTuple):
    """How fast ranks talk to one another."""

    bandwidth: float  # [byte/s]
    latency: float  # [s]


class Prediction(NamedTuple):
    """What a step costs the slowest rank [s], and what is added up [byte]."""

    edges: float
    model: float
    graph: float
    sum: float
    lammps: float
    network: float
    factor_bytes: float
    force_bytes: float

    @property
    def seconds(self) -> float:
        """The whole step."""
        return self.model + self.graph + self.sum + self.lammps + self.network

    @property
    def limit(self) -> tuple[str, float]:
        """The part that takes longest, and its share."""
        parts = {name: getattr(self, name) for name in (MODEL, GRAPH, SUM, "lammps", "network")}
        longest = max(parts, key=lambda name: parts[name])
        return longest, parts[longest] / self.seconds


class Figures(NamedTuple):
    """What costs are made of."""

    #: Atoms per volume [1/A^3], edges that end in an atom, components per volume [1/A^3].
    density: float
    edges_per_atom: float
    components: float
    #: Of the model [A], and how far lists reach beyond it [A].
    cutoff: float
    n_layers: int
    skin: float
    #: Processor seconds of the model for a call and an edge, of its graph and of LAMMPS for an
    #: atom that is seen.
    per_call: float
    per_edge: float
    per_seen: float
    per_seen_lammps: float
    #: Processor seconds of the sum for an own atom, and for a component.
    per_own: float
    per_component: float
    #: How often something is added up in a step.
    sums: float

    @staticmethod
    def of(runs: Sequence[dict[str, Any]]) -> Figures:
        """From measurements, as ``les bench lammps`` keeps them."""
        first = runs[0]
        ranks = [rank for run in runs for rank in run["of_ranks"]]

        def total(part: str) -> float:
            return float(sum(rank["seconds"].get(part, (0.0, 0.0))[1] for rank in ranks))

        def count(name: str) -> float:
            return float(sum(rank[name] for rank in ranks))

        depth = (first["n_layers"] - 1) * first["cutoff"]
        receivers = sum(
            run["atoms"] * block_share(run["lengths"], run["ranks"], depth) * run["ranks"]
            for run in runs
        )
        components = [run["of_ranks"][0]["bytes"][SUM] / COMPONENT_BYTES for run in runs]
        volumes = [math.prod(run["lengths"]) for run in runs]
        everything = sum(rank["total"][1] for rank in ranks)
        lammps = everything - sum(total(part) for part in (MODEL, GRAPH, SUM, FORCES, WAITING))
        of_model = [((rank["edges"], 1.0), rank["seconds"][MODEL][1]) for rank in ranks]
        of_sum = [
            ((rank["own"], n), rank["seconds"][SUM][1])
            for run, n in zip(runs, components, strict=True)
            for rank in run["of_ranks"]
        ]
        per_edge, per_call = fitted(of_model)
        per_own, per_component = fitted(of_sum)
        return Figures(
            sum(run["atoms"] for run in runs) / sum(volumes),
            count("edges") / receivers,
            sum(components) / sum(volumes),
            first["cutoff"],
            first["n_layers"],
            first["skin"],
            per_call,
            per_edge,
            total(GRAPH) / count("seen"),
            max(0.0, lammps) / count("seen"),
            per_own,
            per_component,
            max(rank["sums"] for rank in ranks),
        )

    def predict(
        self, n_atoms: int, lengths: Sequence[float], ranks: int, network: Network
    ) -> Prediction:
        """The cost of a step of ``n_atoms`` in a box with edges of ``lengths`` [A]."""
        reach = self.n_layers * self.cutoff + self.skin
        depth = (self.n_layers - 1) * self.cutoff
        edges = n_atoms * block_share(lengths, ranks, depth) * self.edges_per_atom
        sides = [length / n for length, n in zip(lengths, blocks(lengths, ranks), strict=True)]
        seen = self.density * math.prod(side + 2 * reach for side in sides)
        components = self.components * math.prod(lengths)
        factor_bytes = COMPONENT_BYTES * components if ranks > 1 else 0.0
        force_bytes = FORCE_BYTES * float(n_atoms) if ranks > 1 else 0.0
        # Down a tree to one rank, and up again to all.
        hops = 2.0 * math.ceil(math.log2(ranks)) if ranks > 1 else 0.0
        each = (factor_bytes + force_bytes) / network.bandwidth + self.sums * network.latency
        return Prediction(
            edges,
            self.per_call + self.per_edge * edges,
            self.per_seen * seen,
            self.per_own * n_atoms / ranks + self.per_component * components,
            self.per_seen_lammps * seen,
            hops * each,
            factor_bytes,
            force_bytes,
        )


def blocks(lengths: Sequence[float], ranks: int) -> tuple[int, int, int]:
    """Into how many blocks a box is divided along each axis, with the least surface between."""
    a, b, c = lengths

    def surface(grid: tuple[int, int, int]) -> float:
        x, y, z = a / grid[0], b / grid[1], c / grid[2]
        return x * y + y * z + x * z

    divisors = [n for n in range(1, ranks + 1) if ranks % n == 0]
    grids = [(i, j, ranks // (i * j)) for i in divisors for j in divisors if ranks % (i * j) == 0]
    return min(grids, key=surface)


def block_share(lengths: Sequence[float], ranks: int, depth: float) -> float:
    """Share of a box that is within ``depth`` [A] of one of its blocks; a periodic box is enough.

    Corners of what is around a block count as if they were within.
    """
    sides = [length / n for length, n in zip(lengths, blocks(lengths, ranks), strict=True)]
    return math.prod(
        min(length, side + 2 * depth) / length for length, side in zip(lengths, sides, strict=True)
    )


def fitted(measured: Sequence[tuple[Sequence[float], float]]) -> list[float]:
    """What each of several counts costs, not negative, with the least relative errors.

    Args:
        measured: counts, and the time that they took together.
    """
    from scipy.optimize import nnls

    rows = [[count / seconds for count in counts] for counts, seconds in measured]
    found, _ = nnls(np.array(rows), np.ones(len(rows)))
    return [float(x) for x in found]
