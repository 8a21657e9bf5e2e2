"""An order of the training data that a continued run can repeat."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler


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
