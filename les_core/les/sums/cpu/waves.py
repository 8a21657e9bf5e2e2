r"""Sums over k-points of charges and a Green's function, and their derivatives, by kernels.

.. math:: E=\sum_{\mathbf n} K_{\mathbf n}\Big|\sum_i q_ie^{2\pi i\mathbf n\cdot\mathbf s_i}\Big|^2.

In place of charges there may be sources, which multiply derivatives of the waves with respect to
**s**. Components beyond the last K that is not zero are left out, and have no derivatives with
respect to K. Nothing is kept but the arguments.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from les.sums.cpu.library import LANES, call
from les.sums.cpu.threads import in_shares, shares_of_atoms
from les.sums.direct import sum_over_waves
from les.sums.method import FirstAndSecond, WaveCharges
from les.sums.plain import wave_energies

#: Highest derivative that sources multiply, by their number.
_ORDERS = {1: 0, 4: 1, 10: 2}


class _Task(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("n_rows", "n_channels", "n_atoms")),
        ("extent", ctypes.c_int64 * 3),
        ("rows", ctypes.c_int64 * 2),
        ("atoms", ctypes.c_int64 * 2),
        ("order", ctypes.c_int64),
        ("of_squares", ctypes.c_double),
    )


class WaveKernels(FirstAndSecond):
    """``method.FirstAndSecond`` of charges, coordinates and weights.

    Arguments of the energies are charges or sources ``[n_structures, n_sources * n_channels,
    n_atoms]``, wrapped coordinates ``[n_structures, n_atoms, 3]`` and weights ``[n_structures, 4,
    n_points]``, with the signs of ``waves.combine``.

    Args:
        compiled: the kernels that ``library`` returned.
        extent: largest number of a wave along each axis.
        n_sources: of an atom and a channel.
    """

    def __init__(self, compiled: ctypes.CDLL, extent: tuple[int, int, int], n_sources: int) -> None:
        self.sums = WaveSums(compiled, extent, n_sources=n_sources)
        self.extent, self.n_sources = extent, n_sources

    def plain(self, *arguments: Tensor) -> Tensor:
        charges, fractional, weights = arguments
        if self.n_sources == 1:
            return wave_energies(charges, fractional, weights, self.extent)
        waves = WaveCharges(charges, fractional, self.extent, self.n_sources)
        return sum_over_waves(waves, weights, False)[0]

    def first(self, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        given = [value.contiguous() for value in arguments]
        energy = given[0].new_empty(given[0].shape[0])
        results = [torch.zeros_like(value) for value in given]
        self.sums.first(given, [energy, *results])
        return energy, *results

    def second(
        self, arguments: tuple[Tensor, ...], directions: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        given = [value.contiguous() for value in arguments]
        changes = [value.contiguous() for value in directions]
        results = [torch.zeros_like(value) for value in given]
        self.sums.second(given, changes, [*results, None, None, None])
        return tuple(results)


class WaveSums:
    """The kernels for some extent. All arrays are contiguous.

    Args:
        compiled: the kernels that ``library`` returned.
        extent: largest number of a wave along each axis.
        of_squares: factor of the sum of squared charges, which is part of the energies.
        n_sources: of an atom and a channel; sources take the place of charges.
    """

    def __init__(
        self,
        compiled: ctypes.CDLL,
        extent: tuple[int, int, int],
        of_squares: float = 0.0,
        n_sources: int = 1,
    ) -> None:
        self.compiled, self.extent, self.of_squares = compiled, extent, of_squares
        self.n_sources = n_sources
        n1, n2, n3 = (2 * (n + 1) for n in extent)
        #: Of the sums over atoms; the last axis is filled up.
        self.shape = [n1, n2, -(-n3 // LANES) * LANES]

    def first(self, given: Sequence[Tensor], results: Sequence[Tensor | None]) -> None:
        """From charges, coordinates and Green's functions: energies and first derivatives.

        The derivatives are zero before. Those with respect to Green's functions may be left out.
        """
        n_shares = self._shares(given[0])
        arrays = [*given, self._sums(n_shares, given)[0], *results]
        self._run(self.compiled.les_waves_first, given[0], n_shares, lambda _: arrays)

    def second(
        self,
        given: Sequence[Tensor],
        directions: Sequence[Tensor],
        results: Sequence[Tensor | None],
    ) -> None:
        """Changes of the three first derivatives, and these themselves.

        All are zero before. All but the first two may be left out.
        """
        n_shares = self._shares(given[0])
        sums = self._sums(n_shares, given, directions)
        arrays = [*given, *directions, *sums, *results]
        self._run(self.compiled.les_waves_second, given[0], n_shares, lambda _: arrays)

    def _sums(
        self,
        n_shares: int,
        given: Sequence[Tensor],
        directions: Sequence[Tensor] | None = None,
    ) -> tuple[Tensor | None, Tensor | None]:
        """Sums over atoms, and how they change in a direction, from shares of the atoms.

        Without shares the kernels do it themselves, in cache.
        """
        if n_shares == 1:
            return None, None
        q = given[0]
        vq, vs = (None, None) if directions is None else directions[:2]
        shape = [n_shares, len(q), q.shape[1] // self.n_sources, *self.shape]
        sums = q.new_zeros(shape)
        changes = None if vq is None else q.new_zeros(shape)

        def arrays(share: int) -> list[Tensor | None]:
            return [*given, vq, vs, sums[share], None if changes is None else changes[share]]

        self._run(self.compiled.les_waves_sums, q, n_shares, arrays)
        return sums.sum(dim=0), None if changes is None else changes.sum(dim=0)

    def _shares(self, q: Tensor) -> int:
        """In how many shares the atoms are done."""
        return shares_of_atoms(q.shape[0], q.shape[2], self._work(q))

    def _work(self, q: Tensor) -> int:
        return q.numel() * math.prod(self.shape)

    def _run(
        self,
        kernel: Any,
        q: Tensor,
        n_shares: int,
        arrays: Callable[[int], Sequence[Tensor | None]],
    ) -> None:
        """A kernel for all structures and atoms; the arguments may depend on the share of atoms."""
        n_structures, n_columns, n_atoms = q.shape
        n_channels = n_columns // self.n_sources

        def part(structures: slice, share: int) -> None:
            task = _Task(
                *(n_structures, n_channels, n_atoms, self.extent),
                (structures.start, structures.stop),
                (n_atoms * share // n_shares, n_atoms * (share + 1) // n_shares),
                *(_ORDERS[self.n_sources], self.of_squares),
            )
            space = q.new_empty(self.compiled.les_waves_space(ctypes.byref(task)))
            call(kernel, task, space, *arrays(share))

        in_shares(part, n_structures, n_shares, self._work(q))
