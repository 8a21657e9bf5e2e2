"""Reference energies per element, in the precision of the model and fitted to new data."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from chgnet.graph import CrystalGraph
from chgnet.model.composition_model import AtomRef
from torch import Tensor, nn

from les.training.composition import energies_per_element


class AtomicEnergies(AtomRef):
    """``AtomRef`` that can be cast to float64, and shifted to other reference energies."""

    @classmethod
    def like(cls, reference: nn.Module | None) -> AtomicEnergies | None:
        """One with the energies of upstream's ``AtomRef``.

        Raises:
            ValueError: for upstream's composition models of other kinds.
        """
        if reference is None:
            return None
        if not isinstance(reference, AtomRef):
            raise ValueError(
                "`composition_model` must be None, a name or an AtomRef, got a "
                f"{type(reference).__name__}"
            )
        energies = cls(
            is_intensive=reference.is_intensive, max_num_elements=reference.max_num_elements
        )
        energies.to(reference.fc.weight.device, reference.fc.weight.dtype)
        energies.fc.load_state_dict(reference.fc.state_dict())
        energies.fc.requires_grad_(reference.fc.weight.requires_grad)
        energies.fitted = reference.fitted
        return energies

    def _assemble_graphs(self, graphs: Sequence[CrystalGraph]) -> Tensor:
        rows = [
            torch.bincount(graph.atomic_number - 1, minlength=self.max_num_elements)
            for graph in graphs
        ]
        composition = torch.stack(rows).to(self.fc.weight.dtype)
        return composition / composition.sum(1, keepdim=True) if self.is_intensive else composition


def shift_atomic_energies(
    reference: AtomRef, numbers: Sequence[Sequence[int]], residuals: Sequence[float]
) -> None:
    """Add to the reference energies what explains ``residuals`` best, in place.

    Args:
        reference: energies per element [eV].
        numbers: atomic numbers of each structure.
        residuals: label minus prediction of each structure [eV/atom].
    """
    shift = energies_per_element(numbers, residuals, reference.max_num_elements)
    with torch.no_grad():
        reference.fc.weight += torch.as_tensor(shift).to(reference.fc.weight)
