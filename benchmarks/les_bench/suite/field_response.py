"""``les bench evaluate`` of structures in fields: how trained models answer to a field.

The models were trained without one. What they say of it follows from Born effective charges, and
from polarisabilities where their charges or dipoles respond.
"""

from __future__ import annotations

import logging
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from les import LESConfig
from les.backends import backend_of, get_backend
from les.data.fragments import FRAGMENT
from les.response.agreement import QUANTITIES, Agreement, Quantity
from les.response.born import BORN_CHARGES
from les.spectra.polarisability import polarisability
from les.tables import aligned
from les.units import COULOMB_CONSTANT
from les_bench.suite.evaluate import predict, predictions
from les_bench.systems.in_field import IN_FIELD, Measured, Slope, force_slopes

LOG = logging.getLogger("les")

#: What the slopes of forces are compared as, and polarisabilities.
SLOPES = Quantity("force slopes", BORN_CHARGES, "e", 3, per_atom=True)
POLARISABILITY = Quantity("polarisabilities", "polarisability", "A^3", 9)

#: Figures: title, name of what is compared, name of its figure, digits.
FIGURES = (
    ("force slopes RMSE [e]", "slopes", "rmse", 3),
    ("R2", "slopes", "r2", 3),
    ("dipoles RMSE [e A]", "dipoles", "rmse", 3),
    ("R2", "dipoles", "r2", 3),
    ("mean polarisability [A^3]", "polarisability", "mean", 2),
    ("RMSE [A^3]", "polarisability", "rmse", 2),
)

#: Name of what is compared -> its figures.
Figures = Mapping[str, Mapping[str, float | None]]


def field_lines(
    name: str,
    frames: Sequence[Measured],
    models: Sequence[Path],
    *,
    backend: str | None = None,
    **options: Any,
) -> Iterator[str]:
    """The table: each model, and means and standard deviations if there are several.

    Args:
        name: one of ``les_bench.systems.in_field.IN_FIELD``.
        frames: all of its structures.
        models: files of models with LES.
        backend: whose models they are, if the endings of their names do not tell.
        options: of the calculators.

    Raises:
        ValueError: for a model without LES.
    """
    compared = frames[:: IN_FIELD[name].every]
    rows = [["model", *(title for title, *_ in FIGURES)]]
    mean = COULOMB_CONSTANT * _mean([frame.polarisability for frame in compared])
    rows.append(["reference", *_cells([{"polarisability": {"mean": mean}}])])
    found = []
    for path in models:
        adapter = get_backend(backend or backend_of(path))
        make = partial(adapter.calculator, path, **options)
        found.append(answers(frames, compared, make))
        if "slopes" not in found[-1]:
            LOG.warning(
                "%s: slopes of forces are left out: with `charge_equilibration` charges flow "
                "through all of a periodic structure whose fragments are not told, which has no "
                "Born effective charges",
                path,
            )
        rows.append([f"{path.absolute().parent.name}/{path.name}", *_cells(found[-1:])])
    if len(models) > 1:
        rows.append([f"mean of {len(models)}", *_cells(found)])
    yield from aligned(rows).splitlines()


def answers(
    frames: Sequence[Measured],
    compared: Sequence[Measured],
    make: Callable[..., Any],
) -> Figures:
    """How one model answers to fields.

    Args:
        frames: of which the slopes of forces are made.
        compared: those whose dipoles and polarisabilities are compared, if they are open.
        make: makes a calculator of the model, and takes its ``bec``.

    Returns:
        ``slopes`` of forces, ``dipoles`` in the field and ``polarisability``, each if there is
        one: where equilibrated charges flow through all of a periodic structure, it has no Born
        effective charges; periodic structures have no unique dipole; and only models that respond
        to a field have polarisabilities.

    Raises:
        ValueError: for a model without LES.
    """
    calculator = make()
    config = calculator.les_config
    if config is None:
        raise ValueError("a model without LES has no charges by which it answers to a field")
    found: dict[str, dict[str, float | None]] = {}
    slopes = list(force_slopes(frames))
    if all(_has_born_charges(config, slope.atoms) for slope in slopes):
        found["slopes"] = _slope_figures(slopes, config, make)
    molecules = [frame for frame in compared if not frame.atoms.pbc.any()]
    if not molecules:
        return found
    responds = config.self_consistent or config.charge_equilibration
    dipoles, tensors, traces = Agreement(QUANTITIES["dipole"]), Agreement(POLARISABILITY), []
    everything = predictions([frame.atoms for frame in molecules], calculator)
    for frame, results in zip(molecules, everything, strict=True):
        dipole = results["dipole"]
        if responds:
            tensor = polarisability(calculator, frame.atoms)
            dipole = dipole + tensor @ frame.field
            tensors.add(COULOMB_CONSTANT * tensor, COULOMB_CONSTANT * frame.polarisability)
            traces.append(tensor)
        dipoles.add(dipole, frame.dipole)
    found["dipoles"] = dipoles.figures()
    if responds:
        mean = COULOMB_CONSTANT * _mean(traces)
        found["polarisability"] = {**tensors.figures(), "mean": mean}
    return found


def _has_born_charges(config: LESConfig, atoms: Atoms) -> bool:
    """Whether charges of a model with ``config`` are kept from flowing without end."""
    endless = bool(atoms.pbc.any()) and FRAGMENT not in atoms.arrays
    return not (config.charge_equilibration and endless)


def _slope_figures(
    slopes: Sequence[Slope], config: LESConfig, make: Callable[..., Any]
) -> dict[str, float | None]:
    """Figures of the slopes of forces that follow from Born effective charges."""
    calculator = cache(make)  # a model is loaded once for each way to evaluate them
    agreement = Agreement(SLOPES)
    for slope in slopes:
        # Charges that respond have no exact Born effective charges in a crystal.
        approximate = config.use_induced_charge and bool(slope.atoms.pbc.any())
        results = predict(slope.atoms, calculator(bec="phase" if approximate else True))
        charges = np.reshape(results[BORN_CHARGES], (-1, 3, 3))
        agreement.add(np.einsum("a,iab->ib", slope.axis, charges), slope.slopes)
    return agreement.figures()


def _mean(tensors: Sequence[NDArray[np.float64]]) -> float:
    """The mean of a third of the traces."""
    return float(np.mean([np.trace(tensor) / 3 for tensor in tensors]))


def _cells(models: Sequence[Figures]) -> list[str]:
    """Figures of a model, or means and standard deviations of several; a dash for none."""
    cells = []
    for _, what, figure, digits in FIGURES:
        found = [model.get(what, {}).get(figure) for model in models]
        known = [value for value in found if value is not None]
        text = f"{statistics.mean(known):.{digits}f}" if known else "-"
        cells.append(f"{text} +- {statistics.stdev(known):.{digits}f}" if len(known) > 1 else text)
    return cells
