"""What the data settle, and no optimiser: reference energies, and the sign of charges."""

from __future__ import annotations

from typing import TYPE_CHECKING

from les.response.gauge import orient_charges
from les_chgnet.atomic_energies import shift_atomic_energies
from les_chgnet.model import CHGNetLES

if TYPE_CHECKING:
    from chgnet.model import CHGNet

    from les_chgnet.data import LabelledGraphs


def orient(model: CHGNet, data: LabelledGraphs) -> None:
    """Fix the sign of the charges by the structures that the model is trained on, if it is open."""
    assert isinstance(model, CHGNetLES) and model.les.atomwise is not None
    if model.les.config().sign == "trained":
        return
    device = next(model.parameters()).device
    structures = (
        (model([graph.to(device)], task="e")["charges"][0].detach(), graph.atomic_number.to(device))
        for graph in data.graphs
    )
    orient_charges(structures, model.les.atomwise.negate)
    model.les.set_trained_sign()


def fit_atomic_energies(model: CHGNet, data: LabelledGraphs, batch_size: int) -> None:
    """Shift the reference energies to those of the labels, for the model as it is now."""
    graphs = [graph for graph, _ in data.labelled]
    predictions = model.predict_graph(graphs, task="e", batch_size=batch_size)
    # A single graph comes without its list.
    predictions = [predictions] if len(graphs) == 1 else predictions
    residuals = [
        float(targets["e"]) - float(prediction["e"])
        for (_, targets), prediction in zip(data.labelled, predictions)
    ]
    numbers = [graph.atomic_number.tolist() for graph in graphs]
    shift_atomic_energies(model.composition_model, numbers, residuals)
