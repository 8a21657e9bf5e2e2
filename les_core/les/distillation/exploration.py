"""Dynamics of a committee of students, to find what they do not agree about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from les.distillation import dynamics
from les.distillation.configurations import FRAME, ORIGIN, TRAJECTORY, read_starts
from les.distillation.descriptor import descriptors
from les.distillation.provenance import plain
from les.distillation.recipe import Settings
from les.distillation.selection import farthest_points
from les.distillation.settings import RoundSettings
from les.distillation.student import write_sets
from les.distillation.teachers import Teacher
from les.spectra.table_journal import table_journal


def explore(
    committee: Any,
    members: Sequence[str],
    settings: Settings,
    rounds: RoundSettings,
    number: int,
    output: Path,
    force: bool = False,
) -> dict[str, Any]:
    """Run the committee's dynamics, and write the frames that its members disagree about.

    Every piece of a trajectory goes to a journal beside ``output``, so that a call after an
    interruption goes on. A trajectory that explodes ends there; its frames before are used.

    Args:
        committee: a ``les.backends.committee.Committee``.
        members: checksums of the members' files.
        settings: starting structures, limits and the seed.
        rounds: dynamics, the bar of the spread, and how many frames are chosen.
        number: of the round; each has its own velocities.
        output: the file of chosen frames; none is written where there are none.
        force: forget a journal of other settings.

    Returns:
        The number of frames, of those above the bar and of those chosen, the largest and the mean
        spread [eV/A], and what has ended trajectories early.

    Raises:
        ValueError: for starting structures that cannot be used, and where every trajectory has
            ended before its first frame.
    """
    starts = read_starts(settings)
    seed = int(np.random.SeedSequence((settings.seed, 3, number)).generate_state(1)[0])
    trajectories = dynamics.plan(starts, rounds.dynamics, seed)
    explorer = Teacher(committee, {"teacher": "committee"})
    limits = replace(settings.limits, skip_bad=True)
    identity = {
        "members": list(members),
        "starts": [[atoms.get_chemical_formula(), atoms.positions.tolist()] for atoms in starts],
        "dynamics": vars(rounds.dynamics),
        "limits": vars(limits),
        "seed": seed,
    }
    with table_journal(output, plain(identity), force) as journal:
        dynamics.run(explorer, trajectories, rounds.dynamics, limits, journal)
        frames = list(dynamics.kept_frames(trajectories, rounds.dynamics, journal))
        early = dynamics.ended_early(journal)
    if not frames:
        why = f": {early[0]}" if early else ""
        raise ValueError(f"the exploration of round {number} has come to no frame{why}")
    structures = []
    for name, frame, atoms in frames:
        atoms.info |= {
            ORIGIN: f"round-{number}", TRAJECTORY: f"round-{number}-{name}", FRAME: frame,
        }  # fmt: skip
        structures.append(atoms)
    spreads = [spread(explorer, atoms) for atoms in structures]
    for atoms, value in zip(structures, spreads, strict=True):
        atoms.info["spread"] = value
    above = [n for n, value in enumerate(spreads) if value > rounds.spread]
    chosen = choose(structures, spreads, rounds, settings.selection.cutoff, seed)
    output.unlink(missing_ok=True)
    if chosen:
        write_sets(structures, {output.stem: chosen}, output.parent)
    return {
        "n_frames": len(structures),
        "n_above": len(above),
        "n_chosen": len(chosen),
        "largest_spread": max(spreads),
        "mean_spread": float(np.mean(spreads)),
        "ended_early": early,
    }


def spread(explorer: Teacher, atoms: Any) -> float:
    """The largest deviation of the members' forces on one atom [eV/A].

    It is the length of the standard deviation of the force, as an estimate for all models of this
    kind, of which the members are few.
    """
    explorer.results(atoms)
    committee = explorer.calculator
    deviations: NDArray[np.float64] = np.linalg.norm(committee.results["forces_std"], axis=1)
    n_members = len(committee.members)
    return float(deviations.max() * np.sqrt(n_members / (n_members - 1)))


def choose(
    structures: Sequence[Any],
    spreads: Sequence[float],
    rounds: RoundSettings,
    cutoff: float,
    seed: int,
) -> list[int]:
    """The numbers of the frames to label, in the order in which they come.

    Of frames above the bar those with the largest spread go first, and with each its neighbours in
    time are left out. If more than ``rounds.frames`` are left, those are taken that are far from
    one another.

    Args:
        structures: frames that say their trajectory and their number in it.
        spreads: of each [eV/A].
        rounds: the bar, and how many.
        cutoff: longest distance between atoms that the choice looks at [A].
        seed: decides which is the first.
    """
    apart: list[int] = []
    taken: set[tuple[str, int]] = set()
    for n in sorted(range(len(structures)), key=lambda n: -spreads[n]):
        place = (structures[n].info[TRAJECTORY], structures[n].info[FRAME])
        if spreads[n] > rounds.spread and place not in taken:
            apart.append(n)
            around = range(-rounds.gap, rounds.gap + 1)
            taken |= {(place[0], place[1] + shift) for shift in around}
    if len(apart) <= rounds.frames:
        return sorted(apart)
    points = descriptors([structures[n] for n in apart], cutoff)
    found = farthest_points(points, rounds.frames, np.random.default_rng(seed))
    return sorted(apart[n] for n in found)
