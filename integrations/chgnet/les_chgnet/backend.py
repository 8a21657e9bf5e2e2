"""CHGNet as a backend of the command line and the benchmarks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from les.training.backend import TrainingBackend
from les_chgnet.features import FEATURES

if TYPE_CHECKING:
    from collections.abc import Sequence


class CHGNetBackend(TrainingBackend):
    """chgnet, trained from scratch. Nothing of it is imported before it is used."""

    name = "chgnet"
    features = FEATURES
    package = "les_chgnet"
    config_folder = "configs/scratch"
    distribution = "chgnet"
    symbol = "chgnet.model.model:BatchedGraph"
    suffix = ".pth.tar"
    model_suffixes: ClassVar[tuple[str, ...]] = (suffix,)
    #: Model that training starts from if the arguments name none.
    start: ClassVar[str | None] = None

    def train(self, arguments: Sequence[str], *, les: bool, **options: Any) -> None:
        super().train(arguments, les=les, start=self.start, **options)


class PretrainedCHGNetBackend(CHGNetBackend):
    """chgnet, fine-tuned from the universal model that comes with it."""

    name = "chgnet-pretrained"
    extra = "chgnet"
    config_folder = "configs/pretrained"
    start = "0.3.0"
    model_suffixes = ()  # its files are those of `chgnet`, which reads them
