"""How sums over atoms become whole where the atoms are divided among ranks.

All that ranks have to share for a sum over k-points are its components, of which each has those of
its own atoms: a sum of tensors over the ranks. What adds them is a :class:`Reduction`.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor


class Reduction(Protocol):
    """Ranks that add up what each of them has. No derivatives go through it."""

    @property
    def rank(self) -> int:
        """Number of this rank, from 0."""

    @property
    def size(self) -> int:
        """Number of ranks."""

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all ranks of ``values``, which have one shape; all of them must call it.

        The result is the same, to the last bit, on all ranks.
        """


class OneProcess:
    """One process that has all atoms."""

    rank, size = 0, 1

    def sum(self, values: Tensor) -> Tensor:
        return values.detach()


class TorchReduction:
    """The processes of ``torch.distributed``, or a group of them.

    Args:
        group: the group; all processes without it.
    """

    def __init__(self, group: Any = None) -> None:
        self.group = group
        self.rank, self.size = (
            torch.distributed.get_rank(group),
            torch.distributed.get_world_size(group),
        )

    def sum(self, values: Tensor) -> Tensor:
        total = values.detach().clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total, group=self.group)
        return total


class MPIReduction:
    """The processes of a communicator of mpi4py. Values go through the memory of the host.

    Args:
        communicator: an ``mpi4py.MPI.Intracomm``.
    """

    def __init__(self, communicator: Any) -> None:
        self.communicator = communicator
        self.rank, self.size = communicator.Get_rank(), communicator.Get_size()

    def sum(self, values: Tensor) -> Tensor:
        own = values.detach().cpu().contiguous()
        total = torch.empty_like(own)
        # Allreduce need not give all ranks the same bits.
        self.communicator.Reduce(_numbers(own), _numbers(total))
        self.communicator.Bcast(_numbers(total))
        return total.to(values.device)


def _numbers(values: Tensor) -> Any:
    """The memory of ``values``, complex ones as pairs of real numbers."""
    return (torch.view_as_real(values) if values.is_complex() else values).numpy()


def gathered(values: Tensor, reduction: Reduction) -> Tensor:
    """The ``values`` of all ranks ``[n_ranks, ...]``, which have one shape."""
    places = values.new_zeros([reduction.size, *values.shape])
    places[reduction.rank] = values.detach()
    return reduction.sum(places)
