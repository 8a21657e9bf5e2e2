"""An ion pair on a slab of NaCl, which only a dopant far below can turn.

The slab is five layers thick. In some structures a Mg2+ stands in the place of a Na+ in its lowest
layer, 14 A below a Na+ and a Cl- that lie on its surface ("wetting") or stand on it ("nonwetting").
Its additional charge favours the lying pair by 0.13 eV, and without it the standing one is better;
nothing else of it reaches there. All ions keep their charges, so the reference is a formula
(``les_bench.systems.ions``).
"""

from __future__ import annotations

import itertools

import numpy as np
from ase import Atoms

from les_bench.systems.ions import labelled

#: Distance of neighbours in the slab [A], its ions along each side, and its layers.
SPACING, SIDE, LAYERS = 2.82, 4, 5
#: Standard deviation of all coordinates [A].
RATTLE = 0.08
#: Heights of a pair that lies, and of the ions of one that stands [A].
LYING, STANDING = 2.7, (2.7, 5.25)
#: Displacements of all ions in each split; each is of four structures, which differ in dopant and
#: in how the pair is.
N_RATTLES = {"train": 12, "valid": 2, "test": 5}


def make() -> dict[str, list[Atoms]]:
    """The frames of all splits; always the same."""
    frames: dict[str, list[Atoms]] = {}
    for seed, (split, n) in enumerate(N_RATTLES.items()):
        generator = np.random.default_rng(seed)
        frames[split] = []
        for number in range(n):
            moved = generator.normal(0, RATTLE, (SIDE**2 * LAYERS + 2, 3))
            for doped, geometry in itertools.product((False, True), ("wetting", "nonwetting")):
                atoms = structure(doped, geometry)
                atoms.positions += moved
                names = {"doped": doped, "geometry": geometry, "trajectory": f"rattle {number}"}
                frames[split].append(labelled(atoms, **names))
    return frames


def structure(doped: bool, geometry: str) -> Atoms:
    """The slab and the pair on it, all ions at their ideal places."""
    places = list(itertools.product(range(SIDE), range(SIDE), range(LAYERS)))
    numbers = [17 if sum(place) % 2 == 0 else 11 for place in places]
    if doped:
        numbers[places.index((1, 2, LAYERS - 1))] = 12
    positions = [SPACING * np.array([x, y, -z], float) for x, y, z in places]
    below = SPACING * np.array([1.0, 1.0, 0.0])  # a Cl-, with a Na+ beside it
    if geometry == "wetting":
        pair = [below + [0, 0, LYING], below + [SPACING, 0, LYING]]
    else:
        pair = [below + [0, 0, height] for height in STANDING]
    return Atoms([*numbers, 11, 17], [*positions, *pair])
