"""Results of structures against the labels that these have."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from les.data.extxyz import DataError
from les.data.labels import NAMES, find_label, similar_keys
from les.response.agreement import QUANTITIES, Agreements
from les.training.errors import RESULTS, UNITS, Errors

logger = logging.getLogger("les")


class Comparison:
    """Errors against labels, and why there are none.

    Args:
        errors: counts the errors.
        agreements: counts those of what is linear in the charges.
    """

    def __init__(self, errors: Errors, agreements: Agreements) -> None:
        self.errors, self.agreements = errors, agreements
        self.bad: list[str] = []
        self.similar: dict[str, list[str]] = {}

    def add(self, where: str, atoms: Any, results: Mapping[str, Any]) -> None:
        """Compare the results of one structure with the labels it has."""
        labels = {}
        for label in dict.fromkeys((*UNITS, *QUANTITIES)):
            try:
                labels[label] = find_label(atoms, label, where)
            except DataError as error:
                self.bad.append(str(error))
                continue
            predicted = RESULTS.get(label, label) in results
            if labels[label] is None and predicted and label not in self.similar:
                self.similar[label] = similar_keys(atoms, label, NAMES[label])
        others = {label: value for label, value in labels.items() if label not in QUANTITIES}
        self.errors.add_structure(results, others, len(atoms))
        self.agreements.add(atoms, results, labels)

    def warn(self, structures: Path) -> None:
        """Log labels that could not be compared, or were not found where they may be."""
        if self.bad:
            logger.warning(
                "%d labels of %s are bad and not compared, the first: %s",
                len(self.bad),
                structures,
                self.bad[0],
            )
        for label, keys in self.similar.items():
            if keys and label not in (*self.errors.sizes, *self.agreements.by_label):
                logger.warning(
                    "%s has no %s to compare with under %s; it has %s, which is not read",
                    structures,
                    label,
                    " or ".join(NAMES[label]),
                    " and ".join(keys),
                )
        self.agreements.warn(structures)
