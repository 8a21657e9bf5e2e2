"""Checkpoints of training that appear whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from les.files import replacing


class WholeFiles(TorchCheckpointIO):
    """Writes each checkpoint beside its place, and moves it there when it is complete.

    Lightning writes to the folder of temporary files first. Where that is on another disk,
    moving a file is copying it, and a run that is killed meanwhile leaves half a checkpoint in
    the place of a whole one. To be named among ``trainer.plugins``.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write ``checkpoint`` to ``path``.

        Raises:
            OSError: naming ``path``, if it cannot be written.
        """
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as temporary:
            torch.save(checkpoint, temporary)
