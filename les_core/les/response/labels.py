"""Labels of responses to train on, which some frames of a file have and others have not."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

import numpy as np

from les.data.extxyz import DataError
from les.response.agreement import has_unique_moments

logger = logging.getLogger("les")

Value = TypeVar("Value")

#: Label of a response that can be trained on -> what it is called in messages.
RESPONSES = {"bec": "Born effective charges", "dipole": "a dipole"}


class ResponseLabels:
    """Counts the frames of one file that have responses to train on, to say so once.

    A frame that has one may do without other labels: responses often come from calculations of
    their own, whose energies do not compare with those of the other frames.

    Args:
        path: the file, for messages.
        responses: labels of :data:`RESPONSES` that have a weight in the loss.
    """

    def __init__(self, path: Any, responses: Collection[str]) -> None:
        self.path, self.responses = path, tuple(responses)
        self.n_frames = 0
        self.counts: Counter[str] = Counter()
        self.n_ambiguous = 0
        self._of_that_shape: dict[str, set[str]] = {label: set() for label in self.responses}

    def usable(self, atoms: Any, found: Mapping[str, Value | None]) -> dict[str, Value | None]:
        """The responses of one frame that a model can be trained on.

        Args:
            atoms: ``ase.Atoms``.
            found: each of the responses -> its label, ``None`` where the frame has none.

        Returns:
            The same without a dipole that has no unique value: that of a periodic structure is
            defined up to lattice vectors, and that of an ion depends on the origin.
        """
        usable = dict(found)
        for label in self.responses:
            if usable.get(label) is None:
                self._of_that_shape[label].update(_of_shape(atoms, label))
        if usable.get("dipole") is not None and not has_unique_moments(atoms):
            usable["dipole"] = None
            self.n_ambiguous += 1
        return usable

    def count(self, labels: Mapping[str, object]) -> None:
        """Count the labels of one frame that are not ``None``."""
        self.n_frames += 1
        self.counts.update(label for label, value in labels.items() if value is not None)

    def tell(self, required: Collection[str], *, needed: bool) -> None:
        """Log how many frames each term of the loss has, where it does not have all.

        Args:
            required: labels that the frames without a response have.
            needed: whether the file must have each response in some frame.

        Raises:
            DataError: if no frame has one that is needed.
        """
        if self.n_ambiguous:
            logger.warning(
                "%s: %d of %d structures are periodic or charged and have a dipole, which has no "
                "unique value there and is left out; train on Born effective charges instead",
                *(self.path, self.n_ambiguous, self.n_frames),
            )
        for label in self.responses:
            if needed and not self.counts[label]:
                which = "open and neutral structure" if label == "dipole" else "structure"
                others = ", ".join(sorted(self._of_that_shape[label]))
                raise DataError(
                    f"{self.path}: no {which} has {RESPONSES[label]}, which --{label}_weight is "
                    f"for; name the right key with --{label}_key"
                    + (f" (of that shape: {others})" if others else "")
                )
        if not self.responses:
            return
        for label in (*self.responses, *required):
            if self.counts[label] < self.n_frames:
                logger.info(
                    "%s: %d of %d structures have the %s; the others do not count in that term",
                    *(self.path, self.counts[label], self.n_frames, label),
                )


def _of_shape(atoms: Any, label: str) -> list[str]:
    """Names of the entries of a structure that have the shape of a response."""
    if label == "bec":
        return [name for name, x in atoms.arrays.items() if x.shape == (len(atoms), 9)]
    return [name for name, x in atoms.info.items() if np.shape(x) == (3,)]
