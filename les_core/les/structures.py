"""A batch of structures as models pass it on, and what its charges sum to."""

# No postponed annotations: TorchScript takes the types of a NamedTuple from them.

from typing import NamedTuple

import torch
from torch import Tensor

from les.sums.checks import (
    as_indices,
    check_batch,
    check_cell,
    check_positions,
    is_compiling,
    open_cells,
)


class Structures(NamedTuple):
    """Structures, one after another.

    Attributes:
        positions: ``[n_atoms, 3]`` [A].
        cell: ``[n_structures, 3, 3]`` [A]; zero of open structures.
        batch: structure of each atom ``[n_atoms]``, ascending.
        pbc: ``[n_structures, 3]``, boolean; ``None`` where the volume of the cell decides.
    """

    positions: Tensor
    cell: Tensor
    batch: Tensor
    pbc: Tensor | None

    def in_order(self, order: Tensor) -> "Structures":
        """The same with atoms in the order of the indices ``order`` ``[n_atoms]``."""
        return self._replace(positions=self.positions[order], batch=self.batch[order])


class ChargeSums(NamedTuple):
    """What the charges of structures sum to, and those of their fragments.

    Attributes:
        total_charge: that of each structure ``[n_structures]`` [e]; zero without it.
        fragment: label of the fragment of each atom ``[n_atoms]``, whole numbers; all of a
            structure is one fragment without it.
        fragment_charge: total charge of the fragment of each atom ``[n_atoms]`` [e]; zero without
            it.
    """

    total_charge: Tensor | None = None
    fragment: Tensor | None = None
    fragment_charge: Tensor | None = None

    def in_order(self, order: Tensor) -> "ChargeSums":
        """The same with atoms in the order of the indices ``order`` ``[n_atoms]``."""
        fragment, charge = self.fragment, self.fragment_charge
        return self._replace(
            fragment=None if fragment is None else fragment[order],
            fragment_charge=None if charge is None else charge[order],
        )


#: Of neutral structures without fragments.
NO_SUMS = ChargeSums()


def whole(
    positions: Tensor, cell: Tensor | None, batch: Tensor | None, pbc: Tensor | None
) -> Structures:
    """The structures of a call, with nothing left out and all shapes checked.

    Arguments are as for ``les.Les``.

    Raises:
        ValueError, TypeError: as ``les.Ewald``, but not for values that are not finite.
    """
    check_positions(positions, values=False)
    if cell is None:
        cell = open_cells(positions, batch, pbc)
    check_cell(cell, positions, values=False)
    batch = as_indices(batch)
    if not is_compiling():
        check_batch(batch, positions.shape[0], cell.shape[0], positions.device)
    if batch is None:
        batch = torch.zeros([positions.shape[0]], dtype=torch.long, device=positions.device)
    return Structures(positions, cell, batch, pbc)
