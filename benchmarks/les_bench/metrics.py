"""Error measures. Plain numpy; energies in eV, forces in eV/A, charges in e, dipoles in e*A."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

#: Units of the numbers that :func:`compute` returns.
UNITS = {
    "energy_mae": "meV/atom",
    "energy_rmse": "meV/atom",
    "force_mae": "meV/A",
    "force_rmse": "meV/A",
    "charge_neutrality": "e",
    "dipole.rmse": "e*A",
    "bec.rmse": "e",
    "wetting": "eV",
}


def mae(reference: Array, predicted: Array) -> float:
    """Mean absolute error over all components."""
    return float(np.mean(np.abs(predicted - reference)))


def rmse(reference: Array, predicted: Array) -> float:
    """Root mean square error over all components."""
    return float(np.sqrt(np.mean((predicted - reference) ** 2)))


def r2(reference: Array, predicted: Array) -> float:
    """Coefficient of determination of the line y = x over all components."""
    residual = np.sum((predicted - reference) ** 2)
    return float(1 - residual / np.sum((reference - np.mean(reference)) ** 2))


def response_errors(reference: Array, predicted: Array) -> dict[str, float]:
    """Errors of a quantity that is linear in the latent charges.

    The sign of all charges together is a gauge. The prediction is taken with the
    sign that the calculator chose, never with the better one; ``r2_flipped`` shows
    what the other sign would have given. ``slope`` is that of the best line through
    the origin.
    """
    return {
        "r2": r2(reference, predicted),
        "rmse": rmse(reference, predicted),
        "slope": float(np.sum(predicted * reference) / np.sum(reference**2)),
        "r2_flipped": r2(reference, -predicted),
    }


def charge_neutrality(charge_sums: Array, total_charges: Array) -> float:
    """Largest deviation of a structure's charge sum from its total charge [e]."""
    return float(np.max(np.abs(charge_sums - total_charges)))


def wetting_differences(energies: Array, doped: Array, geometry: Array) -> dict[str, float]:
    """Mean energy of wetting minus non-wetting structures [eV], per doping.

    Args:
        energies: ``[n_structures]`` total energies in eV.
        doped: ``[n_structures]`` booleans.
        geometry: ``[n_structures]`` of ``"wetting"`` or ``"nonwetting"``.
    """
    differences = {}
    for name, doping in (("undoped", False), ("doped", True)):
        wetting = energies[(doped == doping) & (geometry == "wetting")]
        nonwetting = energies[(doped == doping) & (geometry == "nonwetting")]
        if len(wetting) and len(nonwetting):
            differences[name] = float(np.mean(wetting) - np.mean(nonwetting))
    return differences


def compute(data: Mapping[str, Array]) -> dict[str, Any]:
    """All measures that apply to one evaluated set (see :func:`les_bench.evaluate.evaluate`)."""
    per_atom = 1000 / data["n_atoms"]
    energies = data["energy_ref"] * per_atom, data["energy"] * per_atom
    forces = data["forces_ref"] * 1000, data["forces"] * 1000
    result: dict[str, Any] = {
        "n_structures": len(data["n_atoms"]),
        "energy_mae": mae(*energies),
        "energy_rmse": rmse(*energies),
        "force_mae": mae(*forces),
        "force_rmse": rmse(*forces),
        "seconds_per_structure": float(np.median(data["seconds"])),
    }
    if "charge_sum" in data:
        result["charge_neutrality"] = charge_neutrality(data["charge_sum"], data["total_charge"])
    for name in ("dipole", "bec"):
        if name in data:
            result[name] = response_errors(data[f"{name}_ref"], data[name])
    if "geometry" in data:
        labels = data["doped"], data["geometry"]
        reference = wetting_differences(data["energy_ref"], *labels)
        if reference:
            predicted = wetting_differences(data["energy"], *labels)
            result["wetting"] = {"reference": reference, "predicted": predicted}
    return result
