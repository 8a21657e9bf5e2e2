"""The spin multiplicity of a structure, where a file or a program has written it."""

from __future__ import annotations

from typing import Any

from les.data.entries import one_number

#: Entries of ``Atoms.info`` that may hold it: 2 S + 1, so that 1 is a singlet.
SPIN_NAMES = ("spin", "total_spin")


def spin_multiplicity(atoms: Any, *further: str) -> float:
    """Spin multiplicity 2 S + 1 of a structure, from one of :data:`SPIN_NAMES` in ``atoms.info``.

    It is asked for by models that cannot do without it.

    Args:
        atoms: ``ase.Atoms``.
        further: names of entries that may hold it as well.

    Raises:
        ValueError: for a structure that says nothing, what is not one finite number of at least 1,
            and two entries that differ. The message names the entry.
    """
    found = one_number(atoms, (*SPIN_NAMES, *further), "spin multiplicity 2 S + 1")
    if found is None:
        raise ValueError(
            f"has no spin (looked for {' or '.join(SPIN_NAMES)}), which the model needs: the "
            "multiplicity 2 S + 1, spin=1 for a singlet"
        )
    name, spin = found
    if spin < 1.0:
        raise ValueError(f"{name} must be a multiplicity 2 S + 1 of at least 1, got {spin:g}")
    return spin
