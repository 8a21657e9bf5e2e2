"""Upstream's loss, with terms of Born effective charges and dipoles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from chgnet.trainer.trainer import CombinedLoss
    from torch.utils.data import DataLoader


class ResponseLoss(nn.Module):
    """Upstream's loss plus weighted mean errors of responses, of the same kind as its others.

    A structure may lack any label; what a batch has none of does not count.

    Args:
        loss: upstream's.
        weights: label -> weight.
    """

    def __init__(self, loss: CombinedLoss, weights: Mapping[str, float]) -> None:
        super().__init__()
        loss.criterion = _OfAny(loss.criterion)
        self.loss, self.weights = loss, dict(weights)

    def forward(self, targets: Mapping[str, Any], prediction: Mapping[str, Any]) -> dict[str, Any]:
        """As upstream's: the loss, and mean absolute errors of its targets with their sizes."""
        out: dict[str, Any] = self.loss(targets, prediction)
        for letter in "efs":
            error = out.get(f"{letter}_MAE")
            if error is not None and _missing(targets[letter]):
                out[f"{letter}_MAE"], out[f"{letter}_MAE_size"] = torch.zeros_like(error), 0
        if "e_MAE_size" in out:  # upstream counts the structures without an energy, too
            out["e_MAE_size"] = int((~torch.isnan(targets["e"])).sum())
        for label, weight in self.weights.items():
            pairs = labelled_pairs(label, targets, prediction)
            if pairs:
                predicted, expected = (torch.cat([x.flatten() for x in each]) for each in pairs)
                out["loss"] = out["loss"] + weight * self.loss.criterion(expected, predicted)
        return out


class _OfAny(nn.Module):
    """A mean error, which is zero of nothing."""

    def __init__(self, criterion: nn.Module) -> None:
        super().__init__()
        self.criterion = criterion

    def forward(self, target: Tensor, prediction: Tensor) -> Tensor:
        error: Tensor = self.criterion(target, prediction) if target.numel() else prediction.sum()
        return error


def _missing(targets: Tensor | Sequence[Tensor]) -> bool:
    """Whether no structure has the label."""
    return all(bool(torch.isnan(each).all()) for each in targets)


def labelled_pairs(
    label: str, targets: Mapping[str, Any], prediction: Mapping[str, Any]
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]] | None:
    """Predictions and labels of the structures that have one, ``None`` if none has."""
    pairs = [
        (prediction[label][index], expected)
        for index, expected in enumerate(targets[label])
        if expected is not None
    ]
    if not pairs:
        return None
    predicted, expected = zip(*pairs, strict=True)
    return predicted, expected


class Noted:
    """Batches of a loader, of which the last one can be asked for its labels.

    Args:
        loader: gives graphs and targets.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.loader = loader
        self.targets: Mapping[str, Any] = {}

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        for graphs, targets in self.loader:
            self.targets = targets
            yield graphs, targets

    def has(self, label: str) -> bool:
        """Whether a structure of the last batch has the label of a response."""
        return any(value is not None for value in self.targets.get(label, ()))
