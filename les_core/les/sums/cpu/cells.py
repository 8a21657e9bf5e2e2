r"""The periodic sum over k-points of charges in cells, and its derivatives, by compiled kernels.

In between are coordinates and the Green's function, which ``les.sums.cpu.waves`` takes. So few
operations of torch are left that small structures take little more time than the sums over their
atoms.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from les.sums.cpu.library import call
from les.sums.cpu.threads import in_parallel
from les.sums.cpu.waves import WaveSums
from les.sums.function import energy_and_gradients
from les.sums.reciprocal.cutoff import GreensFunction


class _Task(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("n_rows", "n_atoms")),
        ("extent", ctypes.c_int64 * 3),
        ("rows", ctypes.c_int64 * 2),
        *((name, ctypes.c_double) for name in GreensFunction._fields),
    )


def cell_sum(
    compiled: ctypes.CDLL,
    charges: Tensor,
    positions: Tensor,
    cell: Tensor,
    extent: tuple[int, int, int],
    greens: GreensFunction,
    plain: Callable[..., Tensor],
) -> tuple[Tensor, Tensor]:
    """Sums as of ``direct.reciprocal_sum``, and their derivatives with respect to charges.

    Args:
        compiled: as of ``library``.
        charges: ``[n_structures, n_channels, n_atoms]``.
        positions: ``[n_structures, n_atoms, 3]`` [A].
        cell: ``[n_structures, 3, 3]`` [A], rows are lattice vectors.
        extent: largest number of a wave along each axis.
        greens: the Green's function.
        plain: sums of these three by operations of torch, for derivatives beyond the second.

    Returns:
        ``[n_structures]``, and like ``charges``.
    """
    # In torch.func and in forward mode cells may not tell that they are differentiated.
    forward = torch.autograd.forward_ad._current_level >= 0
    of_cell = cell.requires_grad or forward or torch._C._are_functorch_transforms_active()
    kernels = _CellKernels(compiled, extent, greens, plain, of_cell)
    energy, potential, *_ = energy_and_gradients(kernels, charges, positions, cell)
    return energy, potential


class _CellKernels:
    """``les.sums.function.EnergyKernels`` of charges, positions and cells.

    Without ``of_cell``, derivatives with respect to cells are zero.
    """

    def __init__(
        self,
        compiled: ctypes.CDLL,
        extent: tuple[int, int, int],
        greens: GreensFunction,
        plain: Callable[..., Tensor],
        of_cell: bool,
    ) -> None:
        self.compiled, self.extent, self.greens, self.plain = compiled, extent, greens, plain
        self.sums, self.of_cell = WaveSums(compiled, extent), of_cell
        self.n_points = 4 * (extent[0] + 1) * (extent[1] + 1) * (extent[2] + 1)

    def first(self, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        q, r, a = (value.contiguous() for value in arguments)
        s, k = torch.empty_like(r), r.new_empty(r.shape[0], self.n_points)
        self._run(self.compiled.les_cells_enter, r, [r, a, None, None, s, k, None, None])
        energy, to_q, to_s = q.new_empty(q.shape[0]), torch.zeros_like(q), torch.zeros_like(s)
        to_k = torch.zeros_like(k) if self.of_cell else None
        self.sums.first([q, s, k], [energy, to_q, to_s, to_k])
        to_r, to_a = torch.empty_like(r), torch.zeros_like(a)
        arrays = [a, None, r, None, to_s, None, to_k, None, to_r, to_a if self.of_cell else None]
        self._run(self.compiled.les_cells_leave, r, arrays)
        return energy, to_q, to_r, to_a

    def second(
        self, arguments: tuple[Tensor, ...], directions: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        q, r, a = (value.contiguous() for value in arguments)
        vq, vr, va = (value.contiguous() for value in directions)
        along = va if self.of_cell else None
        s, k = torch.empty_like(r), r.new_empty(r.shape[0], self.n_points)
        vs, vk = torch.empty_like(s), torch.empty_like(k)
        self._run(self.compiled.les_cells_enter, r, [r, a, vr, along, s, k, vs, vk])
        to_q, to_s, first_s = torch.zeros_like(q), torch.zeros_like(s), torch.zeros_like(s)
        to_k, first_k = (torch.zeros_like(k) if self.of_cell else None for _ in range(2))
        self.sums.second([q, s, k], [vq, vs, vk], [to_q, to_s, to_k, first_s, first_k])
        to_r, to_a = torch.empty_like(r), torch.zeros_like(a)
        result = to_a if self.of_cell else None
        arrays = [a, along, r, vs, first_s, to_s, first_k, to_k, to_r, result]
        self._run(self.compiled.les_cells_leave, r, arrays)
        return to_q, to_r, to_a

    def _run(self, kernel: Any, r: Tensor, arrays: list[Tensor | None]) -> None:
        n_rows, n_atoms, _ = r.shape

        def rows(first: int, last: int) -> None:
            task = _Task(n_rows, n_atoms, self.extent, (first, last), *self.greens)
            call(kernel, task, *arrays)

        in_parallel(rows, n_rows, work=8 * n_rows * (n_atoms + self.n_points))
