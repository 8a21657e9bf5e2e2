"""Evaluate a calculator on a file of structures, such that nothing computed is lost."""

from __future__ import annotations

import contextlib
import logging
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from les.backends.attempt import BadStructureError
from les.backends.batches import BATCH_SIZE
from les.backends.signs import restore_sign
from les.data.atoms import UnusedLabels
from les.data.external_field import ExternalFields
from les.data.extxyz import DataError
from les.data.structure_files import Entry, count_structures, entries
from les.files import checksum, replacing
from les.locks import locked
from les.predict.comparison import Comparison
from les.predict.journal import Journal, journal_path
from les.predict.outcomes import outcomes
from les.predict.output import attach, format_of, writer
from les.response.agreement import Agreements
from les.targets import check_target
from les.training.errors import Errors

logger = logging.getLogger("les")


@dataclass
class Prediction:
    """What has been written, and what could not be.

    Attributes:
        n_written: number of structures in the output.
        bad: what is wrong with the others; each names file and frame.
        errors: errors against labels of the structures.
        agreements: figures of merit of dipoles, quadrupoles and Born effective charges.
    """

    n_written: int = 0
    bad: list[str] = field(default_factory=list)
    errors: Errors = field(default_factory=Errors)
    agreements: Agreements = field(default_factory=Agreements)


def check(output: Path, inputs: Iterable[Path], *, force: bool, resume: bool) -> None:
    """Refuse what :func:`predict` would refuse, before a model is loaded.

    Raises:
        ValueError, OSError: as :func:`predict`, for its ``output`` and ``resume``.
    """
    format_of(output)
    check_target(output, inputs, force=force)
    journal = journal_path(output)
    with locked(journal):
        if journal.exists() and not resume:
            raise ValueError(
                f"{journal} keeps the results of a run that has not finished; go on with it by "
                "--resume, or remove it to start again"
            )


def predict(
    calculator: Any,
    structures: Path,
    output: Path,
    identity: Mapping[str, Any] | None = None,
    *,
    resume: bool = False,
    skip_bad: bool = False,
    force: bool = False,
    batch_size: int = BATCH_SIZE,
) -> Prediction:
    """Write the structures of a file with a calculator's results to ``output``.

    The results of each batch go at once to a journal beside ``output``, from which ``output`` is
    written when all are there. So whatever ends the process, ``resume`` goes on where it was.

    Args:
        calculator: an ASE calculator.
        structures: a file of any format that ASE reads.
        output: the file to write; its name says the format. Results are named ``LES_...``.
        identity: what else the results depend on, by name; ``resume`` compares it.
        resume: go on with the journal that an earlier run has left, if there is one.
        skip_bad: leave out structures that cannot be read or evaluated, rather than ending with
            the first. The others then say their place in the input as ``LES_frame``.
        force: replace an ``output`` that is there.
        batch_size: structures that the model evaluates together, fewer where they are large.

    Returns:
        What has been written.

    Raises:
        ValueError: if the input has no structures, or one that cannot be read or evaluated; for an
            ``output`` that is there; if the journal is of another run. The message names the file,
            and frame or what differs.
        OSError: if a file cannot be read or written.
    """
    check(output, [structures], force=force, resume=resume)
    total = sum(1 for _ in _each(structures)) if skip_bad else count_structures(structures)
    content = checksum(structures)
    mode = stat.S_IMODE(output.stat().st_mode) if output.exists() else None
    with locked(journal_path(output)):
        journal = Journal(journal_path(output), {"structures": content, **(identity or {})}, mode)
        try:
            _evaluate(calculator, structures, journal, total, skip_bad, batch_size)
            journal.close()
            if checksum(structures) != content:
                raise ValueError(f"{structures} has changed since this run began")
            check_target(output, [structures], force=force)  # hours may have passed
            prediction = _assemble(calculator, structures, journal, output, with_place=skip_bad)
        except BaseException:
            _keep(journal, total)
            raise
        journal.remove()
    return prediction


def _keep(journal: Journal, total: int) -> None:
    """Leave the journal if there is something in it, and say how to go on."""
    with contextlib.suppress(OSError):
        journal.close()
    if journal.n_records == 0 or not journal.path.exists():
        journal.remove()
        return
    logger.warning(
        "the results of %d of %d structures are kept in %s; the same command with --resume goes on",
        journal.n_records,
        total,
        journal.path,
    )


def _each(structures: Path) -> Iterator[Entry]:
    """The structures of a file; where it is not whole, the last raises when it is read."""
    found = False
    try:
        for entry in entries(structures):
            yield entry
            found = True
    except DataError as error:
        if not found:
            raise
        broken = error

        def fail() -> Any:
            raise broken

        yield str(broken), fail


def _evaluate(
    calculator: Any,
    structures: Path,
    journal: Journal,
    total: int,
    skip_bad: bool,
    batch_size: int,
) -> None:
    """Append the results of all structures that the journal does not have."""
    from tqdm import tqdm

    done = journal.n_records
    left_out = next((kept["bad"] for kept in journal if "bad" in kept), None)
    if left_out is not None and not skip_bad:
        raise ValueError(f"an earlier run left out {left_out} (--skip-bad goes on so)")
    if journal.last is not None:
        restore_sign(calculator, journal.last["sign"])
    with tqdm(total=total, initial=done, unit="structure") as progress:
        rest = islice(_each(structures), done, None)
        for outcome, sign in outcomes(calculator, rest, batch_size):
            if isinstance(outcome, BadStructureError):
                if not skip_bad:
                    raise ValueError(f"{outcome} (--skip-bad leaves it out)") from outcome
                record: dict[str, Any] = {"bad": str(outcome)}
            else:
                record = {"results": outcome}
            journal.append({**record, "sign": sign})
            progress.update()


def _assemble(
    calculator: Any, structures: Path, journal: Journal, output: Path, *, with_place: bool
) -> Prediction:
    """Write the output from the structures and the results that the journal has.

    ``with_place`` makes each structure say its place in the input.
    """
    prediction = Prediction(errors=Errors.of(calculator))
    unused = UnusedLabels(getattr(calculator, "used_labels", ()))
    fields = None
    if getattr(calculator, "uses_external_field", False):
        fields = ExternalFields(*calculator.field_names)
    comparison = Comparison(prediction.errors, prediction.agreements)
    with replacing(output) as temporary, writer(temporary, format_of(output)) as write:
        for frame, ((where, load), record) in enumerate(
            zip(_each(structures), journal, strict=True)
        ):
            if "bad" in record:
                prediction.bad.append(record["bad"])
                continue
            atoms = load()
            unused.add(atoms)
            if fields is not None:
                fields.add(atoms)
            comparison.add(where, atoms, record["results"])
            attach(atoms, record["results"])
            if with_place:
                atoms.info["LES_frame"] = frame
            write(atoms)
            prediction.n_written += 1
        if prediction.n_written == 0:
            journal.remove()  # to go on with it would end here again
            raise ValueError(
                f"{structures} has no structure that can be evaluated: {prediction.bad[0]}"
            )
    unused.warn(structures)
    if fields is not None:
        fields.tell(structures, "written")
    comparison.warn(structures)
    return prediction
