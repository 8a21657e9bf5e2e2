r"""Charges, dipoles and quadrupoles as sources of one sum.

A point with charge q, dipole **u** and quadrupole Q is the density
:math:`(q-\mathbf u\cdot\nabla+\frac12Q:\nabla\nabla)\,\delta(\mathbf r-\mathbf r_i)`, so that its
part of a structure factor is

.. math:: \Big(q+\sum_au_a\partial_a+\tfrac12\sum_{ab}Q_{ab}\partial_a\partial_b\Big)
    e^{i\mathbf k\cdot\mathbf r_i}.

Every basis has these derivatives (``les.sums.bases.adjoint``). Hence moments are numbers at atoms
like charges, one for each derivative: 1 with charges, 4 with dipoles, 10 with quadrupoles, with
:math:`Q_{aa}/2` of the diagonal and :math:`Q_{ab}` of each pair a < b. The derivatives of the
energy with respect to them are the potential, its gradient, and its second derivatives.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from les.sums.bases.adjoint import NONE, Derivative
from les.sums.system import System

_FIRST: tuple[Derivative, ...] = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
_SECOND: tuple[Derivative, ...] = (
    *((2, 0, 0), (0, 2, 0), (0, 0, 2)),
    *((1, 1, 0), (1, 0, 1), (0, 1, 1)),
)

#: Axes of the second derivatives.
PAIRS_OF_AXES = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))

#: What sources multiply, by the number of sources of an atom and a channel.
DERIVATIVES: dict[int, tuple[Derivative, ...]] = {
    1: (NONE,),
    4: (NONE, *_FIRST),
    10: (NONE, *_FIRST, *_SECOND),
}


class Moments(NamedTuple):
    """Moments of atoms, one set for each channel.

    Attributes:
        charges: ``[n_atoms, n_channels]`` [e].
        dipoles: ``[n_atoms, n_channels, 3]`` [e A], or ``None``.
        quadrupoles: ``[n_atoms, n_channels, 3, 3]`` [e A^2], symmetric, or ``None``.
    """

    charges: Tensor
    dipoles: Tensor | None
    quadrupoles: Tensor | None

    @property
    def n_sources(self) -> int:
        """The number of sources of an atom and a channel."""
        if self.quadrupoles is not None:
            return 10
        return 1 if self.dipoles is None else 4

    def as_sources(self) -> Tensor:
        """Sources ``[n_atoms, n_sources * n_channels]``, source after source."""
        parts = [self.charges.unsqueeze(1)]
        if self.n_sources > 1:
            dipoles = self.dipoles
            if dipoles is None:
                dipoles = self.charges.new_zeros([*self.charges.shape, 3])
            parts.append(dipoles.transpose(1, 2))
        if self.quadrupoles is not None:
            twice = self.quadrupoles + self.quadrupoles.transpose(2, 3)
            parts += [
                ((0.25 if a == b else 0.5) * twice[:, :, a, b]).unsqueeze(1)
                for a, b in PAIRS_OF_AXES
            ]
        return torch.cat(parts, dim=1).flatten(1)


class Fields(NamedTuple):
    r"""What atoms feel, one set for each channel.

    Attributes:
        potential: :math:`\phi=\partial E/\partial q` ``[n_atoms, n_channels]`` [eV/e].
        gradient: :math:`\nabla\phi=\partial E/\partial\mathbf u`, the negative field
            ``[n_atoms, n_channels, 3]`` [eV/(e A)]; ``None`` with charges alone.
        second: :math:`\nabla\nabla\phi` without its trace, which traceless quadrupoles do not
            feel: twice the derivative with respect to these ``[n_atoms, n_channels, 3, 3]``
            [eV/(e A^2)]; ``None`` without quadrupoles.
    """

    potential: Tensor
    gradient: Tensor | None
    second: Tensor | None

    @staticmethod
    def of(values: Tensor, n_sources: int) -> Fields:
        """From derivatives of energies with respect to sources, in their shape."""
        columns = values.unflatten(1, (n_sources, -1))
        gradient = second = None
        if n_sources > 1:
            gradient = columns[:, 1:4].transpose(1, 2)
        if n_sources > 4:
            diagonal = columns[:, 4:7] - columns[:, 4:7].mean(dim=1, keepdim=True)
            xx, yy, zz = diagonal.unbind(1)
            xy, xz, yz = columns[:, 7:].unbind(1)
            rows = [torch.stack(row, dim=-1) for row in ((xx, xy, xz), (xy, yy, yz), (xz, yz, zz))]
            second = torch.stack(rows, dim=-2)
        return Fields(columns[:, 0], gradient, second)


def factors_of_squares(sigma: float) -> tuple[float, float, float]:
    r"""Interaction of Gaussian multipoles with themselves, per that of charges.

    :math:`q^2+|\mathbf u|^2/3\sigma^2+|Q|^2/10\sigma^4`, the last for a traceless quadrupole.

    Args:
        sigma: width of the Gaussians [A].
    """
    return 1.0, 1.0 / (3.0 * sigma**2), 1.0 / (10.0 * sigma**4)


def self_factors(system: System, sigma: float) -> Tensor | None:
    """The factors of :func:`factors_of_squares` for the columns of ``system.charges``.

    Args:
        system: the sources.
        sigma: width of the Gaussians [A].

    Returns:
        ``[n_sources * n_channels]``, or ``None`` for charges alone, where all are 1.
    """
    if system.n_sources == 1:
        return None
    return factors_of_columns(system.charges, system.charges.shape[1], system.n_sources, sigma)


def factors_of_columns(like: Tensor, n_columns: int, n_sources: int, sigma: float) -> Tensor:
    """As :func:`self_factors`, for ``n_columns`` numbers in the dtype of ``like``."""
    charge, dipole, quadrupole = factors_of_squares(sigma)
    # Sources have half of the diagonal, and one of two equal numbers beside it.
    factors = [charge, *[dipole] * 3, *[4.0 * quadrupole] * 3, *[2.0 * quadrupole] * 3][:n_sources]
    found = torch.tensor(factors, dtype=like.dtype, device=like.device)
    return found.repeat_interleave(n_columns // n_sources)


def along_axes(axes: Tensor, n_sources: int) -> Tensor:
    r"""Matrices that turn sources into those with respect to other coordinates.

    Args:
        axes: :math:`\partial s_b/\partial r_a` ``[n_structures, 3, 3]``, with b along rows.
        n_sources: of an atom and a channel.

    Returns:
        ``[n_structures, n_sources, n_sources]``. Their transposes turn derivatives with respect to
        the new sources into those with respect to the old ones.
    """
    n_structures = axes.shape[0]
    one = torch.ones_like(axes[:, :1, :1])
    blocks = [one] if n_sources == 1 else [one, axes]
    if n_sources > 4:
        rows = []
        for b, c in PAIRS_OF_AXES:
            columns = [axes[:, b, a] * axes[:, c, d] for a, d in PAIRS_OF_AXES]
            if b != c:
                others = [axes[:, c, a] * axes[:, b, d] for a, d in PAIRS_OF_AXES]
                columns = [x + y for x, y in zip(columns, others, strict=True)]
            rows.append(torch.stack(columns, dim=-1))
        blocks.append(torch.stack(rows, dim=-2))
    found = []
    start = 0
    for block in blocks:
        size = block.shape[1]
        before = block.new_zeros([n_structures, size, start])
        after = block.new_zeros([n_structures, size, n_sources - start - size])
        found.append(torch.cat([before, block, after], dim=2))
        start += size
    return torch.cat(found, dim=1)


def turned(values: Tensor, matrices: Tensor) -> Tensor:
    """Matrices ``[n, n_sources, n_sources]``, or one, times values of the sources.

    Args:
        values: ``[n, n_sources * n_channels, ...]``, in rows or of atoms.
        matrices: those of :func:`along_axes`, or their transposes.
    """
    columns = values.unflatten(1, (matrices.shape[1], -1)).flatten(2)
    return (matrices @ columns).reshape(values.shape)
