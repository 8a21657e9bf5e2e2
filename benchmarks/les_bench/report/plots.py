"""Plots of results. Every function draws into the ``ax`` it is given and returns it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

Array = NDArray[Any]

#: Colour of each variant, the same in all plots.
COLOURS = {"sr": "tab:orange", "les": "tab:blue"}
NAMES = {"sr": "short-range", "les": "LES"}


def parity(
    reference: Array, predicted: Array, *, ax: Axes, quantity: str, unit: str, variant: str = "les"
) -> Axes:
    """Predicted against reference values, with the line they should lie on."""
    x, y = np.ravel(reference), np.ravel(predicted)
    rmse = np.sqrt(np.mean((y - x) ** 2))
    ax.plot(
        x,
        y,
        ".",
        markersize=3,
        alpha=0.5,
        color=COLOURS[variant],
        label=f"{NAMES[variant]}, RMSE {rmse:.3g} {unit}",
        rasterized=True,
    )
    limits = [float(x.min()), float(x.max())]
    ax.plot(limits, limits, color="black", linewidth=0.8, zorder=0)
    ax.set_xlabel(f"reference {quantity} [{unit}]")
    ax.set_ylabel(f"predicted {quantity} [{unit}]")
    ax.legend(loc="upper left", fontsize="small", frameon=False)
    return ax


def energy_parity(data: Mapping[str, Array], *, ax: Axes, variant: str) -> Axes:
    """Energies in meV/atom, relative to the mean reference of the set."""
    reference = 1000 * data["energy_ref"] / data["n_atoms"]
    predicted = 1000 * data["energy"] / data["n_atoms"]
    mean = reference.mean()
    return parity(
        reference - mean,
        predicted - mean,
        ax=ax,
        quantity="energy",
        unit="meV/atom",
        variant=variant,
    )


def force_parity(data: Mapping[str, Array], *, ax: Axes, variant: str) -> Axes:
    """Force components in eV/A."""
    return parity(
        data["forces_ref"], data["forces"], ax=ax, quantity="force", unit="eV/Å", variant=variant
    )


def bec_parity(data: Mapping[str, Array], *, ax: Axes) -> Axes:
    """Components of the Born effective charges in e, which were not trained on."""
    return parity(data["bec_ref"], data["bec"], ax=ax, quantity="Born effective charge", unit="e")


def dipole_parity(data: Mapping[str, Array], *, ax: Axes) -> Axes:
    """Dipole components in e*A, which were not trained on."""
    return parity(data["dipole_ref"], data["dipole"], ax=ax, quantity="dipole", unit="e Å")


def learning_curve(
    history: Sequence[Mapping[str, Any]], *, ax: Axes, variant: str, label: str | None = None
) -> Axes:
    """Validation force RMSE [meV/A] against the epoch, logarithmic."""
    points = [
        (record["epoch"], 1000 * record["valid_force_rmse"])
        for record in history
        if record["valid_force_rmse"] is not None
    ]
    if points:
        epochs, errors = zip(*points, strict=True)
        # A single epoch is a point, which no line would show.
        marker = "o" if len(points) < 3 else None
        ax.plot(epochs, errors, color=COLOURS[variant], linewidth=1, label=label, marker=marker)
        ax.set_yscale("log")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("epoch")
    ax.set_ylabel("validation force RMSE [meV/Å]")
    if label:
        ax.legend(fontsize="small", frameon=False)
    return ax


def curve_names(found: Mapping[str, Mapping[str, Mapping[str, Array]]]) -> list[str]:
    """Names of the scans on the test set, of which each has one curve."""
    data = next(iter(found.values()))["test"]
    return [str(name) for name in dict.fromkeys(data["unit"][np.isfinite(data["distance"])])]


def distance_curve(
    found: Mapping[str, Mapping[str, Mapping[str, Array]]],
    name: str,
    *,
    ax: Axes,
    trained: float | None = None,
) -> Axes:
    """Energies [eV] along the distance [A] of two molecules, relative to the largest distance.

    Args:
        found: variant -> set -> predictions with ``distance [n_structures]``.
        name: the scan, as in ``unit``.
        ax: where it is drawn.
        trained: the largest distance that was trained on [A].
    """
    for variant, sets in found.items():
        data = sets["test"]
        chosen = data["unit"] == name
        order = np.argsort(data["distance"][chosen])
        distance = data["distance"][chosen][order]
        reference, predicted = (data[key][chosen][order] for key in ("energy_ref", "energy"))
        if variant == next(iter(found)):
            ax.plot(distance, reference - reference[-1], "k.", markersize=7, label="reference")
            if trained is not None and trained > distance.min():
                ax.axvspan(distance.min(), trained, color="0.9", zorder=0, linewidth=0)
        ax.plot(distance, predicted - predicted[-1], color=COLOURS[variant], label=NAMES[variant])
    ax.set_xlabel("distance [Å]")
    ax.set_ylabel("energy [eV]")
    ax.legend(fontsize="small", frameon=False)
    return ax
