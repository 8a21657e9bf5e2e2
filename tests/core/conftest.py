"""Structures for the tests of the core."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import pytest
import torch

from les import Ewald

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

TRICLINIC = [[9.3, 0.4, -0.7], [2.1, 8.2, 0.3], [-1.4, 1.9, 10.1]]
CELLS = {
    "cubic": [[9.1, 0.0, 0.0], [0.0, 9.1, 0.0], [0.0, 0.0, 9.1]],
    "triclinic": TRICLINIC,
    "left_handed": [TRICLINIC[1], TRICLINIC[0], TRICLINIC[2]],
}


class System(NamedTuple):
    """Arguments of ``Ewald.forward`` for one structure."""

    charges: Tensor
    positions: Tensor
    cell: Tensor


class Batch(NamedTuple):
    """Arguments of ``Ewald.forward`` for several structures."""

    charges: Tensor
    positions: Tensor
    cell: Tensor
    batch: Tensor


def _rotation(seed: int = 5) -> Tensor:
    """A rotation matrix without symmetry ``[3, 3]``."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(3, 3, dtype=torch.float64, generator=generator)
    orthogonal, _ = torch.linalg.qr(matrix)
    return orthogonal * torch.linalg.det(orthogonal)


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    """Both precisions."""
    return getattr(torch, request.param)


@pytest.fixture
def tolerance(dtype: torch.dtype) -> float:
    """Relative deviation that rounding explains."""
    return 1e-10 if dtype == torch.float64 else 1e-4


@pytest.fixture(params=["cubic", "triclinic", "rotated", "left_handed"])
def cell_kind(request: pytest.FixtureRequest) -> str:
    """All kinds of cell."""
    return request.param


@pytest.fixture(params=["sharp", "smooth"])
def cutoff(request: pytest.FixtureRequest) -> str:
    """Both ends of the periodic sum."""
    return request.param


@pytest.fixture
def rotation() -> Callable[..., Tensor]:
    """Makes rotation matrices."""
    return _rotation


@pytest.fixture
def make_system() -> Callable[..., System]:
    """Makes random structures, of at least 0.7 A between atoms where ``n_atoms`` is small."""

    def make(
        kind: str = "triclinic",
        n_atoms: int = 10,
        dtype: torch.dtype = torch.float64,
        channels: int | None = None,
        total: float = 0.0,
        seed: int = 0,
    ) -> System:
        generator = torch.Generator().manual_seed(seed)
        shape = (n_atoms,) if channels is None else (n_atoms, channels)
        charges = torch.randn(shape, dtype=torch.float64, generator=generator)
        if n_atoms > 0:
            charges = charges - charges.mean(0) + total / n_atoms
        fractional = torch.rand(n_atoms, 3, dtype=torch.float64, generator=generator)
        if kind == "rotated":
            cell = torch.tensor(TRICLINIC, dtype=torch.float64) @ _rotation()
        elif kind == "open":
            cell = torch.eye(3, dtype=torch.float64) * 6.0
        else:
            cell = torch.tensor(CELLS[kind], dtype=torch.float64)
        positions = fractional @ cell
        if kind == "open":
            cell = torch.zeros(3, 3, dtype=torch.float64)
        return System(charges.to(dtype), positions.to(dtype), cell.unsqueeze(0).to(dtype))

    return make


@pytest.fixture
def join() -> Callable[[list[System]], Batch]:
    """Joins structures to a batch."""

    def make(systems: list[System]) -> Batch:
        sizes = torch.tensor([len(positions) for _, positions, _ in systems])
        return Batch(
            *(torch.cat(parts) for parts in zip(*systems, strict=True)),
            torch.arange(len(systems)).repeat_interleave(sizes),
        )

    return make


@pytest.fixture
def unit_ewald() -> Callable[..., Ewald]:
    """Makes ``Ewald`` with a Coulomb constant of 1."""

    def make(**options: object) -> Ewald:
        return Ewald(norm_factor=2.0 * math.pi, **options)

    return make
