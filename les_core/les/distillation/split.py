"""Sets for training, validation and test, of which none has a neighbour of a frame of another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from les.distillation.configurations import FRAME, TRAJECTORY
from les.distillation.settings import SplitSettings

SETS = ("train", "valid", "test")


def split(
    structures: Sequence[Any],
    settings: SplitSettings,
    seed: int | Sequence[int],
    *,
    further: bool = False,
) -> tuple[dict[str, list[int]], list[int]]:
    """Divide structures by blocks of successive frames of the same trajectory.

    Args:
        structures: with the trajectory that they are of and their number in it; one that says
            neither is a trajectory of its own.
        settings: shares, length of blocks, and gap.
        seed: decides which blocks go where.
        further: the structures are added to sets that are there: none is for the test, and of few
            none is for validation.

    Returns:
        Set -> numbers of its structures; and the numbers of those that are left out, because they
        are too near to a frame of another set.

    Raises:
        ValueError: if a set would be empty; the message says how many blocks there are.
    """
    places = [
        (str(atoms.info.get(TRAJECTORY, f"single-{n}")), int(atoms.info.get(FRAME, 0)))
        for n, atoms in enumerate(structures)
    ]
    blocks: dict[tuple[str, int], list[int]] = {}
    for n, (trajectory, frame) in enumerate(places):
        blocks.setdefault((trajectory, frame // settings.block), []).append(n)
    order = [list(blocks.values())[n] for n in np.random.default_rng(seed).permutation(len(blocks))]
    sets: dict[str, list[int]] = {name: [] for name in SETS}
    for name in ("valid",) if further else ("valid", "test"):
        wanted = getattr(settings, name) * len(structures)
        if not further:
            wanted = max(wanted, 1.0)
        while len(order) > int(further) and len(sets[name]) + len(order[-1]) / 2.0 <= wanted:
            sets[name] += order.pop()
        if not (sets[name] or further) and order:
            sets[name] += order.pop()
    sets["train"] = [n for block in order for n in block]
    left_out: list[int] = []
    taken: list[tuple[str, int]] = []
    for name in SETS:  # what is trained on stays whole
        near = {
            (trajectory, frame + shift)
            for trajectory, frame in taken
            for shift in range(-settings.gap, settings.gap + 1)
        }
        left_out += [n for n in sets[name] if places[n] in near]
        sets[name] = sorted(n for n in sets[name] if places[n] not in near)
        taken += [places[n] for n in sets[name]]
    empty = [name for name in SETS if not (sets[name] or further)]
    if empty:
        raise ValueError(
            f"{len(structures)} structures in {len(blocks)} blocks leave nothing for the set"
            f"{'s' * (len(empty) > 1)} {' and '.join(empty)}; label more, or make `block` "
            f"({settings.block}) or `gap` ({settings.gap}) smaller (split)"
        )
    return sets, sorted(left_out)
