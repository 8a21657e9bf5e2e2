"""Loading and saving CHGNet models, with and without charges.

Upstream's format is a dictionary of weights and the model's arguments; ours is the same, so
that the files of both load without running code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from chgnet.model import CHGNet

from les.files import replacing
from les_chgnet.model import CHGNetLES
from les_chgnet.model_arguments import plain_dict
from les_chgnet.stored import has_charges, read_checkpoint, restored
from les_chgnet.weights import PRETRAINED, load_pretrained, load_weights


def save_model(model: CHGNet, path: str | Path) -> None:
    """Write ``model`` for :func:`load_model`; the file is written completely or not at all."""
    with replacing(path) as temporary:
        torch.save({"model": plain_dict(model.as_dict())}, temporary)


def load_model(
    source: str | Path, *, allow_pickle: bool = False, device: str | torch.device = "cpu"
) -> CHGNet:
    """Read a model from a file of :func:`save_model`, of training or of upstream, or by name.

    Args:
        source: a file, or a name of :data:`les_chgnet.weights.PRETRAINED`.
        allow_pickle: also load files that run the code they hold.
        device: device of the model.

    Returns:
        A ``CHGNetLES``, or upstream's ``CHGNet`` if the model has no charges.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file needs ``allow_pickle``, is damaged, or holds no such model.
    """
    if str(source) in PRETRAINED and not Path(source).exists():
        return load_pretrained(str(source)).to(device)
    return model_from(read_checkpoint(source, allow_pickle=allow_pickle), source).to(device)


def model_from(content: dict[str, Any], path: str | Path) -> CHGNet:
    """The model of :func:`les_chgnet.stored.read_checkpoint`; ``path`` is for messages.

    Raises:
        ValueError: naming ``path``, if the model cannot be made.
    """
    if has_charges(content):
        return restored(CHGNetLES.from_dict, content, path)
    return restored(_short_range, content, path)


def _short_range(content: dict[str, Any]) -> CHGNet:
    return load_weights(CHGNet(**content["model_args"]), content["state_dict"])
