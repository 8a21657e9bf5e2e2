"""Crystal graphs that know along which axes they are periodic."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch
from ase import Atoms
from chgnet.graph import CrystalGraph, CrystalGraphConverter
from pymatgen.core import Molecule, Structure
from torch import Tensor

from les.data.fragments import Fragments, fragments
from les.data.spin import spin_multiplicity
from les.data.total_charge import total_charge
from les.fragments import joined_fragments
from les.neighbours import Places, VerletList
from les_chgnet.bonds import Pairs, angles, undirected
from les_chgnet.structures import to_structure

logger = logging.getLogger("les")


class BoundaryGraph(CrystalGraph):
    """``CrystalGraph`` with ``pbc`` ``[3]`` and charge state, which upstream's graphs lose.

    Args:
        pbc: along which axes the structure is periodic ``[3]``, boolean.
        total_charge: of the structure [e], where its converter has asked for it.
        spin: its multiplicity, likewise.
        fragments: those that keep their total charges, likewise.
        fields: as for ``CrystalGraph``.
    """

    def __init__(
        self,
        *,
        pbc: Tensor,
        total_charge: float | None = None,
        spin: float | None = None,
        fragments: Fragments | None = None,
        **fields: Any,
    ) -> None:
        super().__init__(**fields)
        self.pbc = pbc
        self.total_charge, self.spin, self.fragments = total_charge, spin, fragments

    def to(self, device: str = "cpu") -> BoundaryGraph:
        """This graph on another device."""
        fields = super().to(device).to_dict()
        return type(self)(**{**fields, "pbc": self.pbc.to(device), **self._state()})

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "pbc": self.pbc, **self._state()}

    def _state(self) -> dict[str, Any]:
        return {
            "total_charge": self.total_charge,
            "spin": self.spin,
            "fragments": getattr(self, "fragments", None),  # of graphs of earlier releases
        }


class GraphConverter(CrystalGraphConverter):
    """``CrystalGraphConverter`` for crystals and molecules, from ASE or pymatgen.

    Casting it to another precision, as a part of a model, casts the coordinates of its graphs.
    Isolated atoms are allowed, because they interact with LES. Bonds and angles are found with
    array operations for every ``algorithm`` of upstream, all of which give the same graphs.

    Args:
        on_isolated_atoms: ``"ignore"``, ``"warn"`` or ``"error"``.
        settings: further arguments of ``CrystalGraphConverter``.

    Attributes:
        uses_total_charge: whether graphs have the total charge of their structure,
            ``les.data.total_charge`` of ``ase.Atoms`` or ``charge`` of pymatgen's structures, and
            the fragments of ``ase.Atoms``.
        embedded: states that the model embeds, as ``les.LESConfig.embedded``; ``ase.Atoms`` must
            state them, and so must pymatgen's molecules, the only ones there with a spin.
        neighbours: pairs that are kept from structure to structure, ``None`` to search for them.
    """

    precision: Tensor
    uses_total_charge = False  # also of what earlier releases pickled
    embedded: Collection[str] = ()
    neighbours: VerletList | None = None

    def __init__(self, *, on_isolated_atoms: str = "ignore", **settings: Any) -> None:
        super().__init__(on_isolated_atoms=on_isolated_atoms, **settings)
        self.register_buffer("precision", torch.empty(0), persistent=False)

    @classmethod
    def like(cls, converter: CrystalGraphConverter) -> GraphConverter:
        """One with the cutoffs and the algorithm of ``converter``."""
        own = cls(**converter.as_dict())
        own.uses_total_charge = getattr(converter, "uses_total_charge", False)
        own.embedded = getattr(converter, "embedded", ())
        return own

    def forward(
        self,
        structure: Structure | Molecule | Atoms,
        graph_id: Any = None,
        mp_id: Any = None,
    ) -> BoundaryGraph:
        """The graph of one structure.

        Raises:
            ValueError: for no atoms; for a bad total charge or spin, or a missing one that the
                model embeds; as ``les.data.fragments``; for isolated atoms if ``on_isolated_atoms``
                is ``"error"``; and for a structure so large that the search for neighbours,
                whose memory grows with the volume, runs out of memory.
        """
        needed = "total_charge" in self.embedded
        charge = _total_charge(structure, needed) if self.uses_total_charge else None
        spin = _spin(structure) if "spin" in self.embedded else None
        parts = None
        if charge is not None and isinstance(structure, Atoms):
            parts = fragments(structure, charge)
        structure = to_structure(structure)
        try:
            pairs = self._pairs(structure)
        except MemoryError as error:
            extent = np.ptp(structure.cart_coords, axis=0).round(1).tolist()
            raise ValueError(
                f"the structure extends over {extent} A, for which CHGNet's search for neighbours "
                f"has not enough memory ({error})"
            ) from error
        self._answer_isolated_atoms(len(structure), pairs, graph_id)
        try:
            bond, first = undirected(pairs, len(structure))
        except ValueError as error:
            raise ValueError(f"structure {graph_id=}: {error}") from error
        dtype = self.precision.dtype
        fields: dict[str, Any] = {
            "atomic_number": _indices(structure.atomic_numbers),
            "atom_frac_coord": torch.tensor(structure.frac_coords, dtype=dtype, requires_grad=True),
            "lattice": torch.tensor(structure.lattice.matrix, dtype=dtype, requires_grad=True),
            "neighbor_image": torch.tensor(pairs.images, dtype=dtype),
            "atom_graph": _indices(np.stack((pairs.centre, pairs.neighbour), axis=1)),
            "directed2undirected": _indices(bond),
            "undirected2directed": _indices(first),
            "bond_graph": _indices(
                angles(pairs, len(structure), bond, first, self.bond_graph_cutoff)
            ),
            "atom_graph_cutoff": self.atom_graph_cutoff,
            "bond_graph_cutoff": self.bond_graph_cutoff,
            "composition": structure.composition.formula,
            "graph_id": graph_id,
            "mp_id": mp_id,
        }
        pbc = torch.tensor(structure.lattice.pbc)
        return BoundaryGraph(pbc=pbc, total_charge=charge, spin=spin, fragments=parts, **fields)

    def _pairs(self, structure: Structure) -> Pairs:
        """All pairs of a structure, of bonds and of the shorter ones that have angles."""
        cutoff = self.atom_graph_cutoff
        if self.neighbours is None:
            centre, neighbour, images, distances = structure.get_neighbor_list(cutoff)
            return Pairs(centre, neighbour, images.astype(np.int64), distances)
        lattice = structure.lattice
        places = Places(structure.cart_coords, lattice.matrix, np.array(lattice.pbc))

        def search(radius: float) -> Any:
            return structure.get_neighbor_list(radius)[:3]

        return Pairs(*self.neighbours.pairs(places, cutoff, search))

    def _answer_isolated_atoms(self, n_atoms: int, pairs: Pairs, graph_id: Any) -> None:
        """Say that there are atoms without neighbours, as ``on_isolated_atoms`` asks for it."""
        n_isolated = n_atoms - len(np.unique(pairs.centre))
        if n_isolated == 0 or self.on_isolated_atoms == "ignore":
            return
        message = (
            f"structure {graph_id=} has {n_isolated} isolated atom(s), without a neighbour within "
            f"{self.atom_graph_cutoff} A"
        )
        if self.on_isolated_atoms == "error":
            raise ValueError(message)
        logger.warning(message)


def _indices(values: Any) -> Tensor:
    """Indices as upstream's graphs have them."""
    return torch.as_tensor(np.asarray(values), dtype=torch.int32)


def _total_charge(structure: Structure | Molecule | Atoms, needed: bool) -> float:
    """Total charge of a structure [e]."""
    if isinstance(structure, Atoms):
        return total_charge(structure, needed=needed)
    return float(structure.charge)


def _spin(structure: Structure | Molecule | Atoms) -> float:
    """Spin multiplicity of a structure."""
    if isinstance(structure, Atoms):
        return spin_multiplicity(structure)
    if isinstance(structure, Molecule):
        return float(structure.spin_multiplicity)
    raise ValueError(
        "a crystal of pymatgen has no spin multiplicity, which the model needs; give ase.Atoms "
        "with `spin` in their info"
    )


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
    charges = [getattr(graph, "total_charge", None) or 0.0 for graph in graphs]
    return torch.tensor(charges, dtype=torch.float64)


def fragments_of(graphs: Sequence[CrystalGraph]) -> tuple[Tensor | None, Tensor | None]:
    """Labels and charges of the fragments of all atoms ``[n_atoms]``, where a graph tells any."""
    return joined_fragments(
        [getattr(graph, "fragments", None) for graph in graphs],
        [len(graph.atomic_number) for graph in graphs],
        total_charges(graphs).tolist(),
    )


def spins(graphs: Sequence[CrystalGraph]) -> Tensor:
    """Spin multiplicities of the structures ``[n_structures]``; 1 where a graph does not tell."""
    found = [1.0 if (spin := getattr(graph, "spin", None)) is None else spin for graph in graphs]
    return torch.tensor(found, dtype=torch.float64)


def require_states(graphs: Sequence[CrystalGraph], embedded: Collection[str]) -> None:
    """Raise ``ValueError`` for a graph that does not tell what a model embeds.

    That is one of upstream's own, or one that was made for another model.
    """
    for graph in graphs:
        missing = [name for name in embedded if getattr(graph, name, None) is None]
        if missing:
            raise ValueError(
                f"the graph of {graph.composition} does not tell the {' and the '.join(missing)}, "
                "which the model needs; make graphs with the model's own `graph_converter`"
            )


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
