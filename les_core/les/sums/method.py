r"""The contract of the sum: what is summed, how, with which weights, and who does the loops.

A *method* sums structures of one kind: over k-points, on a mesh, or over pairs. Which structures
take which method is decided in ``les.sums.plan``, and nowhere else. The loops over atoms, k-points
and mesh points are the part of an *engine*: operations of torch, or compiled kernels. Methods do
not know which.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

from torch import Tensor

from les.sums.bases.fourier import Fourier
from les.sums.bases.mesh_waves import Splines
from les.sums.bases.splines import MeshShape
from les.sums.reciprocal.accuracy import Resolution
from les.sums.reciprocal.cutoff import GreensFunction, cutoff_ends
from les.sums.survey import Look
from les.sums.system import Given, System


class Settings(NamedTuple):
    """What ``les.Ewald`` was built with, which describes them."""

    sigma: float
    dl: float
    method: str
    cutoff: str
    remove_self_interaction: bool
    norm_factor: float
    spacing: float
    order: int

    @property
    def resolution(self) -> Resolution:
        """How fine the periodic sum is."""
        return Resolution(self.dl, self.spacing, self.order)

    @property
    def greens(self) -> GreensFunction:
        """The periodic Green's function."""
        ends = cutoff_ends(2.0 * math.pi / self.dl, self.cutoff == "smooth")
        return GreensFunction(self.sigma, *ends)

    def coefficients(self, periodic: bool) -> Coefficients:
        """What makes energies of bare sums."""
        coulomb_constant = self.norm_factor / (2.0 * math.pi)
        self_interaction = coulomb_constant / (self.sigma * math.sqrt(2.0 * math.pi))
        if periodic:
            # All k-points together contain the interaction of each charge with itself.
            remaining = -self_interaction if self.remove_self_interaction else 0.0
            return Coefficients(self.norm_factor, remaining)
        remaining = 0.0 if self.remove_self_interaction else self_interaction
        return Coefficients(coulomb_constant, remaining)


#: A sum per structure ``[n_structures]``, and its derivative with respect to the charges, in their
#: shape; ``None`` where it was not asked for.
Sums = tuple[Tensor, Tensor | None]


class Coefficients(NamedTuple):
    """An energy is ``prefactor`` times a bare sum plus ``of_squares`` times the squared charges."""

    #: [eV A / e^2].
    prefactor: float
    #: [eV / e^2].
    of_squares: float

    def energies(
        self,
        bare: Sums,
        charges: Tensor,
        owner: Tensor | None = None,
        factors: Tensor | None = None,
    ) -> Sums:
        """Energies [eV] and potentials [eV / e] of bare sums and their derivatives.

        Args:
            bare: the sums.
            charges: in rows ``[n_structures, n_channels, n_atoms]``, or ``[n_atoms, n_channels]``.
            owner: structure of each atom, where charges are not in rows.
            factors: of the squares, one for each column of charges; 1 without them.
        """
        energy, potential = bare
        energy = self.prefactor * energy
        weighted = charges
        if factors is not None:
            weighted = charges * (factors.unsqueeze(-1) if owner is None else factors)
        if self.of_squares != 0.0:
            squares = self.of_squares * (charges * weighted)
            if owner is None:
                energy = energy + squares.sum(dim=(1, 2))
            else:
                energy = energy.index_add(0, owner, squares.sum(dim=1))
        if potential is None:
            return energy, None
        return energy, self.prefactor * potential + 2.0 * self.of_squares * weighted


class Part(NamedTuple):
    """Structures that are summed alike."""

    system: System
    #: Number of atoms of the largest structure.
    width: int
    #: Largest numbers of the k-points along each axis, where they are known already.
    extent: list[int] | None = None


class Cells(NamedTuple):
    """Charges in cells, one row of atoms per structure."""

    #: ``[n_structures, n_channels, n_atoms]`` [e]; zero on padding atoms.
    charges: Tensor
    #: ``[n_structures, n_atoms, 3]`` [A]; anything finite on padding atoms.
    positions: Tensor
    #: ``[n_structures, 3, 3]`` [A], rows are lattice vectors, of either handedness.
    cell: Tensor
    #: Where the Green's functions of slabs end ``[n_structures]`` [A]; see ``System``.
    half_height: Tensor | None
    #: Largest numbers of the k-points along each axis.
    extent: tuple[int, int, int]
    #: As in ``System``.
    n_sources: int = 1


class WaveCharges(NamedTuple):
    """Charges where plane waves see them, one row of atoms per structure."""

    #: ``[n_structures, n_channels, n_atoms]`` [e].
    charges: Tensor
    #: Wrapped coordinates ``[n_structures, n_atoms, 3]``.
    fractional: Tensor
    #: Largest numbers of the waves along each axis.
    extent: tuple[int, int, int]
    #: As in ``System``; sources are those with respect to the wrapped coordinates.
    n_sources: int = 1


class FirstAndSecond(Protocol):
    """Energies ``[n_structures]`` of arguments ``[n_structures, ...]``, and their derivatives.

    What implements this is a faster way for the whole of a sum, and must give what the method
    gives by operations of torch. Where arguments have rows for atoms, :meth:`factors`,
    :meth:`totals` and :meth:`copies` say so.
    """

    def factors(self, values: Tensor, place: int) -> Tensor:
        """Values ``[n_structures]`` for each row of the argument at ``place``, or one for all."""
        return values

    def totals(self, values: Tensor, place: int) -> Tensor:
        """Sums ``[n_structures]`` of values like the argument at ``place``."""
        return values.flatten(1).sum(dim=1)

    def copies(self, n: int) -> FirstAndSecond:
        """The same for arguments of ``n`` batches, one after the other."""
        return self

    def plain(self, *arguments: Tensor) -> Tensor:
        """The energies by operations of torch, for derivatives beyond the second."""

    def first(self, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Energies, and their derivatives with respect to each argument."""

    def second(
        self, arguments: tuple[Tensor, ...], directions: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """Change of the derivatives in a direction, which has a part for each argument."""


class Engine(Protocol):
    """Who does the loops. All results but those of ``look`` are differentiable."""

    @property
    def compiled(self) -> bool:
        """Whether there are compiled kernels, which decides where a mesh is faster."""

    def look(self, given: Given, dl: float) -> Look:
        """Look at the values of the arguments."""

    def greens_function(self, k_squared: Tensor, greens: GreensFunction) -> Tensor:
        """Values of the periodic Green's function ``greens`` at ``k_squared`` [1/A^2]."""

    def waves(self, waves: WaveCharges, weights: Tensor, compute_potential: bool) -> Sums:
        """Sums over waves with ``weights``, as ``direct.sum_over_waves``."""

    def cell_kernels(
        self,
        extent: tuple[int, int, int],
        greens: GreensFunction,
        coefficients: Coefficients,
        of_cell: bool,
        n_sources: int,
    ) -> FirstAndSecond | None:
        """Kernels for ``direct.direct_sum`` but slabs, of charges, positions, cells in rows.

        Without ``of_cell``, their derivatives with respect to cells are zero.
        """

    def pair_kernels(
        self, sigma: float, coefficients: Coefficients, n_sources: int
    ) -> FirstAndSecond | None:
        """Kernels for ``pairs.open_sum``, of charges and positions in rows."""

    @property
    def fourier(self) -> Fourier:
        """Who transforms meshes."""

    def splines(
        self, fractional: Tensor, owner: Tensor | None, shape: MeshShape, order: int
    ) -> Splines:
        """The basis of a mesh; arguments are those of ``bases.splines.SplineMesh``."""


class Method(NamedTuple):
    """One way to sum."""

    periodic: bool
    #: Energies [eV] of a part, and, if the last argument says so, potentials [eV / e].
    evaluate: Callable[[Part, Settings, Engine, bool], Sums]
    #: Kernels for all of it, functions of charges, positions and, if it is periodic, cells of the
    #: part, where there are some. The last argument says whether cells are differentiated.
    kernels: Callable[[Part, Settings, Engine, bool], FirstAndSecond | None] | None = None
