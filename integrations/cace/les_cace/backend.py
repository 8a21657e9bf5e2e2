"""CACE as a backend of the command line and the benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from les.training.backend import TrainingBackend
from les_cace.features import FEATURES

if TYPE_CHECKING:
    from collections.abc import Sequence


class CACEBackend(TrainingBackend):
    """The implementation of CACE in this package, which needs a neighbour list only."""

    name = "cace"
    features = FEATURES
    package = "les_cace"
    distribution = "matscipy"
    symbol = "matscipy.neighbours:neighbour_list"
    suffix = ".cace.pt"  # MACE has .pt
    model_suffixes = (suffix,)

    def train(self, arguments: Sequence[str], *, les: bool) -> None:
        self.require()
        from les_cace.training import train

        train(arguments, les=les, backend=self)

    def convert(self, source: Path, target: Path, *, allow_pickle: bool = False) -> None:
        self.require()
        self.require_ending(target)
        if source.name.endswith(self.model_suffixes):
            raise ValueError(f"{source} is a model file of les already; use it as it is")
        from les_cace.checkpoint import save_model
        from les_cace.published import load_published

        save_model(load_published(source, allow_pickle=allow_pickle), target)
