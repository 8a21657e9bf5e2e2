"""Labels of a teacher on a file of structures, such that nothing computed is lost."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from les.backends.attempt import BadStructureError, attempt
from les.data.structure_files import count_structures, entries
from les.distillation.configurations import without_labels
from les.distillation.finite_differences import check_forces
from les.distillation.limits import check_distances, check_energy, check_force, check_labels
from les.distillation.provenance import plain
from les.distillation.settings import LimitSettings
from les.distillation.teachers import OF_ATOMS, OF_STRUCTURES, Teacher
from les.files import checksum, replacing
from les.predict.journal import Journal
from les.predict.output import writer
from les.spectra.table_journal import table_journal

logger = logging.getLogger("les")

#: Start of the names of labels in files.
PREFIX = "REF_"


class NothingLabelledError(ValueError):
    """None of the structures can be labelled."""


def label(
    teacher: Teacher,
    structures: Path,
    output: Path,
    limits: LimitSettings,
    *,
    name: str = "",
    replace: bool = False,
) -> dict[str, Any]:
    """Write the structures of a file with the labels of a teacher, instead of those they have.

    Before any label is made, the teacher's forces are compared with finite differences of its
    energy on the first structure. Each label goes at once to a journal beside ``output``, from
    which ``output`` is written when all are there, so that the same call goes on after an
    interruption. The journal stays; whoever calls removes it.

    Args:
        teacher: the teacher.
        structures: a file of any format that ASE reads.
        output: the file to write, extended XYZ; labels are ``REF_energy`` [eV], ``REF_forces``
            [eV/A], ``REF_stress`` [eV/A^3] and others that the teacher gives.
        limits: what counts as exploded.
        name: what the structures call the teacher.
        replace: forget a journal of another run.

    Returns:
        The number of labelled structures, those left out, and the check of the forces.

    Raises:
        NothingLabelledError: if no structure is left.
        ValueError: for a structure that cannot be labelled, unless ``limits.skip_bad``; the message
            names file and frame. For a teacher whose forces do not match its energy.
    """
    content = checksum(structures)
    identity = {
        "structures": content,
        "teacher": teacher.provenance,
        "closeness": limits.closeness,
    }

    def use(atoms: Any) -> dict[str, Any]:
        check_distances(atoms, limits)
        results = teacher.results(atoms)
        check_labels(results, len(atoms))
        if not limits.skip_bad:  # else when all are there: another limit needs no new labels
            check_force(results["forces"], limits)
        return results

    with table_journal(output, plain(identity), replace) as journal:
        check = _check(use, teacher, structures, limits.skip_bad, journal)
        _evaluate(use, structures, limits.skip_bad, journal)
        if checksum(structures) != content:
            raise ValueError(f"{structures} has changed since this run began")
        bad = _write(structures, journal, output, limits, name or teacher.provenance["teacher"])
        n_labelled = journal.n_records - 1 - len(bad)
    return {
        "teacher": teacher.provenance,
        "n_labelled": n_labelled,
        "left_out": bad,
        "forces_against_differences": check,
    }


def _check(
    use: Callable[[Any], Any], teacher: Teacher, structures: Path, skip_bad: bool, journal: Journal
) -> dict[str, float]:
    """Check the forces, once; the first record of the journal says how that ended."""
    if journal.n_records > 0:
        return dict(next(iter(journal))["check"])
    problem = ""
    for where, load in entries(structures):
        try:
            attempt(where, load, use)
        except BadStructureError as error:
            if not skip_bad:
                raise _refusal(error) from error
            problem = problem or str(error)
            continue
        found = check_forces(teacher, load(), where)
        journal.append({"check": found})
        return found
    raise NothingLabelledError(f"{structures} has no structure that can be labelled: {problem}")


def _evaluate(
    use: Callable[[Any], Any], structures: Path, skip_bad: bool, journal: Journal
) -> None:
    """Append the labels of all structures that the journal does not have."""
    from tqdm import tqdm

    left_out = next((record["bad"] for record in journal if "bad" in record), None)
    if left_out is not None and not skip_bad:
        raise _refusal(left_out)
    done = journal.n_records - 1
    total = count_structures(structures)
    with tqdm(total=total, initial=done, unit="label", desc="labels") as progress:
        for where, load in islice(entries(structures), done, None):
            try:
                journal.append({"results": attempt(where, load, use)})
            except BadStructureError as error:
                if not skip_bad:
                    raise _refusal(error) from error
                journal.append({"bad": str(error)})
            progress.update()


def _write(
    structures: Path, journal: Journal, output: Path, limits: LimitSettings, name: str
) -> list[str]:
    """Write the labelled structures; returns what is wrong with those left out."""
    lowest: dict[str, float] = {}
    frames = []
    bad = [record["bad"] for record in islice(journal, 1, None) if "bad" in record]
    for (where, load), record in zip(entries(structures), islice(journal, 1, None), strict=True):
        if "bad" in record:
            continue
        atoms = without_labels(load())
        formula, energy = atoms.get_chemical_formula(), float(record["results"]["energy"])
        lowest[formula] = min(lowest.get(formula, energy), energy)
        frames.append((where, atoms, record["results"]))
    n_written = 0
    with replacing(output) as temporary, writer(temporary, "extxyz") as write:
        for where, atoms, results in frames:
            formula, energy = atoms.get_chemical_formula(), float(results["energy"])
            try:
                check_force(results["forces"], limits)
                check_energy(energy, lowest[formula], len(atoms), limits)
            except ValueError as error:
                if not limits.skip_bad:
                    raise _refusal(f"{where}: {error}") from error
                bad.append(f"{where}: {error}")
                continue
            write(_with_labels(atoms, results, name))
            n_written += 1
        if n_written == 0:
            raise NothingLabelledError(
                f"{structures} has no structure that can be labelled: {bad[0]}"
            )
    for reason in bad:
        logger.warning("left out: %s", reason)
    return bad


def _with_labels(atoms: Any, results: Mapping[str, Any], name: str) -> Any:
    atoms.info["teacher"] = name
    for result, value in results.items():
        array = np.asarray(value)
        if result in OF_STRUCTURES:
            entry = array if array.ndim else float(array)
            atoms.info[PREFIX + OF_STRUCTURES[result]] = entry
        else:
            shape = (len(atoms), -1) if array.ndim > 1 else (len(atoms),)
            atoms.arrays[PREFIX + OF_ATOMS[result]] = array.reshape(shape)
    return atoms


def _refusal(error: object) -> ValueError:
    return ValueError(f"{error} (limits: skip_bad leaves it out)")
