"""Learning curves: errors of a training by the share of its data, fine-tuned and from scratch."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from les.backends import TrainingJob, config_path, model_path
from les.data.labels import NAMES, find_label
from les.data.structure_files import read_structures
from les.distillation import evaluation, student
from les.distillation.provenance import Record, write_json
from les.distillation.settings import StudentSettings
from les.files import checksum
from les.locks import locked

#: Labels of atoms that ASE's calculators have as results.
OF_ATOMS = ("forces", "magmoms", "charges")
#: Results of ASE's calculators that say no more than the energy and the stress do.
PARTS = ("free_energy", "energies", "stresses")


@dataclass(frozen=True)
class LearningCurve:
    """What is trained, on what, and from what.

    Attributes:
        student: backend, configuration and options; its epochs are those of the whole data.
        start: the model that fine-tuning starts from, a file or a name; empty for none.
        scratch: whether there is a training from scratch for each share as well.
        shares: of the training data, between 0 and 1.
        files: ``train``, ``valid`` and ``test``, labelled structures.
    """

    student: StudentSettings
    start: str
    scratch: bool
    shares: tuple[float, ...]
    files: Mapping[str, Path]

    def __post_init__(self) -> None:
        if not self.shares or not all(0.0 < share <= 1.0 for share in self.shares):
            raise ValueError(f"`shares` must be numbers above 0 and up to 1, got {self.shares}")
        if self.student.epochs is None:
            raise ValueError("a learning curve needs `epochs`, those of the whole data")
        if not (self.start or self.scratch):
            raise ValueError("a learning curve needs a model to start from, or `scratch`")
        if any(text == "--from" or text.startswith("--from=") for text in self.student.options):
            raise ValueError(
                "`--from` has no effect on the trainings of a curve: it is an option of the curve "
                "itself"
            )

    def kinds(self) -> dict[str, StudentSettings]:
        """How students are trained: the name of each way, and its settings."""
        found = {}
        if self.start:
            path = model_path(self.start)
            start = str(path.absolute()) if path.exists() else self.start
            options = (f"--from={start}", *self.student.options)
            found["fine-tuned"] = replace(self.student, options=options)
        if self.scratch:
            found["from scratch"] = self.student
        return found


def run(curve: LearningCurve, folder: Path, force: bool = False) -> dict[str, Any]:
    """Train and evaluate at every share; what is done is not done again.

    Smaller shares are parts of larger ones, and are trained for as many more epochs as they are
    smaller, so that all trainings have about the same number of steps.

    Args:
        curve: what to do.
        folder: where sets, trainings and results go; it must be there.
        force: make anew what is of other settings or data.

    Returns:
        Name of a way of training -> share -> number of structures and errors; also written to
        ``curve.json``.

    Raises:
        ValueError: for structures without labels, a training that fails, and results of another
            run.
    """
    sets = {name: _labelled(path) for name, path in curve.files.items()}
    order = np.random.default_rng(curve.student.seed).permutation(len(sets["train"]))
    results: dict[str, Any] = {}
    with locked(folder):
        # Before any file is replaced: sets and students of another curve are kept.
        record = Record(folder / "data.json", _identity(curve, curve.files), replace=force)
        if not record.finished:
            record.finish([])
        for name in ("valid", "test"):
            student.write_sets(sets[name], {name: list(range(len(sets[name])))}, folder)
        for share in sorted(curve.shares):
            n = max(1, round(share * len(order)))
            place = folder / f"share-{100 * share:g}"
            place.mkdir(exist_ok=True)
            student.write_sets(sets["train"], {"train": sorted(map(int, order[:n]))}, place)
            epochs = math.ceil((curve.student.epochs or 1) * len(order) / n)
            for kind, settings in curve.kinds().items():
                made = replace(settings, epochs=epochs)
                facts = _share(curve, kind, made, place, folder, force)
                results.setdefault(kind, {})[f"{share:g}"] = {"n": n, "epochs": epochs, **facts}
        write_json(folder / "curve.json", results)
    return results


def _share(
    curve: LearningCurve,
    kind: str,
    settings: StudentSettings,
    place: Path,
    folder: Path,
    force: bool,
) -> dict[str, Any]:
    """Train one student and evaluate it; returns its errors."""
    config = _config(curve)
    sets = {"train": place / "train.xyz", **{x: folder / f"{x}.xyz" for x in ("valid", "test")}}
    identity = {**_identity(curve, sets), "student": _student(settings)}
    if kind != "fine-tuned":
        del identity["start"]
    directory = place / kind.replace(" ", "-")
    record = Record(directory.with_suffix(".json"), identity, replace=force, leftovers=directory)
    if record.finished:
        return record.facts
    job = TrainingJob(
        name=student.NAME,
        directory=directory.absolute(),
        config=config.absolute(),
        train_file=sets["train"].absolute(),
        valid_file=sets["valid"].absolute(),
        seed=settings.seed,
        epochs=settings.epochs,
        device=settings.device,
        extra=settings.options,
    )
    model = student.train(job, settings, f"{kind}, {place.name} %")
    output = directory.with_suffix(".xyz")
    facts = evaluation.evaluate(model, settings, sets["test"], output)
    record.finish([model, output], **facts, file=os.path.relpath(model, place))
    return record.facts


def _identity(curve: LearningCurve, sets: Mapping[str, Path]) -> dict[str, Any]:
    """What results depend on; shares and ways of training may be added later."""
    start = model_path(curve.start)
    return {
        "sets": {name: checksum(path) for name, path in sets.items()},
        "config": checksum(_config(curve)),
        "start": checksum(start) if curve.start and start.is_file() else curve.start,
        "student": _student(curve.student),
    }


def _student(settings: StudentSettings) -> dict[str, Any]:
    return {k: v for k, v in asdict(settings).items() if k not in ("config", "python")}


def _config(curve: LearningCurve) -> Path:
    own = Path(curve.student.config)
    return own if own.is_file() else config_path(curve.student.config, curve.student.backend)


def _labelled(path: Path) -> list[Any]:
    """The structures of a file with all that it says of them.

    What ASE reads into a calculator is put under the names of labels, or it would not be written.

    Raises:
        ValueError: for a structure without forces, and for results that are no labels; the message
            names it.
    """
    found = []
    for where, atoms in read_structures(path):
        if find_label(atoms, "forces", where) is None:
            raise ValueError(f"{where}: it has no forces to learn")
        results = {} if atoms.calc is None else dict(atoms.calc.results)
        for name in PARTS:
            results.pop(name, None)
        atoms.calc = None
        for label, value in results.items():
            if label not in NAMES:
                raise ValueError(
                    f"{where}: {label!r} is no label and would be lost; leave it out of the file "
                    f"(labels: {', '.join(NAMES)})"
                )
            holder = atoms.arrays if label in OF_ATOMS else atoms.info
            holder.setdefault(f"REF_{label}", value)
        found.append(atoms)
    return found


def summary(results: Mapping[str, Any]) -> str:
    """A table with a line for each share and way of training."""
    from les.tables import aligned

    rows = [
        ["data", "structures", "epochs", "training", "forces RMSE [meV/A]", "energy [meV/atom]"]
    ]
    shares = sorted({share for each in results.values() for share in each}, key=float)
    for share in shares:
        for kind, each in results.items():
            facts = each[share]
            errors = facts["errors"]
            rows.append(
                [
                    f"{100 * float(share):g} %", str(facts["n"]), str(facts["epochs"]), kind,
                    *(
                        f"{1000 * errors[x]['rmse']:.4g}" if x in errors else "-"
                        for x in ("forces", "energy")
                    ),
                ]
            )  # fmt: skip
    return aligned(rows)


def draw(results: Mapping[str, Any], path: Path) -> None:
    """Draw the errors of the forces by the number of structures, both on logarithmic axes."""
    from les.figures import new_figure, save

    figure = new_figure()
    axes = figure.subplots()
    for kind, each in results.items():
        points = sorted((facts["n"], facts["errors"]["forces"]["rmse"]) for facts in each.values())
        numbers, errors = zip(*points)
        axes.loglog(numbers, [1000.0 * error for error in errors], "o-", label=kind)
    axes.set_xlabel("structures to train on")
    axes.set_ylabel("RMSE of forces [meV/A]")
    axes.legend()
    save(figure, path)
