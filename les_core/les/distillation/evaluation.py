"""How well a student repeats its teacher, on configurations it was not trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from les.backends import get_backend
from les.backends.loading import load_calculator
from les.data.labels import find_label
from les.data.structure_files import read_structures
from les.distillation.settings import StudentSettings
from les.files import checksum
from les.predict.evaluate import predict
from les.response.agreement import QUANTITIES
from les.training.errors import UNITS

#: Label -> unit of its errors, in files: these are not scaled.
FILE_UNITS = {"energy": "eV/atom", "forces": "eV/A", "stress": "eV/A^3", "magmoms": "mu_B"}


def evaluate(model: Path, settings: StudentSettings, test: Path, output: Path) -> dict[str, Any]:
    """Evaluate a student on labelled structures.

    Args:
        model: the student's file.
        settings: whose model it is.
        test: structures with labels of the teacher.
        output: the file of structures to write, with both.

    Returns:
        Errors of energies, forces and what else both have; figures of merit of charges, dipoles
        and Born effective charges, where the teacher has them.
    """
    backend = get_backend(settings.backend)
    has_bec = settings.les and any(
        find_label(atoms, "bec", where) is not None for where, atoms in read_structures(test)
    )
    # A pickle, if it is one, was written by this very run.
    calculator = load_calculator(
        backend, model, device=settings.device, bec=has_bec, allow_pickle=True
    )
    identity = {"model": checksum(model), "bec": has_bec}
    prediction = predict(calculator, test, output, identity, resume=True, force=True)
    errors = prediction.errors
    return {
        "n_structures": prediction.n_written,
        "student": {
            "backend": backend.name,
            "package": backend.distribution,
            "version": backend.version(),
            "les": settings.les,
            "model": str(model),
            "checksum": checksum(model),
        },
        "errors": {
            label: {
                "mae": errors.mae(label), "rmse": errors.rmse(label), "unit": FILE_UNITS[label],
            }
            for label in errors.sizes
        },
        "agreement": prediction.agreements.figures(),
        "spread_of_labels": _spread(test),
    }  # fmt: skip


def _spread(test: Path) -> dict[str, float]:
    """Root mean square of the teacher's forces [eV/A], to compare errors with."""
    import numpy as np

    squares: list[float] = []
    for where, atoms in read_structures(test):
        forces = find_label(atoms, "forces", where)
        if forces is not None:
            squares += np.square(forces).ravel().tolist()
    return {"forces_rms": float(np.sqrt(np.mean(squares)))} if squares else {}


def summary(results: dict[str, dict[str, Any]]) -> str:
    """A table of the results of :func:`evaluate`, a line for each teacher."""
    from les.tables import aligned, number_text

    labels = [x for x in UNITS if any(x in each["errors"] for each in results.values())]
    linear = [x for x in QUANTITIES if any(x in each["agreement"] for each in results.values())]
    rows = [
        [
            "teacher", "structures",
            *(f"{label} MAE / RMSE [{UNITS[label][0]}]" for label in labels),
            *(f"R2 of {QUANTITIES[label].title}" for label in linear),
        ]
    ]  # fmt: skip
    for name, each in results.items():
        cells = [name, str(each["n_structures"])]
        for label in labels:
            values = each["errors"].get(label, {})
            factor = UNITS[label][1]
            found = [values.get(kind) for kind in ("mae", "rmse")]
            cells.append(" / ".join(number_text(None if x is None else factor * x) for x in found))
        cells += [number_text(each["agreement"].get(label, {}).get("r2")) for label in linear]
        rows.append(cells)
    return aligned(rows)
