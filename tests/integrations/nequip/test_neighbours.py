"""Neighbours that are kept in the place of upstream's search."""

from __future__ import annotations

import numpy as np
import pytest
from nequip.data import AtomicDataDict, from_ase
from nequip.data.transforms import (
    ChemicalSpeciesToAtomTypeMapper,
    NeighborListTransform,
    SortedNeighborListTransform,
)

from les.neighbours import VerletList
from les.testing.structures import structures
from les_nequip.neighbours import KeptNeighbours, keeping

#: Of pairs of types, shorter than the cutoff of the model [A].
SHORTER = {"H": 2.0, "O": {"H": 3.0, "O": 4.0}}


@pytest.mark.parametrize("cutoffs", [None, SHORTER])
@pytest.mark.parametrize("name", ["open", "triclinic"])
def test_the_same_edges(name, cutoffs):
    """As upstream finds them, also with a cutoff for each pair of types."""
    types = ChemicalSpeciesToAtomTypeMapper(
        ["H", "O"], chemical_species_to_atom_type_map={"H": "H", "O": "O"}
    )
    upstream = NeighborListTransform(4.0, cutoffs, ["H", "O"])
    (kept,) = keeping([upstream], VerletList())
    assert isinstance(kept, KeptNeighbours)
    atoms = structures()[name]
    for _ in range(4):
        atoms.positions += np.linspace(-0.03, 0.03, 18).reshape(6, 3)
        found, expected = (edges(each(types(from_ase(atoms)))) for each in (kept, upstream))
        assert found == expected
        assert len(found) > 10
    assert kept.neighbours.n_searches == 2


def edges(data):
    index = data[AtomicDataDict.EDGE_INDEX_KEY].T.tolist()
    shifts = data.get(AtomicDataDict.EDGE_CELL_SHIFT_KEY)
    images = [[0.0] * 3] * len(index) if shifts is None else shifts.tolist()
    return sorted((*pair, *image) for pair, image in zip(index, images, strict=True))


def test_other_searches_are_left_alone():
    other = [SortedNeighborListTransform(4.0), NeighborListTransform(4.0, backend="alchemiops")]
    assert keeping(other, VerletList()) == other


def test_transforms_of_another_calculator():
    """Each calculator keeps neighbours of its own."""
    first, second = VerletList(), VerletList(0.0)
    taken_over = keeping(keeping([NeighborListTransform(4.0)], first), second)
    assert [each.neighbours for each in taken_over] == [second]
