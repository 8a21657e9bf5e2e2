"""CACE as a backend of the command line and the benchmarks."""

from __future__ import annotations

from pathlib import Path

from les.training.backend import TrainingBackend
from les_cace.features import FEATURES


class CACEBackend(TrainingBackend):
    """The implementation of CACE in this package, which needs a neighbour list only."""

    name = "cace"
    features = FEATURES
    package = "les_cace"
    distribution = "matscipy"
    symbol = "matscipy.neighbours:neighbour_list"
    suffix = ".cace.pt"  # MACE has .pt
    model_suffixes = (suffix,)

    def convert(self, source: Path, target: Path, *, allow_pickle: bool = False) -> None:
        self.require()
        self.require_ending(target)
        if source.name.endswith(self.model_suffixes):
            raise ValueError(f"{source} is a model file of les already; use it as it is")
        from les_cace.checkpoint import save_model
        from les_cace.published import load_published

        save_model(load_published(source, allow_pickle=allow_pickle), target)
