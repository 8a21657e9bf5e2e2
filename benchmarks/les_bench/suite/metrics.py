"""Error measures. Plain numpy; energies in eV, forces in eV/A, charges in e, dipoles in e*A."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from les.response.agreement import QUANTITIES, Agreement

Array = NDArray[Any]

#: Units of the numbers that :func:`compute` returns.
UNITS = {
    "energy_mae": "meV/atom",
    "energy_rmse": "meV/atom",
    "force_mae": "meV/A",
    "force_rmse": "meV/A",
    "stress_rmse": "meV/A^3",
    "charge_neutrality": "e",
    **{f"{label}.rmse": quantity.unit for label, quantity in QUANTITIES.items()},
    "bec.acoustic_sum": "e",
    "bec.acoustic_sum_reference": "e",
    "part_charge.mean": "e",
    "part_charge.reference": "e",
    "part_charge.rmse": "e",
    "wetting": "eV",
}


def mae(reference: Array, predicted: Array) -> float:
    """Mean absolute error over all components."""
    return float(np.mean(np.abs(predicted - reference)))


def rmse(reference: Array, predicted: Array) -> float:
    """Root mean square error over all components."""
    return float(np.sqrt(np.mean((predicted - reference) ** 2)))


def agreements(data: Mapping[str, Array]) -> dict[str, Any]:
    """Figures of merit of what is linear in the charges (``les.response.agreement``)."""
    result = {}
    for label, quantity in QUANTITIES.items():
        if label not in data:
            continue
        agreement = Agreement(quantity)
        sizes = data[f"{label}_n_atoms"] if quantity.per_atom else np.ones(len(data[label]))
        ends = np.cumsum(sizes, dtype=int)[:-1]
        for structure in zip(*(np.split(data[x], ends) for x in (label, f"{label}_ref"))):
            agreement.add(*structure)
        result[label] = agreement.figures()
    return result


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
    """All measures that apply to the arrays of one set that ``evaluate.evaluate`` returned."""
    result = _energy_errors(data) if "energy" in data else {}
    if "charge_sum" in data:
        result["charge_neutrality"] = charge_neutrality(data["charge_sum"], data["total_charge"])
    if "stress" in data:
        result["stress_rmse"] = 1000 * rmse(data["stress_ref"], data["stress"])
    result |= agreements(data)
    if "part_charge" in data:
        result["part_charge"] = {
            "mean": float(data["part_charge"].mean()),
            "reference": float(data["part_charge_ref"].mean()),
            "rmse": rmse(data["part_charge_ref"], data["part_charge"]),
        }
    if "geometry" in data:
        labels = data["doped"], data["geometry"]
        reference = wetting_differences(data["energy_ref"], *labels)
        if reference:
            predicted = wetting_differences(data["energy"], *labels)
            result["wetting"] = {"reference": reference, "predicted": predicted}
    return result


def _energy_errors(data: Mapping[str, Array]) -> dict[str, Any]:
    per_atom = 1000 / data["n_atoms"]
    energies = data["energy_ref"] * per_atom, data["energy"] * per_atom
    forces = data["forces_ref"] * 1000, data["forces"] * 1000
    return {
        "n_structures": len(data["n_atoms"]),
        "energy_mae": mae(*energies),
        "energy_rmse": rmse(*energies),
        "force_mae": mae(*forces),
        "force_rmse": rmse(*forces),
        "seconds_per_structure": float(np.median(data["seconds"])),
    }
