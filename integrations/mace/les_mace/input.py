"""What upstream's calculator hands to a MACE model, with what LES reads besides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from mace.calculators import MACECalculator
from mace.data import AtomicData, KeySpecification, config_from_atoms
from mace.tools.torch_geometric import Batch
from mace.tools.torch_tools import default_dtype

from les.backends.calculator import ChargeCalculator
from les_mace.keys import STATE_KEYS
from les_mace.neighbours import own_cells

if TYPE_CHECKING:
    from ase import Atoms

    from les.config import LESConfig


class CalculatorInput(ChargeCalculator, MACECalculator):
    """The part of a calculator that makes the input of its model.

    Attributes:
        dtype: what the model computes in.
    """

    dtype: torch.dtype

    def set_up_charges(self, config: LESConfig | None) -> None:
        """As ``ChargeCalculator.set_up_charges``, with the names by which upstream is told."""
        key = self.info_keys.setdefault("total_charge", "charge")
        self.total_charge_names = tuple(dict.fromkeys((*self.total_charge_names, key)))
        key = self.info_keys.setdefault("external_field", "external_field")
        self.field_names = tuple(dict.fromkeys((*self.field_names, key)))
        key = self.info_keys.setdefault("total_spin", "spin")
        self.spin_names = tuple(dict.fromkeys((*self.spin_names, key)))
        super().set_up_charges(config)
        # These have an effect, unlike on other models.
        embedded = getattr(self.models[0], "embedding_specs", None) or {}
        named = {self.info_keys.get(name, name) for name in embedded}
        self.used_labels = {*self.used_labels, *named}

    def input_of(self, structures: Sequence[Atoms]) -> dict[str, Any]:
        """The model's input for a batch of structures, which have been placed."""
        batch = Batch.from_data_list([self._graph(atoms) for atoms in structures]).to(self.device)
        return {
            key: value.to(self.dtype) if _is_floating(value) else value
            for key, value in batch.to_dict().items()
        }

    def _atoms_to_batch(self, atoms: Atoms) -> Any:
        """Upstream's batch, of which all results are made."""
        with own_cells(self.neighbours):
            batch = super()._atoms_to_batch(self._with_state(atoms))
        for name, values in self.fragment_tensors(atoms).items():
            batch[name] = values.to(batch["positions"].device)
        return batch

    def _graph(self, atoms: Atoms) -> AtomicData:
        """What upstream's batch of one structure is made of."""
        self.arrays_keys[self.charges_key] = "charges"  # as upstream
        keys = KeySpecification(info_keys=self.info_keys, arrays_keys=self.arrays_keys)
        with own_cells(self.neighbours), default_dtype(self.default_dtype):
            config = config_from_atoms(
                self._with_state(atoms), key_specification=keys, head_name=self.head
            )
            return AtomicData.from_config(
                config, z_table=self.z_table, cutoff=self.r_max, heads=self.available_heads
            )

    def _with_state(self, atoms: Atoms) -> Atoms:
        """The structure with its total charge, spin and field where upstream reads them."""
        # What the long-range part has no use for stays as it is, for upstream's own embeddings.
        state = self.charge_state(atoms)
        if state:
            atoms = atoms.copy()
            atoms.info.update({self.info_keys[STATE_KEYS[name]]: x for name, x in state.items()})
        return atoms


def _is_floating(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()
