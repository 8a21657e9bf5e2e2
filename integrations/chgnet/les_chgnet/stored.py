"""What files of CHGNet models hold: a dictionary of the model's arguments and its weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from les.backends.model_files import check_parts, load_plain
from les.backends.models import model_path
from les_chgnet.weights import PRETRAINED, quiet

#: What files hold, for messages, and what the mark of a model with charges calls it.
KIND = "CHGNet model"
FORMAT = "les_chgnet.CHGNetLES"

_Model = TypeVar("_Model")


def read_checkpoint(path: str | Path, *, allow_pickle: bool = False) -> dict[str, Any]:
    """The content of a file of upstream's format: ``model`` and maybe the state of training.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file needs ``allow_pickle``, is damaged, or is of something else.
    """
    path = model_path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"no model file {path}; the pretrained models are {', '.join(PRETRAINED)}"
        )
    content = load_plain(path, KIND, allow_pickle=allow_pickle)
    check_parts(content, ("model",), path, KIND)
    check_parts(content["model"], ("model_args", "state_dict"), path, KIND)
    check_parts(content["model"]["model_args"], (), path, KIND)
    return cast("dict[str, Any]", content)


def has_charges(content: Mapping[str, Any]) -> bool:
    """Whether the model of :func:`read_checkpoint` has LES."""
    return "les_arguments" in content["model"]["model_args"]


def restored(
    make: Callable[[dict[str, Any]], _Model], content: Mapping[str, Any], path: str | Path
) -> _Model:
    """The model of :func:`read_checkpoint`.

    Args:
        make: makes a model of ``model_args``, ``state_dict`` and ``format`` in a dictionary.
        content: what the file holds.
        path: the file, for messages.

    Raises:
        ValueError: naming ``path``, if the model cannot be made.
    """
    stored = content["model"]
    arguments, state = stored["model_args"], stored["state_dict"]
    try:
        if any(key.endswith(".mlp_out.layers.1.bias") for key in state):
            # The model 0.2.0 has biases that its own arguments do not tell of.
            arguments = {"mlp_out_bias": True, **arguments}
        with quiet():
            return make({**stored, "model_args": arguments})
    except Exception as error:  # upstream's assertions and errors are of many kinds
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path} does not fit this release of chgnet or les: {reason}") from error
