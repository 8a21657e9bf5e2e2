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
from les_chgnet.model import PRETRAINED, CHGNetLES, load_pretrained, load_weights, plain_dict


def save_model(model: CHGNet, path: str | Path) -> None:
    """Write ``model`` so that :func:`load_model` reads it; the file appears whole or not at all."""
    with replacing(path) as temporary:
        torch.save({"model": plain_dict(model.as_dict())}, temporary)


def load_model(
    source: str | Path, *, allow_pickle: bool = False, device: str | torch.device = "cpu"
) -> CHGNet:
    """A model from a file, of :func:`save_model`, of training or of upstream, or by name.

    Args:
        source: a file, or a name of :data:`les_chgnet.model.PRETRAINED`.
        allow_pickle: also load files that run the code they hold.
        device: where the model is put.

    Returns:
        A ``CHGNetLES``, or upstream's ``CHGNet`` if the model has no charges.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file needs ``allow_pickle``, is damaged, or is of something else.
    """
    if str(source) in PRETRAINED and not Path(source).exists():
        return load_pretrained(str(source)).to(device)
    return model_from(read_checkpoint(source, allow_pickle=allow_pickle), source).to(device)


def read_checkpoint(path: str | Path, *, allow_pickle: bool = False) -> dict[str, Any]:
    """The content of a file of upstream's format: ``model`` and maybe the state of training.

    Raises:
        FileNotFoundError, ValueError: as :func:`load_model`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no model file {path}, nor a pretrained model of this name ({', '.join(PRETRAINED)})"
        )
    path.open("rb").close()  # a file that may not be read is not a question of its format
    try:
        content = torch.load(path, map_location="cpu", weights_only=not allow_pickle)
    except Exception as error:  # torch raises many kinds; the file is what matters
        hint = ""
        if not allow_pickle:
            hint = (
                "; if it is a pickle from a source you trust, pass allow_pickle=True, or "
                "--allow-pickle (loading it runs the code it holds)"
            )
        raise ValueError(f"{path} is not a plain CHGNet model file{hint}") from error
    model = content.get("model") if isinstance(content, dict) else None
    if not isinstance(model, dict) or not {"model_args", "state_dict"} <= set(model):
        raise ValueError(f"{path} holds no CHGNet model (`model` with `model_args`, `state_dict`)")
    return content


def model_from(content: dict[str, Any], path: str | Path) -> CHGNet:
    """The model of :func:`read_checkpoint`; ``path`` is for messages."""
    arguments, state = content["model"]["model_args"], content["model"]["state_dict"]
    try:
        model = (CHGNetLES if "les_arguments" in arguments else CHGNet)(**arguments)
        load_weights(model, state)
    except (AttributeError, RuntimeError, StopIteration, TypeError, ValueError) as error:
        raise ValueError(f"{path} does not fit this release of chgnet or les: {error}") from error
    return model
