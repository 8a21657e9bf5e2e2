"""Predictions of an ASE calculator on labelled frames, as plain arrays."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from les.backends.batches import batched
from les.data.bare import bare
from les.data.total_charge import total_charge
from les.response.agreement import QUANTITIES, has_unique_moments
from les_bench.systems.datasets import PART
from les_bench.systems.labels import response_label

#: Structures of which each is also evaluated by itself, for its time.
TIMED = 5


class EvaluationError(RuntimeError):
    """The trained model does not give usable predictions."""


def evaluate(
    frames: Sequence[Atoms],
    calculator: Any,
    *,
    les: bool,
    bec_calculator: Callable[[], Any] | None = None,
) -> dict[str, NDArray[Any]]:
    """References and predictions for ``frames``, concatenated over structures.

    They are evaluated in batches by calculators that can; times are those of single structures.

    Args:
        frames: structures with ``REF_energy`` and ``REF_forces``, maybe more labels.
        calculator: ASE calculator; with LES its results hold ``les_energy, charges, dipole``.
        les: whether the model must be one with LES.
        bec_calculator: makes a calculator whose results also hold
            ``born_effective_charges``; called only if a frame has ``REF_bec``.

    Returns:
        ``n_atoms, unit, energy[_ref] [n_structures]``, ``seconds`` of the first few,
        ``forces[_ref] [n_atoms, 3]`` and, where they exist, ``stress[_ref] [.., 6]`` [eV/A^3],
        ``part_charge[_ref] [..]`` of the structures that have a ``part``,
        ``charge_sum, total_charge [n_structures]``, what :func:`evaluate_response` returns, and
        ``doped, geometry, distance [n_structures]``, the latter [A] ``nan`` where a structure is
        not part of a scan. ``unit`` names the molecule or trajectory that a
        structure is of.
    """
    first = predict(frames[0], calculator)  # pays for compilation, so it is not timed
    if ("les_energy" in first) != les:
        raise EvaluationError(
            f"expected a model {'with' if les else 'without'} LES, but its results have "
            f"{'no' if les else 'a'} `les_energy`"
        )
    columns: dict[str, list[Any]] = defaultdict(list)
    for frame in frames[:TIMED]:
        start = time.perf_counter()
        predict(frame, calculator)
        columns["seconds"].append([time.perf_counter() - start])
    with_bec: Iterator[dict[str, Any]] = iter(())
    if les and bec_calculator is not None:
        labelled = [frame for frame in frames if response_label(frame, "bec") is not None]
        if labelled:
            with_bec = predictions(labelled, bec_calculator())
    for index, (frame, results) in enumerate(
        zip(frames, predictions(frames, calculator), strict=True)
    ):
        columns["n_atoms"].append([len(frame)])
        columns["unit"].append([_unit(frame)])
        columns["energy_ref"].append([frame.info["REF_energy"]])
        columns["energy"].append([results["energy"]])
        columns["forces_ref"].append(frame.arrays["REF_forces"])
        columns["forces"].append(results["forces"])
        for name in ("energy", "forces"):
            if not np.isfinite(results[name]).all():
                raise EvaluationError(f"predicted {name} of structure {index} are not finite")
        if "REF_stress" in frame.info and "stress" in results:
            columns["stress_ref"].append(np.reshape(frame.info["REF_stress"], (1, 6)))
            columns["stress"].append(np.reshape(results["stress"], (1, 6)))
        if les:
            columns["charge_sum"].append([np.sum(results["charges"])])
            columns["total_charge"].append([total_charge(frame)])
        if les and bec_calculator is not None and response_label(frame, "bec") is not None:
            results = next(with_bec)
        if les:
            _add_response(columns, frame, results)
            if {PART, "REF_charges"} <= frame.arrays.keys() and "charges" in results:
                part = frame.arrays[PART]
                columns["part_charge_ref"].append([frame.arrays["REF_charges"][part].sum()])
                columns["part_charge"].append([results["charges"][part].sum()])
    if any("distance" in frame.info for frame in frames):
        columns["distance"] = [[float(frame.info.get("distance", np.nan))] for frame in frames]
    if all({"doped", "geometry"} <= frame.info.keys() for frame in frames):
        columns["doped"] = [[bool(frame.info["doped"])] for frame in frames]
        columns["geometry"] = [[str(frame.info["geometry"])] for frame in frames]
    return _joined(columns)


def evaluate_response(frames: Sequence[Atoms], calculator: Any) -> dict[str, NDArray[Any]]:
    """References and predictions of what follows from charges, concatenated over structures.

    Args:
        frames: structures with ``REF_charges``, ``REF_dipole``, ``REF_quadrupole`` or ``REF_bec``.
        calculator: ASE calculator with Born effective charges.

    Returns:
        Where they exist, ``dipole[_ref] [.., 3]`` and ``quadrupole[_ref] [.., 9]`` of neutral open
        structures, others having no unique ones; ``charges[_ref] [.., 1]``, ``bec[_ref] [.., 9]``
        and the numbers of atoms ``charges_n_atoms [..]`` and ``bec_n_atoms [..]``.
    """
    columns: dict[str, list[Any]] = defaultdict(list)
    for frame, results in zip(frames, predictions(frames, calculator), strict=True):
        _add_response(columns, frame, results)
    return _joined(columns)


def _add_response(columns: dict[str, list[Any]], frame: Atoms, results: Mapping[str, Any]) -> None:
    """What follows from charges, of one structure."""
    for label, quantity in QUANTITIES.items():
        expected = response_label(frame, label)
        if expected is None or quantity.result not in results:
            continue
        if not quantity.per_atom and not has_unique_moments(frame):
            continue
        shape = len(frame) if quantity.per_atom else 1, quantity.n_components
        columns[f"{label}_ref"].append(np.reshape(expected, shape))
        columns[label].append(np.reshape(results[quantity.result], shape))
        if quantity.per_atom:
            columns[f"{label}_n_atoms"].append([len(frame)])


def _unit(frame: Atoms) -> str:
    """What a structure has in common with those that are no independent witnesses."""
    names = (frame.info[key] for key in ("trajectory", "config_type") if key in frame.info)
    return "/".join([*map(str, names), frame.get_chemical_formula()])


def _joined(columns: Mapping[str, list[Any]]) -> dict[str, NDArray[Any]]:
    return {name: np.concatenate([np.asarray(x) for x in rows]) for name, rows in columns.items()}


def count_parameters(calculator: Any) -> int | None:
    """Trainable numbers of the torch model(s) inside ``calculator``, if it shows them."""
    models = getattr(calculator, "models", None) or [getattr(calculator, "model", None)]
    if not all(hasattr(model, "parameters") for model in models):
        return None
    return sum(parameter.numel() for model in models for parameter in model.parameters())


def predictions(frames: Sequence[Atoms], calculator: Any) -> Iterator[dict[str, Any]]:
    """Results of :func:`predict` for each structure, in batches where the calculator can."""
    if not hasattr(calculator, "calculate_together"):
        yield from (predict(frame, calculator) for frame in frames)
        return
    for group in batched((bare(frame), len(frame)) for frame in frames):
        yield from calculator.calculate_together(group)


def predict(frame: Atoms, calculator: Any) -> dict[str, Any]:
    """Results of a calculator for a structure, of which it sees no labels but the charge state."""
    atoms = bare(frame)
    calculator.reset()  # otherwise an equal structure would be answered from memory
    atoms.calc = calculator
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    return {**calculator.results, "energy": energy, "forces": forces}
