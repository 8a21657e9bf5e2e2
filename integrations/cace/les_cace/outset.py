"""What the data settle, and no optimiser: reference energies, and the sign of charges."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.utils.data import DataLoader

from les.response.gauge import orient_charges
from les.training.composition import energies_per_element
from les_cace.batches import collate
from les_cace.data import LabelledStructures, collate_labelled, compare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from les_cace.model import CACE


def orient(model: CACE, data: LabelledStructures) -> None:
    """Fix the sign of the charges by the structures that the model is trained on, if it is open."""
    assert model.charge_readout is not None and model.les_config is not None
    if model.les_config.sign == "trained":
        return
    parameter = model.representation.sender_embedding

    def charges() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for structure, _ in data.items:
            batch = collate([structure]).to(parameter.device, parameter.dtype)
            with torch.no_grad():
                yield model(batch, compute_forces=False)["latent_charges"], batch.numbers

    orient_charges(charges(), model.charge_readout.negate)
    model.set_trained_sign()


def fit_atomic_energies(model: CACE, data: LabelledStructures, batch_size: int) -> None:
    """Shift the reference energies to those of the labels, for the model as it is now."""
    residuals: list[float] = []
    model.eval()
    labelled = [item for item in data.items if not item[1]["energy"].isnan().any()]
    for item in DataLoader(labelled, batch_size, collate_fn=collate_labelled):  # type: ignore[arg-type]
        predicted, expected = compare(model, item, with_forces=False)["energy"]
        residuals += (expected - predicted).tolist()
    numbers = [structure.numbers.tolist() for structure, _ in labelled]
    shift = energies_per_element(numbers, residuals, max(model.representation.zs))
    own = torch.as_tensor(shift)[[z - 1 for z in model.representation.zs]]
    model.atomic_energies += own.to(model.atomic_energies)
