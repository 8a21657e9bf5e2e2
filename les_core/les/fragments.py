"""Fragments: parts of a structure that keep a total charge each, such as the molecules of a liquid.

Charges that are equilibrated flow through all of a structure, and what those that are read lack of
its total charge is spread over all of it (``les.neutrality``), unless its fragments are told. Each
atom has the label of its fragment, a whole number that means something within its structure only,
and the total charge of that fragment.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from les.conjugate_gradients import Groups
from les.sums.checks import check_finite, check_tensors

#: Difference of total charges that is rounding [e].
ROUNDING = 1e-5

#: Label of all atoms of a structure that does not tell its fragments, among some that do.
UNTOLD = -1


class Fragments(NamedTuple):
    """The fragments of one structure.

    Attributes:
        labels: of the fragment of each atom ``[n_atoms]``, from 0; ``UNTOLD`` for all of them is a
            structure which is one fragment because nobody has told others.
        charges: total charge of the fragment of each atom ``[n_atoms]`` [e].
    """

    labels: NDArray[np.int64]
    charges: NDArray[np.float64]

    @classmethod
    def untold(cls, n_atoms: int, total_charge: float) -> Fragments:
        """Those of a structure of a ``total_charge`` [e] that does not tell any."""
        return cls(np.full(n_atoms, UNTOLD), np.full(n_atoms, float(total_charge)))


def fragments_of(fragment: Tensor | None, batch: Tensor, n_structures: int) -> Groups:
    """The fragments of all structures of a batch; each structure is one where none are told.

    Args:
        fragment: label of the fragment of each atom ``[n_atoms]``.
        batch: structure of each atom ``[n_atoms]``.
        n_structures: number of structures.

    Raises:
        TypeError: for labels that are not whole numbers.
        ValueError: for labels of another shape, or on another device.
    """
    if fragment is None:
        return Groups(batch, n_structures)
    check_tensors(fragment=fragment)
    if fragment.is_floating_point() or fragment.is_complex() or fragment.dtype == torch.bool:
        raise TypeError(f"`fragment` must hold whole numbers, got {fragment.dtype}")
    _check_shape("fragment", fragment, batch)
    # One number for each atom: rows of two are slow to compare, and labels may be of any size.
    labels, label = torch.unique(fragment, return_inverse=True)
    distinct, owner = torch.unique(batch * len(labels) + label, return_inverse=True)
    return Groups(owner, len(distinct))


def charges_of_fragments(
    fragments: Groups,
    fragment_charge: Tensor | None,
    total_charge: Tensor | None,
    batch: Tensor,
    n_structures: int,
) -> Tensor | None:
    """The total charge of each fragment ``[n_fragments]`` [e], ``None`` where all are zero.

    Args:
        fragments: those of all structures.
        fragment_charge: the total charge of the fragment of each atom ``[n_atoms]`` [e].
        total_charge: that of each structure ``[n_structures]`` [e]; zero without it.
        batch: structure of each atom ``[n_atoms]``.
        n_structures: number of structures.

    Raises:
        TypeError: for what is not a tensor.
        ValueError: for another shape or device, values that are not finite, require gradients
            or differ within a fragment, or are those of no fragments, and fragments whose
            charges do not sum to that of their structure.
    """
    owner, number = fragments.owner, fragments.number
    if fragment_charge is None:
        if total_charge is None or owner is batch:
            return total_charge
        of_fragments = total_charge.new_zeros(number)
    else:
        if owner is batch:
            raise ValueError("`fragment_charge` needs `fragment`, which is missing")
        _check_charges(fragment_charge, batch)
        given = fragment_charge.detach().double()
        of_fragments = given.new_zeros(number).scatter(0, owner, given)
        differs = (of_fragments[owner] - given).abs() > ROUNDING
        if bool(differs.any()):
            atom = int(torch.nonzero(differs)[0])
            raise ValueError(
                "`fragment_charge` must be one number for each fragment, got "
                f"{float(given[atom]):g} and {float(of_fragments[owner][atom]):g} e within that "
                f"of atom {atom}"
            )
    first = torch.zeros_like(owner[:number]).scatter(0, owner, batch)  # structure of each
    sums = of_fragments.new_zeros(n_structures).index_add(0, first, of_fragments)
    expected = sums.new_zeros(n_structures) if total_charge is None else total_charge.to(sums)
    wrong = (sums - expected).abs() > ROUNDING
    if bool(wrong.any()):
        structure = int(torch.nonzero(wrong)[0])
        raise ValueError(
            f"the charges of the fragments of structure {structure} must sum to its total charge, "
            f"{float(expected[structure]):g} e, got {float(sums[structure]):g} e "
            "(`fragment_charge`, `total_charge`)"
        )
    return of_fragments


def joined_fragments(
    structures: Sequence[Fragments | None], sizes: Sequence[int], total_charges: Sequence[float]
) -> tuple[Tensor | None, Tensor | None]:
    """Labels and charges of fragments ``[n_atoms]`` of a batch; ``None`` where there are none.

    Args:
        structures: the fragments of each; ``None`` of one that is a fragment as a whole.
        sizes: numbers of atoms.
        total_charges: of the structures [e].
    """
    if all(one is None for one in structures):
        return None, None
    told = [
        Fragments.untold(size, total) if one is None else one
        for one, size, total in zip(structures, sizes, total_charges, strict=True)
    ]
    labels, charges = zip(*told, strict=True)
    return torch.as_tensor(np.concatenate(labels)), torch.as_tensor(np.concatenate(charges))


def told_fragments(
    fragment: Tensor | None, fragment_charge: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    """Labels and charges of fragments as they are given; ``None`` where no structure tells any."""
    if fragment is not None and bool((fragment == UNTOLD).all()):
        return None, None
    return fragment, fragment_charge


def _check_charges(fragment_charge: Tensor, batch: Tensor) -> None:
    check_tensors(fragment_charge=fragment_charge)
    _check_shape("fragment_charge", fragment_charge, batch)
    check_finite("fragment_charge", fragment_charge)
    if fragment_charge.requires_grad:
        raise ValueError(
            "`fragment_charge` must not require gradients: there are no derivatives with respect "
            "to it"
        )


def _check_shape(name: str, values: Tensor, batch: Tensor) -> None:
    if values.shape != batch.shape:
        raise ValueError(
            f"`{name}` must have shape [n_atoms] = [{len(batch)}], got {list(values.shape)}"
        )
    if values.device != batch.device:
        raise ValueError(f"`{name}` must be on {batch.device}, got {values.device}")
