"""Crystal graphs that know along which axes they are periodic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from ase import Atoms
from chgnet.graph import CrystalGraph, CrystalGraphConverter
from pymatgen.core import Molecule, Structure
from torch import Tensor

from les.data.total_charge import total_charge
from les_chgnet.structures import to_structure


class BoundaryGraph(CrystalGraph):
    """``CrystalGraph`` with ``pbc`` ``[3]`` and a total charge, which upstream's own graphs lose.

    Args:
        pbc: along which axes the structure is periodic ``[3]``, boolean.
        total_charge: of the structure [e], of a model that is given it.
        fields: as for ``CrystalGraph``.
    """

    def __init__(self, *, pbc: Tensor, total_charge: float = 0.0, **fields: Any) -> None:
        super().__init__(**fields)
        self.pbc = pbc
        self.total_charge = total_charge

    def to(self, device: str = "cpu") -> BoundaryGraph:
        """This graph on another device."""
        fields = super().to(device).to_dict()
        return type(self)(pbc=self.pbc.to(device), total_charge=self.total_charge, **fields)

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "pbc": self.pbc, "total_charge": self.total_charge}


class GraphConverter(CrystalGraphConverter):
    """``CrystalGraphConverter`` for crystals and molecules, from ASE or pymatgen.

    Casting it, as a part of a model, casts the coordinates of the graphs that it makes.
    Isolated atoms are ordinary: with LES they interact.

    Args:
        on_isolated_atoms: ``"ignore"``, ``"warn"`` or ``"error"``.
        settings: further arguments of ``CrystalGraphConverter``.

    Attributes:
        uses_total_charge: whether graphs have the total charge of their structure:
            ``les.data.total_charge`` of ``ase.Atoms``, ``charge`` of pymatgen's structures.
    """

    precision: Tensor
    uses_total_charge = False  # also of what earlier releases pickled

    def __init__(self, *, on_isolated_atoms: str = "ignore", **settings: Any) -> None:
        super().__init__(on_isolated_atoms=on_isolated_atoms, **settings)
        self.register_buffer("precision", torch.empty(0), persistent=False)

    @classmethod
    def like(cls, converter: CrystalGraphConverter) -> GraphConverter:
        """One with the cutoffs and the algorithm of ``converter``."""
        own = cls(**converter.as_dict())
        own.uses_total_charge = getattr(converter, "uses_total_charge", False)
        return own

    def forward(
        self,
        structure: Structure | Molecule | Atoms,
        graph_id: Any = None,
        mp_id: Any = None,
    ) -> BoundaryGraph:
        """The graph of one structure.

        Raises:
            ValueError: for no atoms, for what is no total charge, for isolated atoms if that is
                what ``on_isolated_atoms`` says, and for a structure so large that the search for
                neighbours, whose memory grows with the volume, runs out of it.
        """
        charge = _total_charge(structure) if self.uses_total_charge else 0.0
        structure = to_structure(structure)
        try:
            graph = super().forward(structure, graph_id=graph_id, mp_id=mp_id)
        except MemoryError as error:
            extent = np.ptp(structure.cart_coords, axis=0).round(1).tolist()
            raise ValueError(
                f"the structure extends over {extent} A, for which CHGNet's search for neighbours "
                f"has not enough memory ({error})"
            ) from error
        fields = graph.to_dict()
        dtype = self.precision.dtype
        if dtype != graph.lattice.dtype:  # upstream has rounded them to float32
            frac, matrix = structure.frac_coords, structure.lattice.matrix
            fields["atom_frac_coord"] = torch.tensor(frac, dtype=dtype, requires_grad=True)
            fields["lattice"] = torch.tensor(matrix, dtype=dtype, requires_grad=True)
            fields["neighbor_image"] = graph.neighbor_image.to(dtype)
        pbc = torch.tensor(structure.lattice.pbc)
        return BoundaryGraph(pbc=pbc, total_charge=charge, **fields)


def _total_charge(structure: Structure | Molecule | Atoms) -> float:
    """Total charge of a structure [e]."""
    return total_charge(structure) if isinstance(structure, Atoms) else float(structure.charge)


def periodic_axes(graph: CrystalGraph) -> Tensor:
    """Along which axes ``graph`` is periodic ``[3]``, boolean.

    A graph of upstream's own converter does not tell; it is that of a crystal if bonds leave
    its cell.

    Raises:
        ValueError: if that cannot be known.
    """
    if isinstance(graph, BoundaryGraph):
        return graph.pbc
    if not bool(graph.neighbor_image.any()):
        raise ValueError(
            f"the graph of {graph.composition} has no bond that leaves its cell, so it may be a "
            "crystal or a molecule; make graphs with the model's own `graph_converter`, which "
            "keeps pbc"
        )
    return torch.ones(3, dtype=torch.bool, device=graph.lattice.device)


def total_charges(graphs: Sequence[CrystalGraph]) -> Tensor:
    """Total charges of the structures ``[n_structures]`` [e]; 0 where a graph does not tell."""
    charges = [getattr(graph, "total_charge", 0.0) for graph in graphs]
    return torch.tensor(charges, dtype=torch.float64)


def with_common_positions(
    graphs: Sequence[CrystalGraph],
) -> tuple[list[CrystalGraph], Tensor]:
    """Graphs whose coordinates all come from one tensor of positions ``[n_atoms, 3]``.

    Born effective charges by the published formula are derivatives with respect to it.
    """
    cells = [graph.lattice.detach() for graph in graphs]
    positions = [graph.atom_frac_coord.detach() @ cell for graph, cell in zip(graphs, cells)]
    leaf = torch.cat(positions).requires_grad_()
    moved = []
    for graph, cell, part in zip(graphs, cells, leaf.split([len(x) for x in positions])):
        fields = {**graph.to_dict(), "atom_frac_coord": torch.linalg.solve(cell, part, left=False)}
        moved.append(type(graph)(**fields))
    return moved, leaf
