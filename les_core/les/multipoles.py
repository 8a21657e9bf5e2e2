r"""The electrostatic energy of Gaussian charges, dipoles and quadrupoles.

It is that of ``les.Ewald`` for the density
:math:`(q-\mathbf u\cdot\nabla+\frac12Q:\nabla\nabla)` times a Gaussian of width sigma at each atom.
"""

from __future__ import annotations

import torch
from torch import Tensor

from les.sums.checks import (
    as_indices,
    check_charges,
    check_finite,
    check_like_positions,
    check_positions,
    check_tensors,
    is_compiling,
    open_cells,
)
from les.sums.method import Settings
from les.sums.plan import evaluate, make_plan
from les.sums.sources import Fields, Moments
from les.sums.system import Given

#: How far from traceless and symmetric a quadrupole may be, relative to the largest one, in units
#: of the rounding of its numbers.
ROUNDINGS = 1000.0


def multipole_energies(
    settings: Settings,
    moments: Moments,
    positions: Tensor,
    cell: Tensor | None = None,
    batch: Tensor | None = None,
    pbc: Tensor | None = None,
    compute_fields: bool = True,
) -> tuple[Tensor, Fields | None]:
    """Energies of structures, and what their atoms feel.

    Both are differentiable any number of times, with respect to moments, positions and cells.

    Args:
        settings: of the sum, ``les.Ewald.settings()``.
        moments: those that :func:`checked_moments` returned.
        positions, cell, batch, pbc: as for ``les.Ewald``.
        compute_fields: also return potentials and their derivatives.

    Returns:
        ``[n_structures]`` [eV], and the fields of all channels (or ``None``).

    Raises:
        ValueError, TypeError: as ``les.Ewald``; within compiled code.
    """
    if torch.jit.is_scripting() or is_compiling():
        raise ValueError(
            "dipoles and quadrupoles can be neither compiled nor exported: their sum has no "
            "operator"
        )
    check_tensors(positions=positions)
    check_tensors(True, cell=cell, batch=batch, pbc=pbc)
    if cell is None:
        cell = open_cells(positions, batch, pbc)
    given = Given(moments.as_sources(), positions, cell, as_indices(batch), pbc)
    plan = make_plan(given, settings, moments.n_sources)
    energy, felt = evaluate(plan, compute_fields)
    return energy, None if felt is None else Fields.of(felt, moments.n_sources)


def shares_of_atoms(moments: Moments, fields: Fields) -> Tensor:
    """Energies of atoms ``[n_atoms]`` [eV], halves of what moments feel, summed over channels."""
    shares = moments.charges * fields.potential
    if moments.dipoles is not None and fields.gradient is not None:
        shares = shares + (moments.dipoles * fields.gradient).sum(dim=2)
    if moments.quadrupoles is not None and fields.second is not None:
        shares = shares + 0.5 * (moments.quadrupoles * fields.second).sum(dim=(2, 3))
    return 0.5 * shares.sum(dim=1)


def checked_moments(
    charges: Tensor,
    positions: Tensor,
    dipoles: Tensor | None = None,
    quadrupoles: Tensor | None = None,
    names: tuple[str, str, str] = ("charges", "dipoles", "quadrupoles"),
) -> Moments:
    r"""Moments with a dimension for channels.

    Args:
        charges: ``[n_atoms]`` or ``[n_atoms, n_channels]`` [e].
        positions: ``[n_atoms, 3]`` [A].
        dipoles: ``[n_atoms, 3]`` or ``[n_atoms, n_channels, 3]`` [e A].
        quadrupoles: ``[n_atoms, 3, 3]`` or ``[n_atoms, n_channels, 3, 3]`` [e A^2], symmetric and
            traceless: :math:`Q_{ab}=\sum q(r_ar_b-\delta_{ab}r^2/3)`.
        names: what messages call the moments.

    Raises:
        ValueError: for other shapes, values that are not finite, and quadrupoles that are not
            symmetric or not traceless.
        TypeError: for what is no tensor, and other dtypes than that of the positions.
    """
    of_charges, of_dipoles, of_quadrupoles = names
    check_tensors(False, **{of_charges: charges, "positions": positions})
    check_tensors(True, **{of_dipoles: dipoles, of_quadrupoles: quadrupoles})
    check_positions(positions)
    check_charges(of_charges, charges, positions)
    channels = charges if charges.dim() == 2 else charges.unsqueeze(1)
    if dipoles is not None:
        dipoles = _with_channels(of_dipoles, dipoles, channels, (3,))
    if quadrupoles is not None:
        quadrupoles = _with_channels(of_quadrupoles, quadrupoles, channels, (3, 3))
        _check_traceless(of_quadrupoles, quadrupoles.detach())
    return Moments(channels, dipoles, quadrupoles)


def _with_channels(name: str, value: Tensor, channels: Tensor, ending: tuple[int, ...]) -> Tensor:
    n_atoms, n_channels = channels.shape
    expected = [n_atoms, n_channels, *ending]
    if value.dim() == len(expected) - 1 and n_channels == 1:
        value = value.unsqueeze(1)
    if list(value.shape) != expected:
        short = f"{[n_atoms, *ending]} or " if n_channels == 1 else ""
        raise ValueError(f"`{name}` must have shape {short}{expected}, got {list(value.shape)}")
    check_like_positions(name, value, channels)
    check_finite(name, value)
    return value


def _check_traceless(name: str, quadrupoles: Tensor) -> None:
    if quadrupoles.numel() == 0:
        return
    trace = quadrupoles.diagonal(dim1=2, dim2=3).sum(dim=-1)
    skew = (quadrupoles - quadrupoles.transpose(2, 3)).abs().amax(dim=(2, 3))
    allowed = ROUNDINGS * torch.finfo(trace.dtype).eps * quadrupoles.abs().max()
    for wrong, what in ((skew, "symmetric"), (trace.abs(), "traceless")):
        if bool((wrong > allowed).any()):
            atom, channel = torch.nonzero(wrong > allowed)[0].tolist()
            found = quadrupoles[atom, channel].to(torch.float64).tolist()
            raise ValueError(f"`{name}` must be {what}, got {found} of atom {atom}")
