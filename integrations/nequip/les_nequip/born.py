"""Born effective charges of a model, and forces of a field, from the graph of its evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nequip.data import AtomicDataDict
from torch import Tensor

from les.equilibration import refuse_periodic_response
from les.in_field import field_on_crystals, pulled
from les.induced import refuse_periodic_response_of_charges
from les.response.arguments import BornSettings
from les.response.atomic_dipoles import born_effective_charges_of_dipoles
from les.response.born import born_charges_of_model
from les.response.moments import moment_evaluation
from les.response.phase import phase_evaluation
from les.structures import ChargeSums, Structures


def born_effective_charges_of(
    les: Any,
    data: AtomicDataDict.Type,
    charges: Tensor,
    structures: Structures,
    sums: ChargeSums,
    moments: Mapping[str, Tensor | None] | None = None,
) -> Tensor:
    """Born effective charges ``[n_atoms, 3, 3]`` [e] that the module ``les`` adds to ``data``.

    Args:
        les: the module.
        data: its input.
        charges: as they are read, or equilibrated ``[n_atoms]`` [e].
        structures, sums: where the atoms are, and what charges sum to.
        moments: those of ``les.long_range.LongRange``, of a model that has any.

    Raises:
        ValueError: as the module.
    """
    if not data[AtomicDataDict.POSITIONS_KEY].requires_grad:
        raise ValueError(
            "`compute_bec` needs a model that computes forces (`do_derivatives: true`)"
        )
    config = les.config
    settings = BornSettings(config.remove_mean, config.epsilon_factor, les.training)
    if moments is not None:
        responds = config.use_induced_charge
        if responds:
            raw = moments["raw_charges"]
            assert raw is not None and structures.pbc is not None
            charges = raw
            if les.bec_method == "exact":
                refuse_periodic_response_of_charges(structures.pbc)
        bec = _of_charges(les, data, charges, structures, sums, settings, responds)
        dipoles = moments["latent_dipoles"]
        if dipoles is None:
            return bec
        return bec + born_effective_charges_of_dipoles(
            dipoles, structures.positions, config.epsilon_factor, les.training
        )
    return _of_charges(les, data, charges, structures, sums, settings, config.charge_equilibration)


def _of_charges(
    les: Any,
    data: AtomicDataDict.Type,
    charges: Tensor,
    structures: Structures,
    sums: ChargeSums,
    settings: BornSettings,
    responds: bool,
) -> Tensor:
    if les.config.charge_equilibration:
        # Charges depend on all positions, and not along edges.
        refuse_periodic_response(structures.cell, structures.pbc, sums.fragment)
    if sums.fragment is not None:
        return born_charges_of_model(charges, structures, sums, settings)
    if (
        les.config.charge_equilibration or les.bec_method == "phase" or responds
    ):  # of molecules that is exact
        return phase_evaluation(charges, structures, settings, sums.total_charge)
    return _along_edges(les, data, charges, structures, sums, settings)


def pull_of_field(
    les: Any,
    data: AtomicDataDict.Type,
    charges: Tensor,
    structures: Structures,
    sums: ChargeSums,
    field: Tensor,
) -> Tensor:
    """Energies of zero ``[n_atoms]``, with the forces of a field on charges of periodic structures.

    Args:
        les, data, charges, structures, sums: as for :func:`born_effective_charges_of`.
        field: ``[n_structures, 3]`` [V/A].

    Raises:
        ValueError: as the module, and for charges of periodic structures that respond to the field.
    """
    config = les.config
    responds = config.charge_equilibration or config.use_induced_charge
    on_crystals = field_on_crystals(field, structures, charges_respond=responds)
    if on_crystals is None:
        return structures.positions.new_zeros(len(structures.positions))
    settings = BornSettings(config.remove_mean, config.epsilon_factor, les.training)
    if sums.fragment is not None:
        born = born_charges_of_model(charges, structures, sums, settings)
    else:
        born = _along_edges(les, data, charges, structures, sums, settings)
    return pulled(structures.positions, on_crystals, born)


def _along_edges(
    les: Any,
    data: AtomicDataDict.Type,
    charges: Tensor,
    structures: Structures,
    sums: ChargeSums,
    settings: BornSettings,
) -> Tensor:
    if les.edge_record is None:
        raise ValueError(bec_obstacle(les))
    edges = les.edge_record.edges(data)
    return moment_evaluation(charges, structures, edges, settings, sums.total_charge)


def bec_obstacle(les: Any) -> str | None:
    """Why Born effective charges cannot be evaluated by the ``bec_method`` of a module."""
    if les.bec_method == "phase":
        return None
    if les.edge_record is None:
        return "exact Born effective charges need a model that nequip has built around LES"
    obstacle: str | None = les.edge_record.obstacle()
    return obstacle
