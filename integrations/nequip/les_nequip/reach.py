"""What a compiled model must be able to do: boundary conditions and sizes of cells.

A compiled model has a fixed k-grid and boundary condition. Unless they are configured, they
follow from the structures that the model has been evaluated on before, which usually are
those it was trained on; the record is saved with the weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from les.long_range import CaptureLimits
from les.sums.plain import BOUNDARIES
from les.sums.reciprocal.cutoff import EDGE_TOLERANCE

#: Values of the setting ``boundary``; ``auto`` goes by the data.
SETTINGS = ("auto", *BOUNDARIES)

#: A compiled model can do cells longer by this factor than those seen before.
HEADROOM = 1.1


class Reach:
    """Record of the structures seen, and what a compiled model is made for.

    Args:
        setting: the boundary conditions, or ``"auto"`` for those on record.
        max_cell: longest lattice vector, or one number per lattice vector [A], instead of what
            the record says.

    Raises:
        ValueError: if ``setting`` is none of :data:`SETTINGS`, or ``max_cell`` is not one or
            three positive numbers.
    """

    def __init__(self, setting: str, max_cell: float | Sequence[float] | None = None) -> None:
        if setting not in SETTINGS:
            raise ValueError(f"`boundary` must be one of {SETTINGS}, got {setting!r}")
        self.setting = setting
        self.max_cell: list[float] | None = None
        if max_cell is not None:
            self.set_max_cell(max_cell)
        self.periodic = False
        self.open = False
        self.slab = False
        self.longest = [0.0, 0.0, 0.0]

    def set_max_cell(self, max_cell: float | Sequence[float]) -> None:
        lengths = list(max_cell) if isinstance(max_cell, Sequence) else [max_cell] * 3
        if len(lengths) != 3 or not all(
            type(length) in (int, float) and math.isfinite(length) and length > 0
            for length in lengths
        ):
            raise ValueError(
                f"`max_cell` must be one or three positive lengths in Angstrom, got {max_cell!r}"
            )
        self.max_cell = [float(length) for length in lengths]

    def see(self, cell: Tensor, pbc: Tensor) -> None:
        """Record structures.

        Args:
            cell: cells that are summed in ``[n_structures, 3, 3]`` [A], see
                ``les.long_range.summed_cells``.
            pbc: ``[n_structures, 3]``, boolean.
        """
        n_axes = pbc.sum(dim=1)
        lengths = torch.linalg.vector_norm(cell, dim=-1) * (n_axes >= 2).unsqueeze(-1)
        kinds = torch.stack([(n_axes == n).any() for n in (3, 0, 2)])
        values: list[float] = torch.cat([kinds.to(lengths.dtype), lengths.amax(dim=0)]).tolist()
        self.periodic = self.periodic or values[0] > 0
        self.open = self.open or values[1] > 0
        self.slab = self.slab or values[2] > 0
        self.longest = [max(pair) for pair in zip(self.longest, values[3:], strict=True)]

    @property
    def lengths(self) -> list[float]:
        """Longest lattice vectors that a compiled model can do [A]."""
        return self.max_cell or [HEADROOM * length for length in self.longest]

    def boundary(self) -> str:
        """Boundary condition of a compiled model, one of ``les.sums.plain.BOUNDARIES``.

        Slabs count as periodic.

        Raises:
            ValueError: if it is not configured and no structures were seen.
        """
        if self.setting != "auto":
            return self.setting
        in_cells = self.periodic or self.slab
        if not (in_cells or self.open):
            raise ValueError(
                "LES cannot be compiled before it has seen a structure: set `boundary` to "
                "'periodic', 'open' or 'mixed', and `max_cell`"
            )
        return "mixed" if in_cells and self.open else "periodic" if in_cells else "open"

    def slabs(self, told: bool) -> bool:
        """Whether a compiled model takes slabs: those with some on record and a fitting setting.

        Args:
            told: whether its program says which axes are periodic.

        Raises:
            ValueError: for ``"auto"``, if slabs are on record and the program does not.
        """
        takes = self.slab and self.setting in ("auto", "mixed")
        if takes and not told and self.setting == "auto":
            raise ValueError(
                "LES cannot be compiled for slabs, which this model has seen, and for a program "
                "that does not pass `pbc`: compile it with --target ase_les or batch_les, or set "
                "`boundary` to 'periodic', 'open' or 'mixed' for other structures"
            )
        return takes and told

    def extent(self, dl: float) -> list[int]:
        """Extents of the k-grid of a compiled model, for the resolution ``dl`` [A].

        Raises:
            ValueError: if ``max_cell`` is not set and no structures in cells were seen.
        """
        if self.max_cell is None and not any(self.longest):
            raise ValueError(
                "LES cannot be compiled for periodic structures before it has seen one: set "
                "`max_cell` to the longest lattice vector in Angstrom"
            )
        return [math.floor(length / dl * (1.0 + EDGE_TOLERANCE)) for length in self.lengths]

    def limits(self, dl: float, told: bool, single: bool) -> CaptureLimits:
        """Which structures a compiled model is for.

        Args:
            dl: the resolution [A].
            told: whether its program says which axes are periodic.
            single: whether it takes one structure at a time.

        Raises:
            ValueError: as :meth:`boundary`, :meth:`extent` and :meth:`slabs`.
        """
        boundary = self.boundary()
        extent = self.extent(dl) if boundary != "open" else []
        return CaptureLimits(boundary, extent, self.slabs(told), single)

    def to_tensor(self) -> Tensor:
        """The record as numbers, ``[6]``; :meth:`load_tensor` reads them."""
        record = [self.periodic, self.open, *self.longest, self.slab]
        return torch.tensor(record, dtype=torch.float64)

    def load_tensor(self, state: Tensor) -> None:
        """Take over the record of :meth:`to_tensor`; of earlier releases without slabs."""
        values: list[float] = state.tolist()
        self.periodic, self.open = values[0] > 0, values[1] > 0
        self.longest, self.slab = values[2:5], any(values[5:])

    def to_dict(self) -> dict[str, Any]:
        """What a compiled model is made for, as far as it is known, for its metadata."""
        known = self.setting != "auto" or self.periodic or self.open or self.slab
        return {
            "boundary": self.boundary() if known else self.setting,
            "max_cell": self.lengths,
            "slabs": self.slabs(told=True),
        }
