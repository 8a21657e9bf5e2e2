"""Loading and saving CACE models, as plain values that load without running code."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch

from les.backends.model_files import PickleRefusedError, check_parts, load_plain
from les.files import replacing
from les.legacy import stored_settings
from les.versions import mark, read_mark
from les_cace.model import CACE

#: What the mark of a file calls its model.
FORMAT = "les_cace.CACE"

#: What files hold, for messages.
KIND = "CACE model"


def save_model(model: CACE, path: str | Path) -> None:
    """Write ``model`` for :func:`load_model`; the file is written completely or not at all."""
    with replacing(path) as temporary:
        torch.save(model_content(model), temporary)


def load_model(
    path: str | Path, *, allow_pickle: bool = False, device: str | torch.device = "cpu"
) -> CACE:
    """Read a model of :func:`save_model`, from a checkpoint of training, or a published one.

    Args:
        path: the file.
        allow_pickle: also read published models, which run the code they hold when they are loaded.
        device: device of the model.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it needs ``allow_pickle``, is damaged, or holds no such model.
    """
    try:
        content = read(path)
    except PickleRefusedError as error:
        if not allow_pickle:
            raise PickleRefusedError(
                f"{error}; `les convert cace` makes a plain file of a published model"
            ) from error
        from les_cace.published import load_published  # of files that are seldom

        return load_published(path, allow_pickle=True).to(device)
    model = model_from(content.get("model", content), path)
    average = content.get("average")
    if average is not None:  # of a checkpoint: what is validated
        check_parts(average, (), path, f"{KIND} with averaged weights")
        state = {key[7:]: value for key, value in average.items() if key.startswith("module.")}
        _load(model, state, path)
    return model.to(device).eval()


def read(path: str | Path) -> dict[str, Any]:
    """The content of a file: of a model, or the state of training with its ``model``.

    Raises:
        FileNotFoundError, ValueError: as :func:`load_model`.
    """
    content = load_plain(path, KIND)
    check_parts(content, (), path, KIND)
    return cast("dict[str, Any]", content)


def model_content(model: CACE) -> dict[str, Any]:
    """What a file holds of ``model``."""
    state = {key: value.detach().cpu() for key, value in model.state_dict().items()}
    return {"format": mark(FORMAT), "arguments": model.arguments, "state_dict": state}


def model_from(content: Any, path: str | Path) -> CACE:
    """The model of :func:`model_content`, in its precision.

    Raises:
        ValueError: naming ``path``, if ``content`` is something else.
    """
    check_parts(content, (), path, KIND)
    _, version = read_mark(content.get("format"), (FORMAT,), path, KIND)
    check_parts(content, ("arguments", "state_dict"), path, KIND)
    state = content["state_dict"]
    check_parts(state, ("representation.sender_embedding",), path, f"{KIND} with weights")
    try:
        dtype = state["representation.sender_embedding"].dtype
        arguments = dict(content["arguments"])
        if arguments.get("les_arguments") is not None:
            arguments["les_arguments"] = stored_settings(arguments["les_arguments"], version)
        model = CACE(**arguments).copy(dtype, "cpu")
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise _misfit(path, error) from error
    _load(model, state, path)
    return model


def _load(model: CACE, state: dict[str, torch.Tensor], path: str | Path) -> None:
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        raise _misfit(path, error) from error


def _misfit(path: str | Path, error: BaseException) -> ValueError:
    reason = " ".join(str(error).split())  # torch's have many lines
    return ValueError(f"{path} does not fit this release of les: {reason}")
