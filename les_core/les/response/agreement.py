r"""How well what is linear in the charges agrees with a reference: figures of merit.

The common sign of all charges is a gauge (``les.response.gauge``), fixed before anything is
compared: results are taken with the sign they have, never with the better one. Nor is their scale
fitted: root mean square error and R2 are those of results as they are, which contain
:math:`\sqrt{\epsilon_\infty}`. The scale that would fit best,
:math:`s = \sum x y / \sum x^2` of results x and references y, and R2 after it tell how much of the
error is a common factor.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from les.data.atoms import labels_without_effect
from les.response.born import BORN_CHARGES
from les.tables import aligned, number_text

logger = logging.getLogger("les")


class Quantity(NamedTuple):
    """A quantity that is linear in the charges.

    Attributes:
        title: what tables call it.
        result: its name among the results of calculators.
        unit: its unit.
        n_components: number of its components.
        per_atom: whether there is one for each atom, rather than for a structure.
        has_acoustic_sum: whether its sum over the atoms of a structure is zero by a sum rule.
    """

    title: str
    result: str
    unit: str
    n_components: int
    per_atom: bool = False
    has_acoustic_sum: bool = False


#: Label -> what it is.
QUANTITIES = {
    "charges": Quantity("charges", "charges", "e", 1, per_atom=True),
    "dipole": Quantity("dipoles", "dipole", "e A", 3),
    "quadrupole": Quantity("traceless quadrupoles", "quadrupole", "e A^2", 9),
    "bec": Quantity(
        "Born effective charges", BORN_CHARGES, "e", 9, per_atom=True, has_acoustic_sum=True
    ),
}

#: Figure -> head of its column.
HEADS = {
    "n_values": "values",
    "rmse": "RMSE",
    "scale": "best-fit scale",
    "r2": "R2",
    "r2_scaled": "R2 with that scale",
    "acoustic_sum": "acoustic sum",
    "acoustic_sum_reference": "of the reference",
}


class Agreement:
    """Figures of merit of one quantity, all of whose components count the same.

    Args:
        quantity: one of :data:`QUANTITIES`.
    """

    def __init__(self, quantity: Quantity) -> None:
        self.quantity = quantity
        self.n_values = self.n_sums = 0
        self.squared_error = self.product = 0.0
        self.predicted_square = self.expected_square = self.expected_sum = 0.0
        self.acoustic_square = self.expected_acoustic_square = 0.0

    def add(self, predicted: NDArray[Any], expected: NDArray[Any]) -> None:
        """Count one structure.

        Args:
            predicted: ``[n_atoms]`` of charges, ``[3]`` of a dipole, ``[3, 3]`` or ``[9]`` of a
                quadrupole, ``[n_atoms, 3, 3]`` or ``[n_atoms, 9]`` of Born effective charges.
            expected: the reference, of as many components.
        """
        x, y = (np.asarray(values, dtype=np.float64) for values in (predicted, expected))
        x, y = (values.reshape(-1, self.quantity.n_components) for values in (x, y))
        if self.quantity.has_acoustic_sum:
            self.n_sums += self.quantity.n_components
            self.acoustic_square += float(np.square(x.sum(axis=0)).sum())
            self.expected_acoustic_square += float(np.square(y.sum(axis=0)).sum())
        if self.quantity is QUANTITIES["quadrupole"]:
            x, y = traceless(x), traceless(y)
        self.n_values += y.size
        self.squared_error += float(np.square(x - y).sum())
        self.product += float((x * y).sum())
        self.predicted_square += float(np.square(x).sum())
        self.expected_square += float(np.square(y).sum())
        self.expected_sum += float(y.sum())

    def figures(self) -> dict[str, float | None]:
        """All figures by the names of :data:`HEADS`; ``None`` where one is not defined.

        ``rmse`` has the unit of the quantity. ``acoustic_sum`` is the root mean square, over
        components and structures, of the sums of Born effective charges over atoms [e].
        """
        n = max(self.n_values, 1)
        variance = self.expected_square - self.expected_sum**2 / n
        scaled, scale = self.expected_square, None
        if self.predicted_square > 0.0:
            scale = self.product / self.predicted_square
            scaled -= self.product * scale
        figures: dict[str, float | None] = {
            "n_values": self.n_values,
            "rmse": math.sqrt(self.squared_error / n) if self.n_values else None,
            "scale": scale,
            "r2": 1.0 - self.squared_error / variance if variance > 0.0 else None,
            "r2_scaled": 1.0 - scaled / variance if variance > 0.0 else None,
        }
        if self.n_sums:
            figures["acoustic_sum"] = math.sqrt(self.acoustic_square / self.n_sums)
            figures["acoustic_sum_reference"] = math.sqrt(
                self.expected_acoustic_square / self.n_sums
            )
        return figures


def is_opposite(figures: Mapping[str, float | None]) -> bool:
    """Whether results with the opposite sign would agree better: the gauge may be wrong."""
    scale = figures.get("scale")
    return scale is not None and scale < 0.0


class Agreements:
    """The :class:`Agreement` of all quantities of many structures.

    Attributes:
        by_label: label -> agreement, of those that there are.
        left_out: label -> number of structures whose reference has no unique value.
        n_sums, sum_square: number of the components of acoustic sums, with and without a reference,
            and the sum of their squares [e^2].
    """

    def __init__(self) -> None:
        self.by_label: dict[str, Agreement] = {}
        self.left_out: Counter[str] = Counter()
        self.n_sums, self.sum_square = 0, 0.0

    def add(self, atoms: Any, results: Mapping[str, Any], labels: Mapping[str, Any]) -> None:
        """Count one structure.

        Args:
            atoms: the structure, ``ase.Atoms``.
            results: a calculator's.
            labels: the references, by the names of :data:`QUANTITIES`; ``None`` for a missing one.
        """
        if BORN_CHARGES in results:
            sums = np.reshape(results[BORN_CHARGES], (-1, 9)).sum(axis=0, dtype=np.float64)
            self.n_sums += sums.size
            self.sum_square += float(np.square(sums).sum())
        for label, quantity in QUANTITIES.items():
            expected = labels.get(label)
            if expected is None:
                continue
            if not quantity.per_atom and not has_unique_moments(atoms):
                self.left_out[label] += 1
            elif quantity.result in results:
                agreement = self.by_label.setdefault(label, Agreement(quantity))
                agreement.add(results[quantity.result], expected)

    def figures(self) -> dict[str, dict[str, float | None]]:
        """Label -> :meth:`Agreement.figures`."""
        return {label: agreement.figures() for label, agreement in self.by_label.items()}

    def warn(self, structures: Path) -> None:
        """Log what of the file ``structures`` was not compared, and what agrees with no sign."""
        for label, count in self.left_out.items():
            logger.warning(
                "%d structures of %s have a %s that is not compared: they are periodic or charged, "
                "and it has no unique value",
                count,
                structures,
                label,
            )
        for label, figures in self.figures().items():
            if is_opposite(figures):
                logger.warning(
                    "the %s of %s correlate negatively with the reference: the sign of the charges "
                    "follows from electronegativities, and is not changed by what it is compared "
                    "with",
                    QUANTITIES[label].title,
                    structures,
                )

    def acoustic_sum(self) -> float | None:
        """Root mean square of the sums of all Born effective charges [e], if there are any."""
        return math.sqrt(self.sum_square / self.n_sums) if self.n_sums else None

    def table(self) -> str:
        """All figures as a table, a line for each quantity; empty without any."""
        figures = self.figures()
        names = [name for name in HEADS if any(name in each for each in figures.values())]
        rows = [["", *(HEADS[name] for name in names)]]
        for label, each in figures.items():
            quantity = QUANTITIES[label]
            cells = [number_text(each.get(name)) for name in names]
            rows.append([f"{quantity.title} [{quantity.unit}]", *cells])
        return aligned(rows) if figures else ""


def has_unique_moments(atoms: Any) -> bool:
    """Whether a structure is open and neutral, so that its dipole has one value.

    In a cell it is defined up to lattice vectors, and that of an ion depends on the origin.
    """
    charged = {"total_charge", "charge"} & labels_without_effect(atoms).keys()
    return not atoms.pbc.any() and not charged


def traceless(moments: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quadrupoles less their traces ``[3, 3]``: these are the extent of electron clouds.

    Args:
        moments: ``[3, 3]``, or as many numbers of another shape [e A^2].
    """
    matrix = moments.reshape(3, 3)
    trace: NDArray[np.float64] = np.trace(matrix) / 3.0 * np.eye(3)
    return matrix - trace
