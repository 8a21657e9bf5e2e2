"""Loading and saving CACE models, as plain values that load without running code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from les.files import replacing
from les_cace.model import CACE

#: Marks files of this format, and its version.
FORMAT = "les_cace.CACE/1"


def save_model(model: CACE, path: str | Path) -> None:
    """Write ``model`` so that :func:`load_model` reads it; the file appears whole or not at all."""
    with replacing(path) as temporary:
        torch.save(model_content(model), temporary)


def load_model(path: str | Path, *, device: str | torch.device = "cpu") -> CACE:
    """A model that :func:`save_model` has written, or that is in a checkpoint of training.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, or of something else.
    """
    content = read(path)
    model = model_from(content.get("model", content), path)
    average = content.get("average")
    if average is not None:  # of a checkpoint: what is validated
        model.load_state_dict(
            {key[7:]: value for key, value in average.items() if key.startswith("module.")}
        )
    return model.to(device).eval()


def read(path: str | Path) -> dict[str, Any]:
    """The content of a file: of a model, or the state of training with its ``model``.

    Raises:
        FileNotFoundError, ValueError: as :func:`load_model`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no model file {path}")
    path.open("rb").close()  # a file that may not be read is not a question of its format
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds; the file is what matters
        raise ValueError(
            f"{path} is not a plain CACE model file; a published model, which is a pickle, becomes "
            "one with `les convert cace`"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no CACE model, but a {type(content).__name__}")
    return content


def model_content(model: CACE) -> dict[str, Any]:
    """What a file holds of ``model``."""
    state = {key: value.detach().cpu() for key, value in model.state_dict().items()}
    return {"format": FORMAT, "arguments": model.arguments, "state_dict": state}


def model_from(content: Any, path: str | Path) -> CACE:
    """The model of :func:`model_content`, in its precision.

    Raises:
        ValueError: naming ``path``, if ``content`` is something else.
    """
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path} holds no CACE model (format {FORMAT!r} expected)")
    try:
        state = content["state_dict"]
        dtype = state["representation.sender_embedding"].dtype
        model = CACE(**content["arguments"]).copy(dtype, "cpu")
        model.load_state_dict(state)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} does not fit this release of les: {error}") from error
    return model
