"""Kernels of rows of atoms as functions of atoms, of structures of any size."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from les.sums.method import FirstAndSecond, Part
from les.sums.packing import (
    assign_slots,
    first_rows,
    out_of_rows,
    pack_charges,
    pack_positions,
)


class PackedKernels(FirstAndSecond):
    """Kernels of arguments in rows, for the arguments that ``System`` has.

    Args:
        kernels: functions of charges ``[n_structures, n_channels, width]``, positions
            ``[n_structures, width, 3]`` and, where there are, cells ``[n_structures, 3, 3]``.
        part: the structures. Arguments are like its charges, positions and cells.
    """

    def __init__(self, kernels: FirstAndSecond, part: Part) -> None:
        system = part.system
        self.kernels, self.width = kernels, part.width
        self.n_structures = system.counts.shape[0]
        self.owner = _lasting(system.owner)
        self.slots: Tensor | None = None
        if system.charges.shape[0] != self.n_structures * self.width:
            first_row = first_rows(system.counts, self.width)
            slots = assign_slots(system.owner, system.counts, first_row, self.width)
            self.slots = _lasting(slots)

    def plain(self, *arguments: Tensor) -> Tensor:
        return self.kernels.plain(*self._in_rows(arguments, True))

    def first(self, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        energy, *gradients = self.kernels.first(self._in_rows(arguments, True))
        return energy, *self._of_atoms(gradients)

    def second(
        self, arguments: tuple[Tensor, ...], directions: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        rows = self._in_rows(arguments, True), self._in_rows(directions, False)
        return self._of_atoms(self.kernels.second(*rows))

    def copies(self, n: int) -> PackedKernels:
        found = copy.copy(self)
        found.n_structures = n * self.n_structures
        batches = torch.arange(n)
        if self.slots is not None:
            steps = batches.to(self.slots) * (self.n_structures * self.width)
            found.slots = _lasting((steps.unsqueeze(1) + self.slots).flatten())
        steps = batches.to(self.owner) * self.n_structures
        found.owner = _lasting((steps.unsqueeze(1) + self.owner).flatten())
        return found

    def factors(self, values: Tensor, place: int) -> Tensor:
        if place > 1 or self.n_structures == 1:
            return values
        return values.index_select(0, self.owner)

    def totals(self, values: Tensor, place: int) -> Tensor:
        values = values.flatten(1).sum(dim=1)
        if place > 1:
            return values
        return values.new_zeros(self.n_structures).index_add(0, self.owner, values)

    def _in_rows(self, arguments: tuple[Tensor, ...], are_places: bool) -> tuple[Tensor, ...]:
        """Rows of the first two arguments; the slots left over are apart if they ``are_places``."""
        charges, positions, *cell = arguments
        shape = self.n_structures, self.width
        if self.slots is None:
            charges, positions = charges.view(*shape, -1), positions.view(*shape, 3)
        else:
            pack = pack_positions if are_places else pack_charges
            charges = pack_charges(charges, self.slots, *shape)
            positions = pack(positions, self.slots, *shape)
        return charges.transpose(1, 2), positions, *cell

    def _of_atoms(self, gradients: tuple[Tensor, ...] | list[Tensor]) -> tuple[Tensor, ...]:
        to_charges, to_positions, *to_cell = gradients
        positions = to_positions.flatten(0, 1)
        if self.slots is not None:
            positions = positions.index_select(0, self.slots)
        return out_of_rows(to_charges, self.slots), positions, *to_cell


def _lasting(indices: Tensor) -> Tensor:
    """Indices that outlast the transform of ``torch.func`` that they are made in."""
    while torch._C._functorch.is_functorch_wrapped_tensor(indices):
        indices = torch._C._functorch.get_unwrapped(indices)
    return indices
