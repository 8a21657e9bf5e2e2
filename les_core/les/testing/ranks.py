"""Threads in the place of ranks, and what they would see of a structure."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from les.engines.born import born_charges, born_shares
from les.engines.cluster import find_graph
from les.engines.potential import DividedPotential
from les.response.born import BORN_CHARGES
from les.sums.reduction import Reduction

if TYPE_CHECKING:
    from ase import Atoms

Result = TypeVar("Result")


class Threads:
    """``les.sums.reduction.Reduction`` over threads of this process."""

    def __init__(
        self, rank: int, size: int, barrier: threading.Barrier, given: list[Tensor]
    ) -> None:
        self.rank, self.size, self.barrier, self.given = rank, size, barrier, given

    def sum(self, values: Tensor) -> Tensor:
        self.given[self.rank] = values.detach()
        self.barrier.wait()
        total = torch.stack(self.given).sum(dim=0)
        self.barrier.wait()
        return total


def on_ranks(
    size: int, function: Callable[[Reduction], Result], patience: float = 120.0
) -> list[Result]:
    """What ``function`` returns on each of ``size`` ranks, which are threads.

    Raises:
        BaseException: what it raised on the first rank on which it did.
        TimeoutError: if ranks have waited for others to add up for ``patience`` [s].
    """
    barrier, given = threading.Barrier(size, timeout=patience), [torch.empty(0)] * size
    results: dict[int, Result] = {}
    errors: dict[int, BaseException] = {}

    def run(rank: int) -> None:
        try:
            results[rank] = function(Threads(rank, size, barrier, given))
        except BaseException as error:
            if not isinstance(error, threading.BrokenBarrierError):
                errors[rank] = error
            barrier.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[min(errors)]
    if len(results) < size:
        raise TimeoutError(f"ranks have waited {patience:g} s for one another")
    return [results[rank] for rank in range(size)]


def divided_results(
    calculator: Any, atoms: Atoms, size: int, total_charge: float = 0.0, born: bool = False
) -> dict[str, NDArray[Any]]:
    """Results of a calculator's model for a structure that is divided among ranks.

    The first half of the cell along its first vector belongs to all ranks but the last, which has
    no atoms where there are more than two.

    Returns:
        ``energy``, ``les_energy``, ``forces``, ``virial``, and ``charges`` without a sign; with
        ``born`` also ``born_effective_charges``, of the same sign.
    """
    short_range = calculator.short_range_part()
    places = atoms.get_scaled_positions(wrap=True)[:, 0]
    owner = np.minimum((places * max(1, min(size, 2))).astype(int), size - 1)
    cell, pbc = torch.tensor(atoms.cell[:]), torch.tensor(atoms.pbc)

    def of_rank(reduction: Reduction) -> tuple[Any, ...]:
        potential = DividedPotential(short_range, reduction, total_charge)
        own = np.flatnonzero(owner == reduction.rank)
        positions, tags = _seen(atoms, own, potential.reach)
        graph = find_graph(positions, tags, len(own), short_range.cutoff, short_range.n_layers)
        cluster = graph.cluster(atoms.numbers[tags], positions, len(own), total_charge)
        whole = potential.of_all(potential.of_rank(cluster), cell, pbc)
        tensors = None
        if born:
            each = np.arange(len(tags))  # each image by itself
            graph_of_images = find_graph(
                positions, each, len(own), short_range.cutoff, short_range.n_layers
            )
            seen = graph_of_images.cluster(atoms.numbers[tags], positions, len(own), total_charge)
            nodes = torch.from_numpy(tags[graph_of_images.nodes])
            shares, plain = (
                reduction.sum(x.new_zeros([len(atoms), *x.shape[1:]]).index_add(0, nodes, x))[own]
                for x in born_shares(potential, seen)
            )
            places = torch.from_numpy(positions[: len(own)])
            tensors = born_charges(potential, shares, plain, places, whole, cell, pbc)
        return own, tags[graph.nodes], whole, tensors

    found = on_ranks(size, of_rank)
    forces = np.zeros((len(atoms), 3))
    charges = np.zeros((len(atoms), *found[0][2].charges.shape[1:]))
    tensors = np.zeros((len(atoms), 9))
    for own, nodes, whole, of_own in found:
        np.subtract.at(forces, nodes, whole.gradient.numpy())
        charges[own] = whole.charges.numpy()
        if born:
            tensors[own] = of_own.reshape(-1, 9).numpy()
    whole = found[0][2]
    return {
        **({BORN_CHARGES: tensors} if born else {}),
        "energy": np.array(whole.energy),
        "les_energy": np.array(whole.les_energy),
        "forces": forces,
        "virial": whole.virial.numpy(),
        "charges": charges,
    }


def check_divided(calculator: Any, atoms: Atoms, size: int, rtol: float = 1e-10) -> None:
    """Compare results of atoms that are divided with those of the calculator for all together."""
    found = divided_results(calculator, atoms, size, born=calculator.bec)
    copy = atoms.copy()
    copy.calc = calculator
    copy.get_forces()
    results = calculator.results
    expected = {
        "energy": results["energy"],
        "les_energy": results["les_energy"],
        "forces": results["forces"],
        "virial": -copy.get_stress(voigt=False) * copy.get_volume(),
        "charges": results.get("charges", results.get("latent_charges")),
    }
    if calculator.bec:
        expected[BORN_CHARGES] = results[BORN_CHARGES]
    assert abs(results["les_energy"]) > 1e-2
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=rtol, atol=rtol, err_msg=name)


def _seen(
    atoms: Atoms, own: NDArray[np.int64], reach: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Own atoms, and then all images of atoms within ``reach`` [A] of one, with their numbers."""
    if len(own) == 0:
        return np.zeros((0, 3)), np.zeros(0, dtype=np.int64)
    heights = 1.0 / np.linalg.norm(np.linalg.inv(atoms.cell.complete()), axis=0)
    n = np.where(atoms.pbc, np.ceil(reach / heights).astype(int) + 1, 0)
    images = np.stack(np.meshgrid(*(np.arange(-m, m + 1) for m in n), indexing="ij"), -1)
    ghosts = atoms.positions + (images.reshape(-1, 1, 3) @ atoms.cell[:])
    tags = np.tile(np.arange(len(atoms)), len(ghosts))
    ghosts = ghosts.reshape(-1, 3)
    centre = np.all(images.reshape(-1, 3) == 0, axis=1).repeat(len(atoms))
    distances = np.linalg.norm(ghosts[:, None] - atoms.positions[own], axis=2).min(axis=1)
    kept = (distances <= reach) & ~(centre & np.isin(tags, own))
    return (
        np.concatenate([atoms.positions[own], ghosts[kept]]),
        np.concatenate([own, tags[kept]]),
    )
