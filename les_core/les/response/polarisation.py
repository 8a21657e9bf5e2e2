r"""The polarisation along a trajectory, on one branch.

.. math:: \Delta P_\alpha = \sum_i \tfrac{1}{2} \big[Z^*_{i\alpha\beta}(t)
    + Z^*_{i\alpha\beta}(t + \delta t)\big]\, \big[r_{i\beta}(t + \delta t) - r_{i\beta}(t)\big]

The polarisation of a periodic cell has many values, which differ by charges times lattice vectors,
and the sum of charges times positions jumps between them when an atom is wrapped. Its change along
a path has one value, the time integral of the current (R. D. King-Smith, D. Vanderbilt,
Phys. Rev. B 47, 1651 (1993)). This is that integral by the trapezoidal rule, whose error
falls as the square of the step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from les.response.born import BORN_CHARGES


class Polarisation:
    """The change of the dipole of a cell, or of a molecule, since the first of many frames.

    Steps between frames have to be so short that each atom moves to its nearest image; then it does
    not matter whether atoms are wrapped. A longer step cannot be distinguished from the step to
    the nearest image, which is used instead. For instance, along molecular dynamics::

        polarisation = Polarisation(atoms)
        dynamics.attach(lambda: polarisation.update(atoms))

    In a crystal whose charges do not sum to a constant, the integral depends a little on the path,
    and is not exactly zero for a closed path; see ``les.response.sum_rules``.

    Args:
        atoms: the first frame, ``ase.Atoms``.
        bec: its Born effective charges ``[n_atoms, 3, 3]`` or ``[n_atoms, 9]`` [e], the component
            of the polarisation first. The default is the result of the calculator of ``atoms``.

    Attributes:
        change: ``[3]`` [e A], the dipole less that of the first frame. Divided by the volume it is
            the change of the polarisation.

    Raises:
        ValueError: for Born effective charges of another shape or that are not finite.
    """

    def __init__(self, atoms: Any, bec: NDArray[Any] | None = None) -> None:
        self.change = np.zeros(3)
        self._keep(atoms, _born_effective_charges(atoms, bec))
        self._cell = np.array(atoms.cell[:])
        self._pbc = np.array(atoms.pbc)
        self._vectors = np.array(atoms.cell.complete()[:])
        heights = 1.0 / np.linalg.norm(np.linalg.inv(self._vectors), axis=0)
        #: Steps below this have one nearest image [A].
        self._longest = 0.5 * float(heights[self._pbc].min(initial=np.inf))

    def update(self, atoms: Any, bec: NDArray[Any] | None = None) -> NDArray[np.float64]:
        """Add the step to the next frame.

        Args:
            atoms: the next frame, of the same atoms in the same order.
            bec: its Born effective charges, as for the first frame.

        Returns:
            ``[3]`` [e A], the change since the first frame.

        Raises:
            ValueError: for other atoms, another cell or other periodic axes than in the first
                frame, Born effective charges as for the first frame, and a nearest image that may
                not be the nearest: as far away as half the height of the cell, or farther.
        """
        if not np.array_equal(atoms.numbers, self._numbers):
            raise ValueError("`atoms` must be those of the first frame, in the same order")
        if not np.array_equal(atoms.pbc, self._pbc):
            raise ValueError(
                f"`atoms` must have the periodic axes of the first frame, {self._pbc.tolist()}, "
                f"got {atoms.pbc.tolist()}"
            )
        if not np.allclose(atoms.cell[self._pbc], self._cell[self._pbc], rtol=0.0, atol=1e-9):
            raise ValueError(
                f"`atoms` must have the cell of the first frame, {self._cell.tolist()}, got "
                f"{atoms.cell[:].tolist()}: there is no polarisation to follow in a cell that "
                "changes"
            )
        step = self._shortest(atoms.positions - self._positions)
        lengths = np.linalg.norm(step, axis=1)
        if not np.isfinite(lengths).all() or lengths.max(initial=0.0) >= self._longest:
            atom = int(np.argmax(np.where(np.isfinite(lengths), lengths, np.inf)))
            raise ValueError(
                f"atom {atom} has moved by {lengths[atom]:.3g} A or by a lattice vector more or "
                f"less: steps must be shorter than half the height of the cell, "
                f"{self._longest:.3g} A, to tell which; take frames closer to one another"
            )
        born = _born_effective_charges(atoms, bec)
        self.change = self.change + np.einsum("iab,ib->a", 0.5 * (self._born + born), step)
        self._keep(atoms, born)
        return self.change.copy()

    def _shortest(self, step: NDArray[np.float64]) -> NDArray[np.float64]:
        """``step`` ``[n_atoms, 3]`` [A] to the nearest image.

        That is what rounding gives where it is shorter than half the smallest height of the cell.
        """
        scaled = step @ np.linalg.inv(self._vectors)
        return step - (np.round(scaled) * self._pbc) @ self._vectors

    def _keep(self, atoms: Any, born: NDArray[np.float64]) -> None:
        self._numbers = atoms.numbers.copy()
        self._positions = atoms.positions.copy()
        self._born = born


def _born_effective_charges(atoms: Any, bec: NDArray[Any] | None) -> NDArray[np.float64]:
    """``bec`` ``[n_atoms, 3, 3]``, those of the calculator where none are given."""
    if bec is None:
        if atoms.calc is None:
            raise ValueError("`bec` must be given, or `atoms` have a calculator with bec=True")
        bec = atoms.calc.get_property(BORN_CHARGES, atoms)
    born = np.array(bec, dtype=np.float64)
    n_atoms = len(atoms)
    if born.shape not in ((n_atoms, 3, 3), (n_atoms, 9)):
        raise ValueError(
            f"`bec` must have shape [n_atoms, 3, 3] or [n_atoms, 9] with n_atoms = {n_atoms}, got "
            f"{list(born.shape)}"
        )
    if not np.isfinite(born).all():
        raise ValueError("`bec` must be finite, got NaN or infinite values")
    return born.reshape(n_atoms, 3, 3)
