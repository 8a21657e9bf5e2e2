"""Weights of CHGNet models, and those that come with upstream's package."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import TypeVar

from chgnet.model import CHGNet
from torch import Tensor, nn

from les.backends.model_files import check_file

#: Names of the weights that come with upstream's package.
PRETRAINED = ("0.3.0", "0.2.0", "r2scan")

_Model = TypeVar("_Model", bound=nn.Module)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Swallow what upstream prints when it makes a model or a calculator."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def load_weights(model: _Model, state: Mapping[str, Tensor]) -> _Model:
    """``model`` with the weights in ``state``, in their precision."""
    model.to(next(value.dtype for value in state.values() if value.is_floating_point()))
    model.load_state_dict(state)
    return model


def load_pretrained(name: str, device: str = "cpu") -> CHGNet:
    """One of upstream's pretrained models.

    Raises:
        ValueError: if ``name`` is none of :data:`PRETRAINED`, or its file is damaged.
    """
    if name not in PRETRAINED:
        raise ValueError(f"no pretrained CHGNet {name!r} (there are: {', '.join(PRETRAINED)})")
    folder = Path(str(resources.files("chgnet"))) / "pretrained" / name
    for path in folder.glob("*.tar"):  # upstream reads it without a look at its checksums
        check_file(path, "pretrained CHGNet")
    with quiet():
        return CHGNet.load(model_name=name, use_device=device, verbose=False)
