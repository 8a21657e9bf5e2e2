"""External fields of structures: the input, and what they do to the charges of periodic ones."""

from __future__ import annotations

from typing import Any, Final

from nequip.data import AtomicDataDict
from torch import Tensor

from les.in_field import field_on_crystals, pulled
from les.long_range import LongRange
from les.structures import ChargeSums, Structures
from les_nequip.born import born_charges_of_charges
from les_nequip.keys import EXTERNAL_FIELD_KEY

FIELD_IN_GRAPHS: Final[str] = (
    "a model that takes an external field (`external_field`) can be neither compiled nor exported; "
    "use the model as it was trained"
)


def external_field(les: Any, data: AtomicDataDict.Type, *, captured: bool) -> Tensor | None:
    """The field ``[n_structures, 3]`` [V/A] of a model that takes one and is told.

    Args:
        les: the module.
        data: its input.
        captured: whether a graph is being captured or compared with.

    Raises:
        ValueError: for a model that takes a field, where a graph is captured.
    """
    if not les.config.external_field:
        return None
    if captured:
        raise ValueError(FIELD_IN_GRAPHS)
    field = data.get(EXTERNAL_FIELD_KEY)
    if field is None:
        return None
    return field.view(-1, 3).to(data[AtomicDataDict.POSITIONS_KEY].dtype)


def with_pull(
    les: Any,
    data: AtomicDataDict.Type,
    charges: Tensor,
    structures: Structures,
    sums: ChargeSums,
    field: Tensor | None,
    found: LongRange,
) -> LongRange:
    """``found`` with the forces of the ``field`` on charges of periodic structures.

    Args:
        les, data, structures, sums: as for ``les_nequip.born.born_charges_of_charges``.
        charges: as they are read ``[n_atoms]`` [e].
        field: what :func:`external_field` returned.
        found: the long-range part, whose energies of atoms are given these forces.

    Raises:
        ValueError: as the module, and for charges of periodic structures that respond to the field.
    """
    if field is None or not structures.positions.requires_grad:
        return found
    responds = les.config.charge_equilibration or les.config.use_induced_charge
    on_crystals = field_on_crystals(field, structures, charges_respond=responds)
    if on_crystals is None:
        return found
    born = born_charges_of_charges(les, data, charges, structures, sums, "exact")
    pull = pulled(structures, on_crystals, born, found.charges)
    return found._replace(atom_energies=found.atom_energies + pull)
