"""Loading and saving CHGNet models, with and without charges.

Upstream's format is a dictionary of weights and the model's arguments; ours is the same, so
that the files of both load without running code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from chgnet.model import CHGNet

from les.backends.model_files import check_parts, load_plain
from les.files import replacing
from les_chgnet.model import CHGNetLES
from les_chgnet.model_arguments import plain_dict
from les_chgnet.weights import PRETRAINED, load_pretrained, load_weights, quiet

#: What files hold, for messages.
KIND = "CHGNet model"


def save_model(model: CHGNet, path: str | Path) -> None:
    """Write ``model`` so that :func:`load_model` reads it; the file appears whole or not at all."""
    with replacing(path) as temporary:
        torch.save({"model": plain_dict(model.as_dict())}, temporary)


def load_model(
    source: str | Path, *, allow_pickle: bool = False, device: str | torch.device = "cpu"
) -> CHGNet:
    """A model from a file, of :func:`save_model`, of training or of upstream, or by name.

    Args:
        source: a file, or a name of :data:`les_chgnet.weights.PRETRAINED`.
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
    if not path.exists():
        raise FileNotFoundError(
            f"no model file {path}, nor a pretrained model of this name ({', '.join(PRETRAINED)})"
        )
    content = load_plain(path, KIND, allow_pickle=allow_pickle)
    check_parts(content, ("model",), path, KIND)
    check_parts(content["model"], ("model_args", "state_dict"), path, KIND)
    return cast("dict[str, Any]", content)


def model_from(content: dict[str, Any], path: str | Path) -> CHGNet:
    """The model of :func:`read_checkpoint`; ``path`` is for messages.

    Raises:
        ValueError: naming ``path``, if the model cannot be made.
    """
    arguments, state = content["model"]["model_args"], content["model"]["state_dict"]
    try:
        if any(key.endswith(".mlp_out.layers.1.bias") for key in state):
            # The model 0.2.0 has biases that its own arguments do not tell of.
            arguments = {"mlp_out_bias": True, **arguments}
        with quiet():
            if "les_arguments" in arguments:
                return CHGNetLES.from_dict({"model_args": arguments, "state_dict": state})
            return load_weights(CHGNet(**arguments), state)
    except Exception as error:  # upstream's assertions and errors are of many kinds
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path} does not fit this release of chgnet or les: {reason}") from error
