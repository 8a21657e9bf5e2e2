r"""Sources of atoms with respect to coordinates in their cells, and the way back, by kernels.

With :math:`\mathbf s=R\mathbf r` a dipole **u** becomes :math:`R\mathbf u` and a quadrupole Q
:math:`RQR^T`, as ``les.sums.sources.along_axes`` says. These depend on the cell, and so do energies
by way of them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from les.sums.cpu.library import call
from les.sums.cpu.threads import in_parallel


class _Task(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("n_rows", "n_channels", "n_atoms", "n_sources")),
        ("rows", ctypes.c_int64 * 2),
        ("of_squares", ctypes.c_double * 3),
    )


class SourceTurns(NamedTuple):
    """The kernels for some number of sources. All arrays are contiguous."""

    #: Those that ``library`` returned.
    compiled: ctypes.CDLL
    #: Of an atom and a channel, 4 or 10.
    n_sources: int
    #: What squared charges, dipoles and quadrupoles are multiplied with in the energies.
    of_squares: Sequence[float]

    def enter(self, arrays: Sequence[Tensor | None]) -> None:
        """Sources with respect to coordinates, and how they change in a direction.

        Args:
            arrays: cells ``[n_structures, 3, 3]`` and how they change; sources ``[n_structures,
                n_sources * n_channels, n_atoms]`` and how these do; the same with respect to
                coordinates, which are the results. All changes may be left out, and that of cells.
        """
        assert arrays[2] is not None
        self._run(self.compiled.les_sources_enter, arrays[2], arrays)

    def leave(self, arrays: Sequence[Tensor | None]) -> None:
        """The way back of derivatives, or of what these change by.

        Args:
            arrays: those of :meth:`enter`; derivatives with respect to its results, and how they
                change; energies, to which those of sources with themselves are added;
                derivatives with respect to sources; and those with respect to cells, which are
                added to. Energies and the last may be left out.
        """
        assert arrays[2] is not None
        self._run(self.compiled.les_sources_leave, arrays[2], arrays)

    def _run(self, kernel: Any, sources: Tensor, arrays: Sequence[Tensor | None]) -> None:
        n_rows, n_columns, n_atoms = sources.shape

        def rows(first: int, last: int) -> None:
            task = _Task(
                *(n_rows, n_columns // self.n_sources, n_atoms, self.n_sources),
                *((first, last), tuple(self.of_squares)),
            )
            call(kernel, task, *arrays)

        in_parallel(rows, n_rows, work=16 * sources.numel())
