"""Errors of an epoch or a data set, and their table."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from les.response.born import BORN_CHARGES
from les.training.charges import ChargeStatistics

#: Label -> unit in tables, and its factor from the unit of the errors.
UNITS: dict[str, tuple[str, float]] = {
    "energy": ("meV/atom", 1000.0),
    "forces": ("meV/A", 1000.0),
    "stress": ("meV/A^3", 1000.0),
    "magmoms": ("mu_B", 1.0),
    "bec": ("e", 1.0),
    "dipole": ("e A", 1.0),
}

#: Label -> name of a calculator's result, where that is another one.
RESULTS = {"bec": BORN_CHARGES}


class Errors:
    """Loss and errors of many batches; all components of all samples count the same.

    Args:
        unsigned: labels whose magnitudes alone :meth:`add_structure` compares.

    Attributes:
        charges: sizes of the charges with which these errors were made.
    """

    def __init__(self, unsigned: Collection[str] = ()) -> None:
        self.unsigned = unsigned
        self.loss_sum, self.n_batches = 0.0, 0
        self.squares: dict[str, float] = {}
        self.magnitudes: dict[str, float] = {}
        self.sizes: dict[str, int] = {}
        self.charges = ChargeStatistics()

    @classmethod
    def of(cls, calculator: Any) -> Errors:
        """No errors yet, to be counted of the results of an ASE calculator.

        What the calculator names in ``unsigned_labels``, it predicts the magnitudes of.
        """
        return cls(getattr(calculator, "unsigned_labels", ()))

    def add_loss(self, loss: Tensor) -> None:
        """Count the loss of one batch."""
        self.loss_sum += float(loss.detach())
        self.n_batches += 1

    def add(self, label: str, predicted: Tensor, expected: Tensor) -> None:
        """Count the components of one label."""
        error = (predicted - expected).detach().cpu().double()  # not all devices have float64
        self.squares[label] = self.squares.get(label, 0.0) + float(error.square().sum())
        self.magnitudes[label] = self.magnitudes.get(label, 0.0) + float(error.abs().sum())
        self.sizes[label] = self.sizes.get(label, 0) + error.numel()

    def add_structure(
        self, results: Mapping[str, Any], labels: Mapping[str, Any], n_atoms: int
    ) -> None:
        """Count the labels of one structure that a calculator has results for, and its charges.

        Args:
            results: the calculator's, such as ``energy`` [eV] and ``forces`` [eV/A].
            labels: as returned by ``les.data.labels.labelled_frames``; ``None`` for a missing one.
            n_atoms: number of atoms; energies are compared per atom.
        """
        self.charges.add_results(results)
        for label in UNITS:
            expected, name = labels.get(label), RESULTS.get(label, label)
            if expected is None or name not in results:
                continue
            divisor = n_atoms if label == "energy" else 1
            target = torch.as_tensor(expected)
            predicted = torch.as_tensor(results[name]).reshape(target.shape)
            if label in self.unsigned:
                target = target.abs()
            self.add(label, predicted / divisor, target / divisor)

    def loss(self) -> float:
        """Mean over batches."""
        return self.loss_sum / max(self.n_batches, 1)

    def rmse(self, label: str) -> float | None:
        """Root mean square error, ``None`` without any."""
        size = self.sizes.get(label)
        return math.sqrt(self.squares[label] / size) if size else None

    def mae(self, label: str) -> float | None:
        """Mean absolute error, ``None`` without any."""
        size = self.sizes.get(label)
        return self.magnitudes[label] / size if size else None

    def summary(self) -> str:
        """Mean absolute errors and the root mean square charge, in one line."""
        texts = []
        for label in self.sizes:
            unit, factor = UNITS[label]
            texts.append(f"{label} {factor * (self.mae(label) or 0.0):.3g} {unit}")
        text = ", ".join(texts)
        charges = self.charges.values()
        return f"{text}; charges {charges['valid_charge_rms']:.3g} e" if charges else text

    def of_validation(self) -> dict[str, float | None]:
        """The fields of ``les.backends.EpochRecord`` about the validation set."""
        return {
            "valid_loss": self.loss(),
            "valid_energy_rmse": self.rmse("energy"),
            "valid_force_rmse": self.rmse("forces"),
            "valid_bec_rmse": self.rmse("bec"),
            "valid_dipole_rmse": self.rmse("dipole"),
            **self.charges.values(),
        }


def table(sets: Mapping[str, Errors]) -> str:
    """MAE and RMSE of each label, a line per set."""
    labels = [label for label in UNITS if any(label in errors.sizes for errors in sets.values())]
    heads = [f"{label} MAE / RMSE [{UNITS[label][0]}]" for label in labels]
    width = max(map(len, sets))
    lines = [" " * width + " | " + " | ".join(heads)]
    for name, errors in sets.items():
        cells = []
        for label, head in zip(labels, heads):
            values = [errors.mae(label), errors.rmse(label)]
            texts = ["-" if x is None else f"{UNITS[label][1] * x:.3g}" for x in values]
            cells.append(" / ".join(texts).ljust(len(head)))
        lines.append((name.ljust(width) + " | " + " | ".join(cells)).rstrip())
    return "\n".join(lines)
