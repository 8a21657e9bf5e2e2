"""How a training ends: the errors of its model on the structures that upstream trained on."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from les.data.atoms import has_stress
from les.training.closing import close
from les_mace.fragments import fragment_arrays

if TYPE_CHECKING:
    from mace.data import Configuration
    from mace.tools.multihead_tools import HeadConfig

    from les.backends import Backend

logger = logging.getLogger("les")

LABELS = ("energy", "forces", "stress")


def close_run(
    backend: Backend, model: Path, heads: Iterable[HeadConfig], args: argparse.Namespace
) -> None:
    """Log the errors of the model file ``model``, where it is and how to use it, for each head.

    Args:
        backend: MACE's.
        model: file that loads without running code.
        heads: upstream's, with the structures that they were trained on.
        args: upstream's options; heads in ``--skip_evaluate_heads`` are left out.
    """
    heads = list(heads)
    skipped = (args.skip_evaluate_heads or "").split(",") if len(heads) > 1 else ()
    for head in heads:
        if head.head_name in skipped:
            continue
        sets: dict[str, list[Configuration]] = {"train": [], "valid": [], "test": []}
        # Data in upstream's own formats are not in memory.
        if head.collections is not None:
            sets["train"] = head.collections.train
            sets["valid"] = head.collections.valid
            sets["test"] = [each for _, tests in head.collections.tests for each in tests]
        close(
            backend,
            model,
            {
                name: _frames(name, each, (*LABELS, *args.responses))
                for name, each in sets.items()
                if each
            },
            device=args.device,
            head=head.head_name if len(heads) > 1 else None,
            bec="bec" in args.responses,
        )


def _frames(
    name: str, configurations: Iterable[Configuration], known: Collection[str]
) -> Iterator[Any]:
    """Configurations of upstream as labelled frames; labels without weight are left out."""
    for index, each in enumerate(configurations):
        atoms = Atoms(each.atomic_numbers, each.positions, cell=each.cell, pbc=each.pbc)
        for state in ("total_charge", "total_spin", "external_field"):
            atoms.info[state] = each.properties.get(state)
        for column, values in fragment_arrays(each).items():
            atoms.set_array(column, values)
        labels: dict[str, Any] = {}
        for label in known:
            value = each.properties.get(label)
            if value is None or not each.property_weights.get(label):
                continue
            array = np.asarray(value, dtype=float)
            labels[label] = array.reshape(-1) if label == "energy" else array
            if label == "stress":
                labels[label] = _voigt(array)
                if not has_stress(atoms):
                    del labels[label]
        yield f"{name} structure {index}", atoms, labels


def _voigt(stress: Any) -> Any:
    from ase.stress import full_3x3_to_voigt_6_stress

    return full_3x3_to_voigt_6_stress(stress.reshape(3, 3)) if stress.size == 9 else stress
