"""``les bench evaluate``: errors of models that are trained already, alone and as a committee."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from les.backends import backend_of, get_backend
from les_bench.suite.evaluate import predictions
from les_bench.suite.metrics import mae, rmse
from les_bench.systems.datasets import load
from les_bench.systems.evaluation_only import EVALUATION_ONLY, read_evaluation_only
from les_bench.systems.systems import get_system

Array = NDArray[np.float64]

HEADER = (
    f"{'model':<40}{'structures':>11}{'energy less mean':>18}{'force MAE':>11}{'force RMSE':>12}"
)
UNITS = f"{'':<40}{'':>11}{'meV/atom':>18}{'meV/A':>11}{'meV/A':>12}"


def labelled_test_set(name: str, data: str = "auto") -> list[Atoms]:
    """The labelled structures that models of a system are tested on.

    Raises:
        ValueError: if there is no such system.
        DataError: if its data are not there.
    """
    if name in EVALUATION_ONLY:
        return read_evaluation_only(name, data)
    return load(get_system(name), data).test


def lines(
    frames: Sequence[Atoms],
    models: Sequence[Path],
    *,
    backend: str | None = None,
    **options: Any,
) -> Iterator[str]:
    """The table, line by line: each model, and the mean of all if there are several.

    Args:
        frames: with ``REF_forces``, and energies ``REF_energy`` where they are to be compared.
        models: files.
        backend: whose models they are, if the endings of their names do not tell.
        options: of the calculators.
    """
    yield HEADER
    yield UNITS
    found = []
    for model in models:
        calculator = get_backend(backend or backend_of(model)).calculator(model, **options)
        found.append(list(predictions(frames, calculator)))
        yield _line(model.name, frames, found[-1])
    if len(models) > 1:
        mean = [
            {key: np.mean([each[key] for each in of_frame], axis=0) for key in ("energy", "forces")}
            for of_frame in zip(*found, strict=True)
        ]
        yield _line(f"mean of {len(models)}", frames, mean)


def _line(name: str, frames: Sequence[Atoms], results: Sequence[Mapping[str, Any]]) -> str:
    forces = [np.concatenate(x) for x in (_labels(frames), [r["forces"] for r in results])]
    text = f"{name:<40}{len(frames):>11}{_energy_error(frames, results):>18}"
    errors: tuple[Callable[[Array, Array], float], ...] = (mae, rmse)
    for error, width in zip(errors, (11, 12), strict=True):
        text += f"{1000 * error(*forces):>{width}.1f}"
    return text


def _labels(frames: Sequence[Atoms]) -> list[Array]:
    return [frame.arrays["REF_forces"] for frame in frames]


def _energy_error(frames: Sequence[Atoms], results: Sequence[Mapping[str, Any]]) -> str:
    """Root mean square error per atom, less the mean error: its constant is a matter of data."""
    if len(frames) < 2 or any("REF_energy" not in frame.info for frame in frames):
        return "-"
    errors = np.array(
        [(r["energy"] - f.info["REF_energy"]) / len(f) for f, r in zip(frames, results)]
    )
    return f"{1000 * np.std(errors):.2f}"
