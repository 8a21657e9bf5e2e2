"""Fragments of a structure, as a file or a program has written them, and molecules by bonds.

A fragment is a part of a structure that keeps its total charge.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from les.data.bonds import bonded_pairs
from les.fragments import ROUNDING, Fragments

#: Arrays of ``Atoms`` that hold them: labels of fragments, and the charge of each atom's fragment.
FRAGMENT, FRAGMENT_CHARGE = "fragment", "fragment_charge"


def fragments(atoms: Any, total_charge: float = 0.0) -> Fragments | None:
    """What ``atoms.arrays`` say about fragments: ``fragment`` and ``fragment_charge``.

    The first has whole numbers, alike for the atoms of a fragment. The second has the total charge
    of the fragment that an atom belongs to [e], and may be left out where all are 0.

    Args:
        atoms: ``ase.Atoms``.
        total_charge: that of the structure [e].

    Returns:
        ``None`` of a structure without such arrays.

    Raises:
        ValueError: naming the array, for labels that are not one whole number for each atom,
            charges that are not one finite number for each atom or differ within a fragment,
            charges without labels, and fragments whose charges do not sum to the total charge.
    """
    labels, charges = atoms.arrays.get(FRAGMENT), atoms.arrays.get(FRAGMENT_CHARGE)
    if labels is None and charges is None:
        return None
    if labels is None:
        raise ValueError(f"{FRAGMENT_CHARGE} needs {FRAGMENT}, which the structure does not have")
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{FRAGMENT} must be one whole number for each atom, got {labels.dtype} of shape "
            f"{list(labels.shape)}"
        )
    if charges is None:
        charges = np.zeros(len(atoms))
    if charges.ndim != 1 or charges.dtype.kind not in "iuf" or not np.isfinite(charges).all():
        raise ValueError(
            f"{FRAGMENT_CHARGE} must be one finite number for each atom, the total charge of its "
            f"fragment in e, got {charges.tolist()}"
        )
    distinct, first, owner = np.unique(labels, return_index=True, return_inverse=True)
    differs = np.abs(charges - charges[first][owner]) > ROUNDING
    if differs.any():
        atom = int(np.flatnonzero(differs)[0])
        raise ValueError(
            f"{FRAGMENT_CHARGE} must be alike within a fragment, got {charges[atom]:g} and "
            f"{charges[first][owner][atom]:g} e in fragment {labels[atom]}"
        )
    found = float(charges[first].sum())
    if abs(found - total_charge) > ROUNDING:
        raise ValueError(
            f"the charges of the {len(distinct)} fragments must sum to the total charge, "
            f"{total_charge:g} e, got {found:g} e ({FRAGMENT_CHARGE}; `charge` in atoms.info)"
        )
    return Fragments(owner.astype(np.int64), charges.astype(np.float64))


def put_fragments(atoms: Any, found: Fragments | None, total_charge: float) -> None:
    """Put the fragments of a frame in ``atoms.arrays``, where upstream's readers take arrays from.

    All frames of a training get them, because batches need the same fields of all frames.

    Args:
        atoms: the frame, ``ase.Atoms``.
        found: its fragments, ``None`` where it does not tell any.
        total_charge: of the frame [e].
    """
    told = Fragments.untold(len(atoms), total_charge) if found is None else found
    for name, values in zip((FRAGMENT, FRAGMENT_CHARGE), told, strict=True):
        atoms.arrays[name] = values


def molecules(atoms: Any) -> NDArray[np.int64]:
    """Labels ``[n_atoms]``, from 0, of the molecules of a structure, to be its fragments.

    Atoms that bonds connect (``les.data.bonds``) are one molecule. In a hot liquid, or where a
    proton is handed over, what is bonded is no clear question: look at the number of molecules.
    For instance ``atoms.arrays["fragment"] = molecules(atoms)``.

    Args:
        atoms: ``ase.Atoms``, of any periodicity.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    first, second = bonded_pairs(atoms)
    n_atoms = len(atoms)
    bonds = coo_matrix((np.ones(len(first)), (first, second)), shape=(n_atoms, n_atoms))
    labels: NDArray[np.int64] = connected_components(bonds, directed=False)[1].astype(np.int64)
    return labels
