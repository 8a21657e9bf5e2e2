"""What LAMMPS has to be set to, and what is refused."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

logger = logging.getLogger("les")

#: How far the mass of an atom type may be from that of its element [u] without a warning.
MASS_TOLERANCE = 0.6


def check_settings(lmp: Any, fix: str) -> None:
    """Refuse settings with which results would be wrong.

    Args:
        lmp: a ``lammps.lammps``.
        fix: name of the ``fix external`` that is to be made.

    Raises:
        ValueError: for other units than ``metal``, no box, a fix that has this name, and other
            dimensions than 3.
    """
    units = lmp.extract_global("units")
    if units != "metal":
        raise ValueError(f"LAMMPS must have `units metal`, got `units {units}`")
    if not lmp.extract_setting("box_exist"):
        raise ValueError("LAMMPS must have a box with atoms before it has a model, got none")
    if lmp.has_id("fix", fix):
        raise ValueError(
            f"LAMMPS must not have a fix {fix!r} yet, because the one that acts on all atoms at "
            f"every step is made here: leave it out, or `unfix {fix}`"
        )
    dimension = lmp.extract_setting("dimension")
    if dimension != 3:
        raise ValueError(f"LAMMPS must have `dimension 3`, got `dimension {dimension}`")


def check_neighbour_lists(lmp: Any) -> None:
    """Refuse lists that may lack atoms which have come near.

    Raises:
        ValueError: unless they are made anew as soon as an atom has moved too far.
    """
    found = tuple(lmp.extract_setting(f"neigh_{name}") for name in ("every", "delay", "dist_check"))
    if found != (1, 0, 1):
        every, delay, check = found
        raise ValueError(
            "LAMMPS must have `neigh_modify every 1 delay 0 check yes`, got "
            f"`neigh_modify every {every} delay {delay} check {'yes' if check else 'no'}`: ghosts "
            "that have come near would be missed"
        )


def numbers_of_types(lmp: Any, elements: Sequence[str], known: Sequence[int]) -> list[int]:
    """Atomic numbers of LAMMPS's atom types ``[n_types]``.

    Warns of types with a mass that is not that of the element.

    Raises:
        ValueError: for a wrong number of elements, symbols that are none, and elements that the
            model does not know.
    """
    from ase.data import atomic_masses, atomic_numbers, chemical_symbols

    n_types = lmp.extract_setting("ntypes")
    if len(elements) != n_types:
        raise ValueError(
            f"`elements` must name the element of each of LAMMPS's {n_types} atom types, in their "
            f"order, got {len(elements)}: {' '.join(elements) or 'none'}"
        )
    numbers = []
    for place, symbol in enumerate(elements, start=1):
        if symbol not in atomic_numbers or symbol == "X":
            raise ValueError(
                f"`elements` must be chemical symbols, got {symbol!r} for type {place}"
            )
        number = atomic_numbers[symbol]
        if number not in known:
            have = ", ".join(chemical_symbols[z] for z in sorted(known))
            raise ValueError(f"the model does not know {symbol}, type {place}; it knows {have}")
        numbers.append(number)
    masses = lmp.numpy.extract_atom("mass", nelem=n_types + 1)
    if masses is not None:
        for place, number in enumerate(numbers, start=1):
            if abs(float(masses[place]) - atomic_masses[number]) > MASS_TOLERANCE:
                logger.warning(
                    "atom type %d is %s, but has the mass %g u",
                    *(place, chemical_symbols[number], float(masses[place])),
                )
    return numbers
