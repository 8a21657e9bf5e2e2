"""External fields of structures: what they do to the charges of periodic ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from les import Edges
from les.in_field import field_on_crystals, pulled
from les_mace.born import born_charges_of_charges, structures_of


def field_on_charges(
    model: Any, data: dict[str, Tensor], field: Tensor | None, compute_hessian: bool
) -> Tensor | None:
    """The field at the atoms of periodic structures ``[n_atoms, 3]`` [V/A], if one is in a field.

    Args:
        model: a ``MACELES``.
        data: its input.
        field: the external field ``[n_graphs, 3]`` [V/A].
        compute_hessian: whether the hessian is asked for.

    Raises:
        ValueError: for a hessian of a periodic structure in a field, and one whose charges respond.
    """
    if field is None:
        return None
    responds = model.les.charge_equilibration or model.les.config().use_induced_charge
    found = field_on_crystals(field, structures_of(data), charges_respond=responds)
    if found is not None and compute_hessian:
        raise ValueError("`compute_hessian` needs open structures in an external field")
    return found


def pull_of_field(
    model: Any,
    found: Mapping[str, Tensor | None],
    data: dict[str, Tensor],
    training: bool,
    edges: Edges | None,
    field: Tensor,
) -> Tensor:
    """Energies of zero ``[n_graphs]``, whose forces are those on charges of periodic structures.

    Args:
        model, found, data, training, edges: as for ``les_mace.born.born_charges``.
        field: what :func:`field_on_charges` returned.
    """
    born = born_charges_of_charges(model, found, data, training, edges, "exact")
    charges = found["charges"]
    assert charges is not None
    pull = pulled(structures_of(data), field, born, charges)
    return pull.new_zeros(len(data["ptr"]) - 1).index_add(0, data["batch"], pull)
