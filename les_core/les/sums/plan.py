"""Which structures take which method, and who does the loops: decided once, here."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from les.sums.cpu.engine import CpuEngine
from les.sums.cpu.library import library
from les.sums.crossover import WORTH_A_MESH, crossover
from les.sums.direct import direct_kernels, direct_sum
from les.sums.engine import TorchEngine
from les.sums.mesh import mesh_sum
from les.sums.method import Engine, FirstAndSecond, Method, Part, Settings, Sums
from les.sums.open_mesh import is_compact, open_mesh_sum
from les.sums.pairs import open_sum, pair_kernels
from les.sums.reciprocal.slab import slab_cells
from les.sums.survey import Facts, survey
from les.sums.system import Given, System, select

DIRECT, MESH = Method(True, direct_sum, direct_kernels), Method(True, mesh_sum)
PAIRS, OPEN_MESH = Method(False, open_sum, pair_kernels), Method(False, open_mesh_sum)

#: Pairs of slots per pair of atoms above which structures are grouped by size.
MAXIMUM_WASTE = 4.0

#: More atoms than any structure has.
NEVER = 1 << 62


class Share(NamedTuple):
    """Structures that take one method."""

    method: Method
    part: Part
    #: Which structures and which atoms of the batch they are; ``None`` for all of them.
    structures: Tensor | None = None
    atoms: Tensor | None = None


class Plan(NamedTuple):
    """How a batch is summed."""

    settings: Settings
    engine: Engine
    system: System
    shares: list[Share]


def engine_for(device: torch.device, dtype: torch.dtype) -> Engine:
    """Compiled kernels for such tensors where there are some, otherwise operations of torch."""
    compiled = library(device, dtype)
    return TorchEngine() if compiled is None else CpuEngine(compiled)


def crossovers(settings: Settings, compiled: bool, cuda: bool) -> tuple[int, int]:
    """Numbers of atoms from which on periodic and open structures are summed on a mesh.

    ``compiled`` says whether there are kernels for the sum over waves and over pairs.

    They depend on nothing that changes in a simulation, so that the method does not, but
    that of open structures from which an atom leaves.
    """
    if settings.method == "direct":
        return NEVER, NEVER
    least = crossover(settings.resolution, cuda, compiled)
    return 0 if settings.method == "mesh" else least, WORTH_A_MESH[compiled][0]


def make_plan(given: Given, settings: Settings, n_sources: int = 1) -> Plan:
    """Check the arguments of ``les.Ewald`` and decide how they are summed.

    Args:
        given: the arguments; with several sources their charges are
            ``sources.Moments.as_sources``.
        settings: of the sum.
        n_sources: of an atom and a channel.

    Raises:
        ValueError, TypeError: as ``les.Ewald``.
    """
    charges, positions, cell, batch, pbc = given
    engine = engine_for(positions.device, positions.dtype)
    facts = survey(given, settings.dl, engine.look)
    if batch is None:
        batch = torch.zeros(positions.shape[0], dtype=torch.long, device=positions.device)
    half_height: Tensor | None = None
    extent: list[int] | None = facts.extent
    if pbc is not None and facts.n_slabs > 0:
        cell, half_height, positions = slab_cells(cell, pbc, positions, batch, settings.sigma)
        extent = None
    channels = charges if charges.dim() == 2 else charges.unsqueeze(-1)
    system = System(channels, positions, cell, batch, facts.counts, half_height, n_sources)

    compiled = engine.compiled
    least = crossovers(settings, compiled, positions.is_cuda)
    large_open = facts.largest_open >= least[1]
    method = DIRECT if facts.n_periodic > 0 else PAIRS
    if facts.n_periodic > 0 and facts.largest_periodic >= least[0]:
        method = MESH
    if _is_alike(facts, method) and not large_open:
        width = max(facts.largest_open, facts.largest_periodic)
        return Plan(settings, engine, system, [Share(method, Part(system, width, extent))])
    kinds = _kinds(system, facts, least[0])
    if large_open:
        compact = is_compact(system, settings, WORTH_A_MESH[compiled][1])
        kinds = kinds.masked_fill(~facts.periodic & (facts.counts >= least[1]) & compact, -2)
    return Plan(settings, engine, system, _shares(kinds, system))


def evaluate(plan: Plan, compute_potential: bool) -> Sums:
    """Energies ``[n_structures]`` [eV] and, on request, potentials ``[n_atoms, n_channels]``."""
    if len(plan.shares) == 1 and plan.shares[0].structures is None:
        return _evaluate(plan, plan.shares[0], compute_potential)
    energy = plan.system.charges.new_zeros(plan.system.counts.shape[0])
    potential = torch.zeros_like(plan.system.charges)
    for share in plan.shares:
        assert share.structures is not None and share.atoms is not None
        own, phi = _evaluate(plan, share, compute_potential)
        energy = energy.index_add(0, share.structures, own)
        if phi is not None:
            potential = potential.index_add(0, share.atoms, phi)
    return energy, potential if compute_potential else None


def with_charges(plan: Plan, charges: Tensor) -> Plan:
    """The same structures with other charges or sources ``[n_atoms, n_columns]``."""
    shares = []
    for share in plan.shares:
        own = charges if share.atoms is None else charges.index_select(0, share.atoms)
        system = share.part.system._replace(charges=own)
        shares.append(share._replace(part=share.part._replace(system=system)))
    return plan._replace(system=plan.system._replace(charges=charges), shares=shares)


def kernels_of_batch(plan: Plan, of_cell: bool) -> FirstAndSecond | None:
    """Kernels that sum the whole batch, if there are some.

    They are functions of its charges, positions and, if structures are periodic, cells.

    Args:
        plan: of the batch.
        of_cell: whether derivatives with respect to cells are needed.
    """
    share = plan.shares[0]
    if len(plan.shares) > 1 or share.structures is not None or not len(plan.system.charges):
        return None
    if share.method.kernels is None:
        return None
    return share.method.kernels(share.part, plan.settings, plan.engine, of_cell)


def _evaluate(plan: Plan, share: Share, compute_potential: bool) -> Sums:
    charges = share.part.system.charges
    if charges.shape[0] == 0:
        nothing = torch.zeros_like(charges) if compute_potential else None
        return charges.new_zeros(share.part.system.counts.shape[0]), nothing
    return share.method.evaluate(share.part, plan.settings, plan.engine, compute_potential)


def _is_alike(facts: Facts, method: Method) -> bool:
    """Whether all structures can be summed at once, without much work for nothing."""
    n_structures = facts.counts.shape[0]
    if facts.n_periodic not in (0, n_structures):
        return False
    width = max(facts.largest_open, facts.largest_periodic)
    wasteful = width * width * n_structures > MAXIMUM_WASTE * facts.squares
    return n_structures == 1 or (method is not MESH and not wasteful)


def _kinds(system: System, facts: Facts, from_periodic: int) -> Tensor:
    """Structures with the same number ``[n_structures]`` are summed together.

    Sizes within a factor of two are; odd numbers are periodic structures, and -1 those on a mesh.
    """
    sizes = torch.ceil(torch.log2(system.counts.clamp(min=1).to(torch.float32)))
    kinds = 2 * sizes.to(torch.long) + facts.periodic.to(torch.long)
    return kinds.masked_fill(facts.periodic & (system.counts >= from_periodic), -1)


def _shares(kinds: Tensor, system: System) -> list[Share]:
    shares = []
    different: list[int] = torch.unique(kinds).tolist()
    for kind in different:
        some, structures, atoms = select(system, kinds == kind)
        on_mesh = {-1: MESH, -2: OPEN_MESH}.get(kind)
        method = on_mesh or (DIRECT if kind % 2 == 1 else PAIRS)
        shares.append(Share(method, Part(some, int(some.counts.max())), structures, atoms))
    return shares
