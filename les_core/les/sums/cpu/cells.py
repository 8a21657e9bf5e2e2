r"""The periodic sum over k-points of charges in cells, and its derivatives, by compiled kernels.

In between are coordinates, the Green's function and, with multipoles, sources with respect to the
coordinates, which ``les.sums.cpu.waves`` takes. So few
operations of torch are left that small structures take little more time than the sums over their
atoms.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from les.sums.cpu.library import call
from les.sums.cpu.sources import SourceTurns
from les.sums.cpu.threads import in_parallel
from les.sums.cpu.waves import WaveSums
from les.sums.direct import sum_over_cells
from les.sums.engine import TorchEngine
from les.sums.method import Cells, Coefficients, FirstAndSecond
from les.sums.plain import periodic_sum
from les.sums.reciprocal.cutoff import GreensFunction
from les.sums.sources import factors_of_columns, factors_of_squares


class _Task(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("n_rows", "n_atoms")),
        ("extent", ctypes.c_int64 * 3),
        ("rows", ctypes.c_int64 * 2),
        ("prefactor", ctypes.c_double),
        *((name, ctypes.c_double) for name in GreensFunction._fields),
    )


class CellKernels(FirstAndSecond):
    """``method.FirstAndSecond`` of charges or sources, positions and cells.

    Args:
        compiled: the kernels that ``library`` returned.
        extent: largest number of a wave along each axis.
        greens: the Green's function.
        coefficients: what makes energies of the sums.
        of_cell: whether cells are differentiated; if not, their derivatives are zero.
        n_sources: of an atom and a channel.

    Arguments of the energies are those of ``method.Cells``: charges ``[n_structures, n_channels,
    n_atoms]``, positions ``[n_structures, n_atoms, 3]`` and cells ``[n_structures, 3, 3]``.
    """

    def __init__(
        self,
        compiled: ctypes.CDLL,
        extent: tuple[int, int, int],
        greens: GreensFunction,
        coefficients: Coefficients,
        of_cell: bool,
        n_sources: int = 1,
    ) -> None:
        self.compiled, self.extent, self.greens = compiled, extent, greens
        self.coefficients, self.of_cell = coefficients, of_cell
        self.n_sources, of_squares = n_sources, coefficients.of_squares
        self.turns: SourceTurns | None = None
        if n_sources > 1:
            factors = factors_of_squares(greens.sigma)
            own = [of_squares * factor for factor in factors]
            self.turns, of_squares = SourceTurns(compiled, n_sources, own), 0.0
        self.sums = WaveSums(compiled, extent, of_squares, n_sources)
        self.n_points = 4 * (extent[0] + 1) * (extent[1] + 1) * (extent[2] + 1)

    def plain(self, *arguments: Tensor) -> Tensor:
        charges, positions, cell = arguments
        cells = Cells(charges, positions, cell, None, self.extent, self.n_sources)
        if self.n_sources == 1:
            return self.coefficients.energies(periodic_sum(cells, self.greens, False), charges)[0]
        bare = sum_over_cells(cells, self.greens, TorchEngine(), False)
        factors = factors_of_columns(charges, charges.shape[1], self.n_sources, self.greens.sigma)
        return self.coefficients.energies(bare, charges, None, factors)[0]

    def first(self, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        q, r, a = (value.contiguous() for value in arguments)
        s, k = torch.empty_like(r), r.new_empty(r.shape[0], self.n_points)
        self._run(self.compiled.les_cells_enter, r, [r, a, None, None, s, k, None, None])
        energy, to_q, to_s = q.new_empty(q.shape[0]), torch.zeros_like(q), torch.zeros_like(s)
        to_k = torch.zeros_like(k) if self.of_cell else None
        t, to_t = q, to_q
        if self.turns is not None:
            t, to_t = torch.empty_like(q), torch.zeros_like(q)
            turned = [a, None, q, None, t, None]
            self.turns.enter(turned)
        self.sums.first([t, s, k], [energy, to_t, to_s, to_k])
        to_r, to_a = torch.empty_like(r), torch.zeros_like(a)
        result = to_a if self.of_cell else None
        arrays = [a, None, r, None, to_s, None, to_k, None, to_r, result]
        self._run(self.compiled.les_cells_leave, r, arrays)
        if self.turns is not None:
            self.turns.leave([*turned, to_t, None, energy, to_q, result])
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
        t, vt, to_t, first_t = q, vq, to_q, None
        if self.turns is not None:
            t, vt, to_t, first_t = (torch.zeros_like(q) for _ in range(4))
            turned = [a, along, q, vq, t, vt]
            self.turns.enter(turned)
        results = [to_t, to_s, to_k, first_t, first_s, first_k]
        self.sums.second([t, s, k], [vt, vs, vk], results)
        to_r, to_a = torch.empty_like(r), torch.zeros_like(a)
        result = to_a if self.of_cell else None
        arrays = [a, along, r, vs, first_s, to_s, first_k, to_k, to_r, result]
        self._run(self.compiled.les_cells_leave, r, arrays)
        if self.turns is not None:
            self.turns.leave([*turned, first_t, to_t, None, to_q, result])
        return to_q, to_r, to_a

    def _run(self, kernel: Any, r: Tensor, arrays: list[Tensor | None]) -> None:
        n_rows, n_atoms, _ = r.shape

        def rows(first: int, last: int) -> None:
            prefactor = self.coefficients.prefactor
            task = _Task(n_rows, n_atoms, self.extent, (first, last), prefactor, *self.greens)
            call(kernel, task, *arrays)

        in_parallel(rows, n_rows, work=8 * n_rows * (n_atoms + self.n_points))
