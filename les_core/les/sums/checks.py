"""Validation of what callers pass in: every message names the argument and what came.

All of it, but for :func:`check_precision`, also runs in TorchScript, where a model is used without
any other guard.
"""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

from les.sums.reciprocal.lattice import cell_normals

#: A cell whose |det| is below this [A^3] is no cell (the criterion of published LES).
VOLUME_TOLERANCE = 1e-6

#: Places so far apart [A] must be different numbers. What is farther from the origin than that is
#: in float32 (2^23 such distances) and float64 (2^52) refused: forces would mean nothing.
RESOLVED = 0.125

_DENSE = torch.strided


class NotFiniteError(ValueError):
    """A number is NaN or infinite."""


class TooLargeError(ValueError):
    """A number is so large that results mean nothing."""


def check_tensors(optional: bool = False, **values: object) -> None:
    """What comes from callers must be tensors that hold values, or ``None`` where ``optional``.

    Raises:
        TypeError: for what is no tensor.
        ValueError: for sparse tensors.
    """
    for name, value in values.items():
        if type(value) is Tensor and value.layout is _DENSE:
            continue
        if not isinstance(value, Tensor):
            if optional and value is None:
                continue
            kind = type(value).__module__.replace("builtins", "") + "." + type(value).__qualname__
            raise TypeError(f"`{name}` must be a torch.Tensor, got {kind.lstrip('.')}")
        if value.layout is not _DENSE:
            raise ValueError(f"`{name}` must be dense, got a tensor with layout {value.layout}")


def as_indices(batch: Tensor | None) -> Tensor | None:
    """``batch`` in int64, if it is of another type of whole numbers."""
    if batch is None or batch.dtype == torch.long:
        return batch
    for whole in (torch.int32, torch.int16, torch.int8, torch.uint8):
        if batch.dtype == whole:
            return batch.to(torch.long)
    return batch


def is_compiling() -> bool:
    """Whether ``torch.compile`` or ``torch.export`` trace this, so that there are no values."""
    if torch.jit.is_scripting():
        return False
    return torch.compiler.is_compiling()


def open_cells(positions: Tensor, batch: Tensor | None, pbc: Tensor | None) -> Tensor:
    """Cells ``[n_structures, 3, 3]`` for callers that give none, zero.

    Raises:
        ValueError: where ``pbc`` is true; and in compiled code where neither ``pbc`` nor ``cell``
            tells how many structures there are.
    """
    n_structures = 1
    if pbc is not None:
        if not is_compiling() and bool(pbc.any()):
            raise ValueError("`cell` must be given where `pbc` is true, got None")
        n_structures = pbc.shape[0]
    elif batch is not None and is_compiling():
        raise ValueError("`cell` or `pbc` must be given with `batch` in compiled code, got None")
    elif batch is not None and batch.numel() > 0:
        n_structures = int(batch.max()) + 1
    return torch.zeros([n_structures, 3, 3], dtype=positions.dtype, device=positions.device)


def has_volume(cell: Tensor, tolerance: float = VOLUME_TOLERANCE) -> Tensor:
    """Which of the cells ``[n_structures, 3, 3]`` span a volume, ``[n_structures]`` boolean."""
    cell = cell.detach()
    return (cell[:, 0] * cell_normals(cell)[:, 0]).sum(dim=-1).abs() >= tolerance


def has_area(cell: Tensor, pbc: Tensor, tolerance: float = VOLUME_TOLERANCE) -> Tensor:
    """Which of the ``cells [n_structures, 3, 3]`` span an area along two periodic axes.

    ``pbc`` is ``[n_structures, 3]``; of structures with another number of axes nothing follows.
    """
    areas = torch.linalg.vector_norm(cell_normals(cell.detach()), dim=-1)
    return torch.where(pbc, torch.zeros_like(areas), areas).amax(dim=1) > tolerance


@torch.jit.unused
def check_precision(positions: Tensor) -> None:
    """Matrix products must be as precise as their arguments.

    Raises:
        RuntimeError: within ``torch.autocast``, which rounds them.

    Warns:
        UserWarning: where torch is told to round those of float32 on a GPU.
    """
    device = positions.device.type
    if torch.is_autocast_enabled(device):
        raise RuntimeError(
            "`les` must run outside torch.autocast, which rounds its matrix products and those of "
            "the forces: energies of charges cancel and need all digits"
        )
    if device == "cuda" and positions.dtype == torch.float32 and _rounds_products():
        warnings.warn(
            "torch is set to round matrix products of float32 on this GPU (TF32), which leaves "
            "three digits of the electrostatic sum: torch.set_float32_matmul_precision('highest') "
            "or float64",
            stacklevel=3,
        )


def _rounds_products() -> bool:
    settings = (torch.backends.cuda.matmul, torch.backends)
    if hasattr(settings[0], "fp32_precision"):  # torch 2.9 and later
        specific, general = (setting.fp32_precision for setting in settings)
        return specific == "tf32" or (specific == "none" and general == "tf32")
    return torch.get_float32_matmul_precision() != "highest"


# All of these look at values unless ``values`` is false, which takes a transfer from the device.


def check_positions(positions: Tensor, values: bool = True) -> None:
    """``positions`` must be a finite tensor ``[n_atoms, 3]`` of float32 or float64.

    Nor may they be farther from the origin than :func:`largest_coordinate`.
    """
    if positions.dim() != 2 or positions.shape[1] != 3:
        raise ValueError(f"`positions` must have shape [n_atoms, 3], got {list(positions.shape)}")
    if positions.dtype != torch.float32 and positions.dtype != torch.float64:
        raise TypeError(f"`positions` must be float32 or float64, got {positions.dtype}")
    if values:
        check_finite("positions", positions)
        most = largest_coordinate(positions.dtype)
        if positions.numel() > 0 and float(positions.detach().abs().max()) >= most:
            kind = "float32" if positions.dtype == torch.float32 else "float64"
            where, value = _first_above(positions, most)
            raise TooLargeError(
                f"`positions` must be within {most} A of the origin, as far as {kind} tells places "
                f"apart that differ by 1/8 A, got {value} at index {where}"
            )


def largest_coordinate(dtype: torch.dtype, resolved: float = RESOLVED) -> float:
    """How far from the origin atoms may be [A]; see :data:`RESOLVED`."""
    return resolved * 2.0**23 if dtype == torch.float32 else resolved * 2.0**52


def _first_above(values: Tensor, most: float) -> tuple[list[int], float]:
    """Where the first element is that is not below ``most`` in size, and what it is."""
    wrong = values.detach().abs() >= most
    where: list[int] = torch.nonzero(wrong)[0].tolist()
    return where, float(values.detach()[wrong][0])


def check_finite(name: str, value: Tensor) -> None:
    """No element of ``value`` may be NaN or infinite; the message gives the first one.

    Raises:
        NotFiniteError: otherwise.
    """
    # A sum is the cheapest operation that any bad element spoils.
    if not math.isfinite(float(value.detach().sum())):
        finite = torch.isfinite(value.detach())
        if bool(finite.all()):
            return
        where: list[int] = torch.nonzero(~finite)[0].tolist()
        bad = float(value.detach()[~finite][0])
        raise NotFiniteError(f"`{name}` must be finite, got {bad} at index {where}")


def check_like_positions(name: str, value: Tensor, positions: Tensor) -> None:
    """``value`` must share dtype and device with ``positions``."""
    if value.dtype != positions.dtype:
        raise TypeError(
            f"`{name}` must have the dtype of `positions` ({positions.dtype}), got {value.dtype}"
        )
    if value.device != positions.device:
        raise ValueError(
            f"`{name}` must be on the device of `positions` ({positions.device}), "
            f"got {value.device}"
        )


def largest_charge() -> float:
    """Charges must be smaller than this in size [e]."""
    return 1e6


def check_charges(name: str, charges: Tensor, positions: Tensor, values: bool = True) -> None:
    """``charges`` must be ``[n_atoms]`` or ``[n_atoms, n_channels]``, finite and not too large."""
    empty = charges.dim() == 2 and charges.shape[1] == 0
    if charges.dim() not in (1, 2) or charges.shape[0] != positions.shape[0] or empty:
        raise ValueError(
            f"`{name}` must have shape [n_atoms] or [n_atoms, n_channels] with n_atoms = "
            f"{positions.shape[0]}, got {list(charges.shape)}"
        )
    check_like_positions(name, charges, positions)
    if values:
        check_finite(name, charges)
        most = largest_charge()
        if charges.numel() > 0 and float(charges.detach().abs().max()) >= most:
            where, value = _first_above(charges, most)
            raise TooLargeError(
                f"`{name}` must be below {most} e in size, got {value} at index {where}"
            )


def check_cell(cell: Tensor, positions: Tensor, values: bool = True) -> None:
    """``cell`` must be a finite tensor ``[n_structures, 3, 3]``."""
    if cell.dim() != 3 or cell.shape[1:] != (3, 3):
        raise ValueError(f"`cell` must have shape [n_structures, 3, 3], got {list(cell.shape)}")
    if cell.shape[0] == 0:
        raise ValueError("`cell` must hold at least one structure, got none")
    check_like_positions("cell", cell, positions)
    if values:
        check_finite("cell", cell)


def check_batch(
    batch: Tensor | None,
    n_atoms: int,
    n_structures: int,
    device: torch.device,
    values: bool = True,
) -> None:
    """``batch`` must assign each atom, in ascending order, one of the structures of ``cell``."""
    if batch is None:
        if n_structures != 1:
            raise ValueError(
                f"`batch` must be given for several structures, got None with `cell` of "
                f"{n_structures} structures"
            )
        return
    if batch.dim() != 1 or batch.shape[0] != n_atoms:
        raise ValueError(
            f"`batch` must have shape [n_atoms] = [{n_atoms}], got {list(batch.shape)}"
        )
    if batch.dtype != torch.long:
        raise TypeError(f"`batch` must be of dtype torch.int64, got {batch.dtype}")
    if batch.device != device:
        raise ValueError(
            f"`batch` must be on the device of `positions` ({device}), got {batch.device}"
        )
    if n_atoms == 0 or not values:
        return
    if bool((batch[1:] < batch[:-1]).any()):
        raise ValueError("`batch` must be in ascending order, got one that decreases")
    first, last = int(batch[0]), int(batch[-1])
    if first < 0 or last >= n_structures:
        raise ValueError(
            f"`batch` must lie in 0 ... n_structures - 1 = {n_structures - 1} (from `cell`), "
            f"got {first} ... {last}"
        )


def check_pbc(pbc: Tensor | None, cell: Tensor, values: bool = True) -> None:
    """``pbc`` must be boolean ``[n_structures, 3]``, with none, two or all axes true.

    Three periodic axes need a cell with a volume, two need lattice vectors that span an area.
    """
    if pbc is None:
        return
    if pbc.dim() != 2 or pbc.shape[0] != cell.shape[0] or pbc.shape[1] != 3:
        raise ValueError(
            f"`pbc` must have shape [n_structures, 3] = [{cell.shape[0]}, 3], got {list(pbc.shape)}"
        )
    if pbc.dtype != torch.bool:
        raise TypeError(f"`pbc` must be of dtype torch.bool, got {pbc.dtype}")
    if pbc.device != cell.device:
        raise ValueError(f"`pbc` must be on the device of `cell` ({cell.device}), got {pbc.device}")
    if not values:
        return
    n_axes = pbc.sum(dim=1)
    wire = n_axes == 1
    if bool(wire.any()):
        structure = int(torch.nonzero(wire)[0])
        axes: list[bool] = pbc[structure].tolist()
        raise ValueError(
            f"`pbc` must have none, two or three axes true, got {axes} for structure "
            f"{structure}: wires are not supported"
        )
    # The vector along an open axis is not used: any will do.
    missing = (n_axes == 3) & ~has_volume(cell)
    flat = (n_axes == 2) & ~has_area(cell, pbc)
    if bool(flat.any()):
        structure = int(torch.nonzero(flat)[0])
        plane: list[list[float]] = cell[structure].detach().to(torch.float64).tolist()
        raise ValueError(
            f"`cell` must span an area along the axes where `pbc` is true, got {plane} for "
            f"structure {structure}"
        )
    if bool(missing.any()):
        structure = int(torch.nonzero(missing)[0])
        vectors: list[list[float]] = cell[structure].detach().to(torch.float64).tolist()
        raise ValueError(
            f"`cell` must span a volume where `pbc` is true, got {vectors} "
            f"for structure {structure}"
        )


def coincidence(positions: Tensor, first: int, second: int) -> ValueError:
    """The error for two atoms of an open structure at one of ``positions`` ``[n_atoms, 3]``."""
    place = positions[first].detach().to(torch.float64).tolist()
    return ValueError(
        f"`positions` must differ, got atoms {first} and {second} of an open structure at the same "
        f"place, {place}"
    )
