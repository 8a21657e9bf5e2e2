"""Kernels that came with the package against those that are compiled on this machine."""

from __future__ import annotations

import ctypes
import functools
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

from les.sums import plan
from les.sums.cpu.engine import CpuEngine
from les.sums.cpu.library import compile_kernels, shipped_kernels
from les_bench.speed.cases import Case, energies_of, energy_and_forces
from les_bench.speed.timing import interleaved

#: One sum over waves, one on a mesh, and one over pairs.
CASES = (
    Case("192 atoms", 1, 192, True),
    Case("5184 atoms, 1e-4", 1, 5184, True, accuracy=1e-4),
    Case("32 x 50 atoms, open", 32, 50, False),
)


def shipped_table(dtype: torch.dtype) -> Iterator[str]:
    """Lines of the comparison.

    Raises:
        ValueError: if no kernels came with the package, as in a clone.
        OSError: if there is no compiler, or it fails.
    """
    shipped = shipped_kernels(dtype)
    if shipped is None:
        raise ValueError(
            "--shipped needs an installation of les that came with kernels for this CPU, such as "
            "a wheel built with LES_BUILD_KERNELS=1; here they are compiled on first use"
        )
    kernels, file = shipped
    yield f"shipped: {file}"
    with tempfile.TemporaryDirectory(prefix="les-kernels-") as folder:
        before = _compiler_seconds()
        compiled = compile_kernels(dtype, Path(folder))
        yield f"compiled here in {_compiler_seconds() - before:.1f} s of a processor"
        yield "shortest processor times; ratio is that of shipped to compiled"
        heads = f"{'shipped/ms':>12}{'compiled/ms':>13}{'ratio':>8}{'difference':>12}"
        yield f"{'case':<22}{'':<18}{heads}"
        for case in CASES:
            for training in (False, True):
                yield _line(case, dtype, training, (kernels, compiled))


def _line(
    case: Case, dtype: torch.dtype, training: bool, kernels: tuple[ctypes.CDLL, ctypes.CDLL]
) -> str:
    ways = [
        functools.partial(_evaluate, each, case, case.inputs(dtype), training) for each in kernels
    ]
    shipped, compiled = (way() for way in ways)
    difference = float((shipped - compiled).abs().max() / compiled.abs().max())
    times = interleaved(*ways, clock=time.process_time).shortest
    what = "double backward" if training else "energy + forces"
    return (
        f"{case.title:<22}{what:<18}{1e3 * times[0]:>12.3f}{1e3 * times[1]:>13.3f}"
        f"{times[0] / times[1]:>8.2f}{difference:>12.1e}"
    )


def _evaluate(
    kernels: ctypes.CDLL, case: Case, inputs: tuple[Tensor, ...], training: bool
) -> Tensor:
    """One evaluation with these kernels."""
    with mock.patch.object(plan, "engine_for", return_value=CpuEngine(kernels)):
        return energy_and_forces(energies_of(case.ewald()), inputs, training)


def _compiler_seconds() -> float:
    """Processor time of all processes that this one has started and waited for [s]."""
    used = os.times()
    return used.children_user + used.children_system
