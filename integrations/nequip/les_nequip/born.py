"""Born effective charges of a model, from the graph of its evaluation."""

from __future__ import annotations

from typing import Any

from nequip.data import AtomicDataDict
from torch import Tensor

from les.long_range import LongRange
from les.response.arguments import BornSettings
from les.response.atomic_dipoles import with_dipoles
from les.response.born import born_charges_of_model, needs_edges
from les.response.moments import moment_evaluation
from les.response.phase import phase_evaluation
from les.structures import ChargeSums, Structures

#: Why a module by itself has none.
NO_RECORD = "exact Born effective charges need a model that nequip has built around LES"


def born_effective_charges_of(
    les: Any,
    data: AtomicDataDict.Type,
    charges: Tensor,
    found: LongRange,
    structures: Structures,
    sums: ChargeSums,
) -> Tensor:
    """Born effective charges ``[n_atoms, 3, 3]`` [e] that the module ``les`` adds to ``data``.

    Args:
        les: the module.
        data: its input.
        charges: as they are read ``[n_atoms]`` [e].
        found: the long-range part, of which equilibrated and induced charges and moments are taken.
        structures, sums: where the atoms are, and what charges sum to.

    Raises:
        ValueError: as the module.
    """
    if not structures.positions.requires_grad:
        raise ValueError(
            "`compute_bec` needs a model that computes forces (`do_derivatives: true`)"
        )
    config, dipoles = les.config, None
    if config.charge_equilibration:
        charges = found.latent_charges
    if found.moments is not None:
        raw, dipoles = found.moments["raw_charges"], found.moments["latent_dipoles"]
        assert raw is not None
        charges = raw
    bec = born_charges_of_charges(les, data, charges, structures, sums, les.bec_method)
    return with_dipoles(bec, dipoles, structures.positions, _settings(les))


def born_charges_of_charges(
    les: Any,
    data: AtomicDataDict.Type,
    charges: Tensor,
    structures: Structures,
    sums: ChargeSums,
    method: str,
) -> Tensor:
    """Those of the charges alone, without the dipoles of atoms ``[n_atoms, 3, 3]`` [e].

    Args:
        les, data, structures, sums: as above.
        charges: as they are read, equilibrated or induced ``[n_atoms]`` [e].
        method: one of ``les.response.born.METHODS``.

    Raises:
        ValueError: as the module.
    """
    settings = _settings(les)
    # Not by the functions that check values, which a captured graph does not have.
    if needs_edges(les.config, method, structures, sums):
        if les.edge_record is None:
            raise ValueError(NO_RECORD)
        edges = les.edge_record.edges(data)
        return moment_evaluation(charges, structures, edges, settings, sums.total_charge)
    if sums.fragment is None:
        return phase_evaluation(charges, structures, settings, sums.total_charge)
    return born_charges_of_model(charges, structures, sums, settings)


def _settings(les: Any) -> BornSettings:
    return BornSettings(les.config.remove_mean, les.config.epsilon_factor, les.training)


def bec_obstacle(les: Any) -> str | None:
    """Why Born effective charges cannot be evaluated by the ``bec_method`` of a module."""
    if les.bec_method == "phase":
        return None
    if les.edge_record is None:
        return NO_RECORD
    obstacle: str | None = les.edge_record.obstacle()
    return obstacle
