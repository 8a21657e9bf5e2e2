"""What a MACE model with LES gives beside upstream's outputs, for the results of a calculator."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from les.backends.batches import divided
from les.latent_moments import ATOMIC_MOMENTS
from les.response.born import BORN_CHARGES
from les_mace.model import MACELES

#: Outputs of models with LES that results are made of.
KEPT = ("les_energy", "charges", "dipole", "BEC", "equilibration_parameters", *ATOMIC_MOMENTS)
#: Outputs in upstream's units, and the powers of the length in these.
IN_UNITS = {"energy": 0, "node_energy": 0, "les_energy": 0, "forces": -1, "stress": -3}
#: Outputs under names of their own, and results that are of whole structures.
NAMES = {"node_energy": "energies", "BEC": BORN_CHARGES}
OF_STRUCTURES = ("energy", "stress", "les_energy", "dipole")


@contextlib.contextmanager
def outputs_kept(model: torch.nn.Module) -> Iterator[dict[str, Tensor]]:
    """The outputs of ``model`` that upstream does not know, and so does not pass on.

    Yields:
        A dictionary, into which the evaluations of the model put them; nothing is put there by a
        short-range model.
    """
    kept: dict[str, Tensor] = {}
    if not isinstance(model, MACELES):
        yield kept
        return

    def keep(module: torch.nn.Module, inputs: Any, output: Mapping[str, Any]) -> None:
        kept.update({key: x.detach() for key in KEPT if (x := output.get(key)) is not None})

    handle = model.register_forward_hook(keep)
    try:
        yield kept
    finally:
        handle.remove()


def outputs_by_structure(
    found: Mapping[str, Any], sizes: Sequence[int], energy_unit: float, length_unit: float
) -> list[dict[str, Tensor]]:
    """What a model gives for a batch, structure by structure, in eV, A and e.

    Args:
        found: the model's outputs, of which those are left out that no result is made of.
        sizes: number of atoms of each structure.
        energy_unit, length_unit: upstream's units [eV, A].

    Returns:
        What ``les.backends.batch_calculator.BatchCalculator.set_results`` takes.
    """
    values = {}
    for key in (*IN_UNITS, *KEPT):
        if (value := found.get(key)) is not None:
            unit = energy_unit * length_unit ** IN_UNITS[key] if key in IN_UNITS else 1.0
            values[NAMES.get(key, key)] = value.detach().cpu() * unit
    return divided(values, sizes, OF_STRUCTURES)
