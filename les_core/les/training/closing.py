"""How every training ends: errors of the best model, where it is, and how to use it."""

from __future__ import annotations

import logging
import random
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from les.data.atoms import unused_labels_told
from les.data.labels import labelled_frames
from les.training.charges import SMALL_CHARGE, charges_in_words
from les.training.errors import Errors, table

if TYPE_CHECKING:
    import argparse

    from les.backends import Backend

logger = logging.getLogger("les")

#: Frames as ``les.data.labels.labelled_frames`` gives them: place, ``ase.Atoms``, labels.
Frames = Iterable[tuple[str, Any, Mapping[str, Any]]]


#: Frames of each set that are evaluated at most: all may take hours, and the mean errors of these
#: are those of all to some per cent.
MOST_FRAMES = 1000


def labelled_sets(
    options: argparse.Namespace, required: Sequence[str], **settings: Any
) -> dict[str, Frames]:
    """The labelled frames of the files that a training has read, by the names of the sets.

    Args:
        options: of ``les.training.arguments.TrainingParser``, with ``train_file``, ``valid_file``
            and maybe ``test_file``.
        required: labels that every frame has.
        settings: further arguments of ``les.data.labels.labelled_frames``.
    """
    paths = {name: getattr(options, f"{name}_file") for name in ("train", "valid", "test")}
    return {
        name: labelled_frames(path, required, told=True, **settings)
        for name, path in paths.items()
        if path is not None
    }


def sample(frames: Frames, most: int, name: str = "") -> tuple[list[Any], int]:
    """At most ``most`` of the frames, each with the same chance, and how many there are.

    Neither the beginning of a file nor every n-th frame of it need be like the rest. The same
    frames are chosen each time, and no more than these are held in memory.

    Args:
        frames: the frames, which are read once.
        most: how many to take.
        name: what the progress bar is about.
    """
    from tqdm import tqdm

    chosen: list[Any] = []
    chance = random.Random(0)
    total = 0
    for frame in tqdm(frames, desc=f"reading {name}", unit="structure", leave=False):
        total += 1
        if len(chosen) < most:
            chosen.append(frame)
        elif (place := chance.randrange(total)) < most:
            chosen[place] = frame
    return chosen, total


def errors_of(calculator: Any, frames: Frames, name: str = "") -> Errors:
    """Errors of a calculator's results on labelled frames.

    Args:
        calculator: an ASE calculator.
        frames: the frames; labels that are ``None`` do not count.
        name: what the progress bar is about.

    Raises:
        ValueError: for a frame that cannot be evaluated; the message names it.
    """
    from tqdm import tqdm

    errors = Errors.of(calculator)
    for where, atoms, labels in tqdm(frames, desc=f"errors on {name}", unit="structure"):
        try:
            with unused_labels_told():  # by who reads the frames
                calculator.calculate(atoms)
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"{where}: {error}") from error
        errors.add_structure(calculator.results, labels, len(atoms))
    return errors


def close(
    backend: Backend,
    model: Path,
    sets: Mapping[str, Frames],
    *,
    device: str = "cpu",
    head: str | None = None,
    bec: bool = False,
) -> dict[str, Errors]:
    """Evaluate the model file that a training left, and log what its user wants to know.

    The model goes through the same calculator as everyone's: what the table says is what one gets.
    Where the model is and how to use it is logged first, and stays true if a structure fails.
    Of each set at most :data:`MOST_FRAMES` frames are evaluated, chosen by :func:`sample`; where
    there are more, the table says so.

    Args:
        backend: whose model it is.
        model: the file, which loads without running code.
        sets: ``"train"``, ``"valid"`` and maybe ``"test"``, with their labelled frames; none where
            the frames are not in memory, and there is no table then.
        device: where to compute.
        head: which head of a model that has several.
        bec: evaluate Born effective charges.

    Returns:
        The errors of each set, by its name and, if there are more frames, how many were taken.

    Raises:
        ValueError: for a frame that cannot be evaluated; the message names it.
    """
    option, keyword, which = "", "", ""
    if head is not None:
        option, keyword, which = (
            f" --head {shlex.quote(head)}",
            f", head={head!r}",
            f", head {head}",
        )
    path = shlex.quote(str(model))
    logger.info("best model: %s%s", model, which)
    logger.info("  on the command line: les predict %s structures.xyz%s", path, option)
    logger.info(
        "  in Python: from %s import LESCalculator; atoms.calc = LESCalculator(%r%s)",
        *(backend.package, str(model), keyword),
    )
    if not sets:
        return {}
    calculator = backend.calculator(model, device=device, head=head, bec=bec)
    errors = {}
    for name, frames in sets.items():
        chosen, total = sample(frames, MOST_FRAMES, name)
        row = name if len(chosen) == total else f"{name} ({len(chosen)} of {total})"
        errors[row] = errors_of(calculator, chosen, row)
    logger.info("errors of the best model%s:\n%s", which, table(errors))
    _tell_charges(errors)
    return errors


def _tell_charges(errors: Mapping[str, Errors]) -> None:
    """Log how large the charges are on the validation set, or else on the last set."""
    sets = {name: each.charges.values() for name, each in errors.items()}
    of_charges = {name: values for name, values in sets.items() if values}
    if not of_charges:
        return
    names = sorted(of_charges, key=lambda name: name.startswith("valid"))
    values = of_charges[names[-1]]
    logger.info("%s: %s", names[-1], charges_in_words(values))
    if values["valid_charge_rms"] < SMALL_CHARGE:
        logger.warning(
            "the charges have stayed small, and the long-range energy with them: "
            "docs/learning-charges.md says what to do where they should be larger"
        )
