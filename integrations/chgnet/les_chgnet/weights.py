"""Weights of CHGNet models as plain values, and those that come with upstream's package."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from chgnet.model import CHGNet
from torch import Tensor, nn

from les.backends.model_files import check_file
from les_chgnet.atomic_energies import AtomicEnergies

#: Names of the weights that come with upstream's package.
PRETRAINED = ("0.3.0", "0.2.0", "r2scan")

_Model = TypeVar("_Model", bound=nn.Module)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Swallow what upstream prints when it makes a model or a calculator."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def plain_dict(content: Mapping[str, Any]) -> dict[str, Any]:
    """What ``CHGNet.as_dict`` returns, without the module that may be among its arguments.

    Raises:
        ValueError: for reference energies that upstream's own name does not stand for.
    """
    arguments = dict(content["model_args"])
    composition_model = arguments["composition_model"]
    if isinstance(composition_model, nn.Module):
        AtomicEnergies.like(composition_model)  # refuses what is no AtomRef
        if not composition_model.is_intensive:
            raise ValueError("`composition_model` must be intensive to be saved")
        # The energies are among the weights; the name only says of what kind they are.
        arguments["composition_model"] = "MPtrj"
    return {**content, "model_args": arguments}


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
