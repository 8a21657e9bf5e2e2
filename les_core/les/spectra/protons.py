"""Protons that have gone from one atom to another in the course of a trajectory.

In a real liquid of neutral molecules this does not happen within picoseconds. With a model it
does where ions were not among what it was trained on and it takes them for too stable, and all that
moves ions shows in a spectrum.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger("les")

#: A hydrogen atom without another atom this near is bonded to none [A].
LONGEST = 1.6


def partners(atoms: Any) -> NDArray[np.int_]:
    """The atom, no hydrogen, that is nearest to each hydrogen atom ``[n_hydrogen]``.

    -1 where there is none within :data:`LONGEST`.

    Args:
        atoms: the structure, ``ase.Atoms``, of any periodicity.
    """
    from ase.neighborlist import neighbor_list

    hydrogen, other, distance = neighbor_list("ijd", atoms, LONGEST)
    bonded = (atoms.numbers[hydrogen] == 1) & (atoms.numbers[other] != 1)
    hydrogen, other, distance = hydrogen[bonded], other[bonded], distance[bonded]
    found = np.full(len(atoms), -1)
    farthest_first = np.argsort(-distance, kind="stable")
    found[hydrogen[farthest_first]] = other[farthest_first]
    return found[atoms.numbers == 1]


def warn_of_moved_protons(first: Any, last: Any) -> None:
    """Log how many hydrogen atoms are bonded to another atom in ``last`` than in ``first``."""
    before, after = partners(first), partners(last)
    if moved := int((before != after).sum()):
        logger.warning(
            "%d of %d hydrogen atoms are bonded to another atom at the end than at the beginning: "
            "where no chemistry was expected, the model takes ions for too stable, and the "
            "spectrum is not that of the structure",
            moved,
            len(before),
        )
