"""The card of a model that is to be shipped: what it was made of, its errors, where it holds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from les.backends import get_backend
from les.backends.loading import load_calculator
from les.backends.model_files import load_plain
from les.data.labels import find_label
from les.data.structure_files import read_structures
from les.distillation.configurations import read_starts
from les.distillation.provenance import write_json
from les.distillation.stages import Distillation
from les.distillation.students import Student, facts_of
from les.distillation.trials import EVERY, N_STEPS, TEMPERATURE, TIMESTEP, trials
from les.files import checksum, replacing
from les.keys import refuse_unknown

#: What has to be said of a model that no run can know.
NOTES = ("for", "reference", "licence", "summary", "validity")


def write_models(
    distillation: Distillation, teacher: str, notes: Mapping[str, Any], name: str, folder: Path
) -> list[Path]:
    """Copy the student of a finished run, and its twin, with a card each.

    Before, each passes ``les.distillation.trials``.

    Args:
        distillation: the run.
        teacher: the name of the teacher whose student is meant.
        notes: texts: what the model is ``for``, its ``reference`` and ``licence`` in a few words, a
            ``summary``, and the ``validity``, a list of sentences.
        name: of the model; that of the twin ends with ``-sr``.
        folder: where they go.

    Returns:
        The files of the models.

    Raises:
        ValueError: for a name with a dot, notes that lack something, a run that has not ended, a
            model file that is not plain, and a model that fails a trial.
    """
    if "." in name:
        raise ValueError(f"--name must have no dot, or the model is not found by it, got {name!r}")
    refuse_unknown(notes, NOTES)
    for key in NOTES:
        if not notes.get(key):
            raise ValueError(f"the notes of a card must have `{key}`, got {notes.get(key)!r}")
    latest = distillation.last(teacher)
    students = {name: latest.student}
    if distillation.settings.student.twin:
        students[f"{name}-sr"] = latest.twin
    start = read_starts(distillation.settings)[0] if distillation.settings.start else None
    facts, written = {}, []
    for each, student in students.items():
        backend = get_backend(student.student.backend)
        load_plain(student.model, "model")
        calculator = load_calculator(backend, student.model, dtype="float64")
        facts[each] = {
            **{key: notes[key] for key in NOTES},
            "name": each,
            "les": student.student.les,
            "errors": _errors(student, latest.folder),
            "by_composition": dict(_by_composition(student, latest.folder)),
            "data": _data(distillation, teacher),
            "trials": {} if start is None else trials(calculator, start),
            "trained": {"epochs": student.student.epochs, "seed": student.student.seed},
        }
    folder.mkdir(parents=True, exist_ok=True)
    for each, student in students.items():
        target = folder / f"{each}{ending(student)}"
        with replacing(target) as temporary:
            shutil.copyfile(student.model, temporary)
        facts[each] |= {"checksum": checksum(target), "size": target.stat().st_size}
        write_json(target.with_name(f"{each}.json"), facts[each])
        with replacing(target.with_name(f"{each}.md")) as temporary:
            text = card(facts[each], list(facts.values()))
            temporary.write_text(text, encoding="utf-8")
        written.append(target)
    return written


def ending(student: Student) -> str:
    """What the name of the model's file ends with, which tells the backend."""
    suffixes = get_backend(student.student.backend).model_suffixes
    matching = [each for each in suffixes if student.model.name.endswith(each)]
    return max(matching, key=len, default=student.model.suffix)


def _errors(student: Student, folder: Path) -> dict[str, Any]:
    """What the evaluation has found, without where the file was then."""
    found = student.errors(folder)
    own = {name: value for name, value in found["student"].items() if name != "model"}
    return {**found, "student": own}


def _data(distillation: Distillation, teacher: str) -> dict[str, Any]:
    latest = distillation.last(teacher)
    labels = facts_of(distillation.folder_of(teacher) / "labels.json")
    counts = dict(facts_of(distillation.folder_of(teacher) / "split.json")["counts"])
    if latest.number:
        counts |= facts_of(latest.folder / "sets.json")["counts"]
    return {
        "configurations": facts_of(distillation.folder / "configurations.json")["counts"],
        "teacher": labels["teacher"],
        "left_out": len(labels["left_out"]),
        "sets": counts,
        "rounds": latest.number,
    }


def _by_composition(student: Student, folder: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """Root mean square errors of forces [eV/A] on the test set, by formula and periodicity."""
    groups: dict[str, list[Any]] = {}
    name = "predictions.xyz" if student.name == "student" else f"{student.name}-predictions.xyz"
    for where, atoms in read_structures(folder / name):
        formula = atoms.get_chemical_formula() + (", periodic" if atoms.pbc.any() else ", open")
        deviation = atoms.arrays["LES_forces"] - find_label(atoms, "forces", where)
        groups.setdefault(formula, []).append(deviation)
    for formula, deviations in sorted(groups.items()):
        rmse = float(np.sqrt(np.mean(np.square(np.concatenate(deviations)))))
        yield formula, {"n": len(deviations), "forces_rmse": rmse}


def card(facts: Mapping[str, Any], family: list[Mapping[str, Any]]) -> str:
    """The card in Markdown.

    Args:
        facts: what is written to the file beside it.
        family: the same of this model and its twin, whose errors stand beside one another.
    """
    data, errors = facts["data"], facts["errors"]
    teacher, student = data["teacher"], errors["student"]
    counts = ", ".join(f"{n} of {origin}" for origin, n in data["configurations"].items())
    sets = ", ".join(f"{n} {name}" for name, n in data["sets"].items())
    lines = [
        f"# {facts['name']}",
        "",
        str(facts["summary"]).strip(),
        *([] if facts["les"] else ["", "This is the twin without LES: it has no charges."]),
        "",
        f"- For: {facts['for']}",
        f"- Reference: {facts['reference']}",
        f"- Licence: {facts['licence']}",
        f"- Backend: {student['backend']}, trained with {student['package']} {student['version']}, "
        f"{facts['trained']['epochs']} epochs, seed {facts['trained']['seed']}",
        f"- File: {facts['size'] / 1000:.0f} kB, SHA-256 {facts['checksum']}",
        "",
        "## Data",
        "",
        f"Labels are of {teacher['teacher']} ({teacher['package']} {teacher['version']}"
        f"{', ' + json.dumps(teacher['options']) if teacher['options'] else ''}). "
        f"Configurations: {counts}; {data['left_out']} left out; sets: {sets}; rounds of active "
        f"learning: {data['rounds']}.",
        "",
        "## Errors against the reference",
        "",
        "On structures that were not trained on, as mean absolute and root mean square error:",
        "",
        *_table(family),
        "",
        f"The root mean square force is {1000 * errors['spread_of_labels']['forces_rms']:.0f} "
        "meV/A.",
        *_agreement(errors["agreement"]),
        "",
        "## Where it holds",
        "",
        *(f"- {sentence}" for sentence in facts["validity"]),
        "",
        "## Trials passed",
        "",
        *_trials(facts["trials"]),
        "",
    ]
    return "\n".join(lines)


def _table(family: list[Mapping[str, Any]]) -> Iterator[str]:
    names = [each["name"] for each in family]
    yield f"| | {' | '.join(names)} |"
    yield "|---" * (len(names) + 1) + "|"
    for label, unit in (("energy", "meV/atom"), ("forces", "meV/A")):
        found = [each["errors"]["errors"][label] for each in family]
        cells = [f"{1000 * each['mae']:.3g} / {1000 * each['rmse']:.3g}" for each in found]
        yield f"| {label} [{unit}] | {' | '.join(cells)} |"
    for group, first in family[0]["by_composition"].items():
        found = [each["by_composition"][group]["forces_rmse"] for each in family]
        cells = [f"{1000 * each:.3g}" for each in found]
        yield f"| RMSE of forces, {group} ({first['n']}) | {' | '.join(cells)} |"


def _agreement(agreement: Mapping[str, Any]) -> Iterator[str]:
    """What of charges and dipoles, on which nothing was trained, agrees with the reference."""
    known = {
        label: values
        for label, values in agreement.items()
        if values.get("r2") is not None and values.get("scale") is not None
    }
    if known:
        yield from ("", "Agreement with the reference where nothing was trained on it:", "")
    for label, values in known.items():
        yield (
            f"- {label}: R2 {values['r2']:.2f}; {values['r2_scaled']:.2f} after the model's values "
            f"are multiplied by {values['scale']:.2f}"
        )


def _trials(found: Mapping[str, float]) -> Iterator[str]:
    if not found:
        yield "None: the run has no starting structure."
        return
    yield (
        f"- Forces are the derivative of the energy, to {1000 * found['forces_deviation']:.2g} "
        "meV/A along random directions."
    )
    if "total_charge" in found:
        yield f"- Charges sum to the total charge, to {found['total_charge']:.1g} e."
    yield (
        f"- {N_STEPS * TIMESTEP / 1000:g} ps of dynamics without a thermostat from {TEMPERATURE:g} "
        f"K, looked at every {EVERY * TIMESTEP:g} fs: the total energy drifts by "
        f"{1000 * found['energy_drift']:.2g} meV/atom; the temperature is "
        f"{found['temperature']:.0f} K at the end."
    )
