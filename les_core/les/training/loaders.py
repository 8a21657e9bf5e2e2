"""Batches of the data, in an order of the training data that a continued run can repeat."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler


class EpochShuffle(Sampler[int]):
    """Another order in each epoch, which depends on the seed and the epoch only.

    A run that is continued sees the order that it would have seen.

    Args:
        n_samples: number of samples.
        seed: of all epochs.
        epoch: the first epoch.
    """

    def __init__(self, n_samples: int, seed: int, epoch: int = 0) -> None:
        self.n_samples, self.seed, self.epoch = n_samples, seed, epoch

    def __len__(self) -> int:
        return self.n_samples

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + self.epoch)
        self.epoch += 1
        return iter(torch.randperm(self.n_samples, generator=generator).tolist())


def make_loaders(
    data: Mapping[str, Dataset[Any]],
    options: argparse.Namespace,
    epoch: int,
    collate: Callable[[list[Any]], Any],
) -> dict[str, DataLoader[Any]]:
    """Batches of each part of the data; those of ``"train"`` in the order of :class:`EpochShuffle`.

    Args:
        data: parts of the data, ``"train"`` among them.
        options: of ``les.training.arguments.TrainingParser``.
        epoch: the first epoch.
        collate: makes a batch of samples.
    """
    loaders = {
        name: DataLoader(samples, options.valid_batch_size, collate_fn=collate)
        for name, samples in data.items()
    }
    order = EpochShuffle(len(data["train"]), options.seed, epoch)  # type: ignore[arg-type]
    loaders["train"] = DataLoader(
        data["train"], options.batch_size, sampler=order, collate_fn=collate
    )
    return loaders
