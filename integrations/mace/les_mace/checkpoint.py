"""Loading and saving MACE models, with charges and without.

mace-torch saves models as pickles, and loading a pickle runs whatever code it holds. The
format here is a dictionary of plain values and tensors: the arguments that rebuild the
model and its ``state_dict``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mace  # noqa: F401  (before e3nn: it makes e3nn 0.4 importable on current torch)
import torch
from e3nn import o3
from mace import modules
from mace.modules import extensions
from mace.modules.models import ScaleShiftMACE
from mace.tools.scripts_utils import extract_config_mace_model
from mace.tools.torch_tools import default_dtype

from les.backends.model_files import check_parts, load_plain
from les.config_fields import OF_THE_READOUT
from les.files import replacing
from les.legacy import stored_settings
from les.versions import mark, read_mark
from les_mace.model import MACELES
from les_mace.quiet import quiet

#: What a file holds, for messages.
KIND = "MACE model"

#: What the mark of a file calls the class of its model.
FORMATS: dict[type[ScaleShiftMACE], str] = {
    MACELES: "les_mace.MACELES",
    ScaleShiftMACE: "les_mace.ScaleShiftMACE",
}


def save_model(model: ScaleShiftMACE, path: str | Path) -> None:
    """Write ``model`` so that :func:`load_model` reads it without running code.

    The file is written completely or not at all, even if several processes write it.

    Raises:
        TypeError: for models other than ``MACELES`` and upstream's ``ScaleShiftMACE``.
        ValueError: for a model that mace-torch cannot rebuild, such as one with a radial basis
            other than Bessel's.
        OSError: if the file cannot be written; the message names it.
    """
    if type(model) not in FORMATS:
        known = " or ".join(each.__name__ for each in FORMATS)
        raise TypeError(f"`model` must be a {known}, got {type(model).__name__}")
    try:
        config = extract_config_mace_model(model)
    except AttributeError as error:
        raise ValueError(
            f"mace-torch does not tell how this model is made ({error}); keep its pickle"
        ) from error
    content = {
        "format": mark(FORMATS[type(model)]),
        "config": {key: _to_plain(value) for key, value in config.items()},
        "state_dict": {key: value.cpu() for key, value in model.state_dict().items()},
    }
    if isinstance(model, MACELES):
        content["les_arguments"] = {
            **model.les.config().settings_for_charges(),
            "compute_bec": model.compute_bec,
            "bec_output_index": model.bec_output_index,
        }
    with replacing(path) as temporary:
        torch.save(content, temporary)


def load_model(
    path: str | Path, *, allow_pickle: bool = False, device: str = "cpu"
) -> ScaleShiftMACE:
    """Read a model of :func:`save_model`, or with ``allow_pickle`` a model of mace-torch.

    Pickled models of published LES, and of mace-torch's own class ``MACELES``, become models of
    this package with their own settings. Short-range models are returned as they are.

    Raises:
        FileNotFoundError: if there is no such file.
        les.backends.model_files.PickleRefusedError: if the file is a pickle and ``allow_pickle``
            is false.
        ValueError: if the file is damaged, lacks a part, or holds something other than a MACE
            model.
    """
    path = Path(path)
    # Where published models look for their class.
    modules.models.MACELES = MACELES
    with quiet():
        content = load_plain(path, KIND, allow_pickle=allow_pickle)
        if isinstance(content, torch.nn.Module):
            return _ours(content, path).to(device)
        return _rebuilt(content, path).to(device)


def _rebuilt(content: Any, path: Path) -> ScaleShiftMACE:
    """The model that :func:`save_model` has made ``content`` of."""
    check_parts(content, ("format",), path, KIND)
    classes = {name: model_class for model_class, name in FORMATS.items()}
    name, version = read_mark(content["format"], classes, path, KIND)
    model_class = classes[name]
    own = {MACELES: ("les_arguments",)}.get(model_class, ())
    check_parts(content, ("config", "state_dict", *own), path, KIND)
    state = content["state_dict"]
    check_parts(state, ("atomic_energies_fn.atomic_energies",), path, KIND)
    settings = {name: _with_effect(content[name], version) for name in own}
    try:
        with default_dtype(state["atomic_energies_fn.atomic_energies"].dtype):
            config = {key: _from_plain(key, value) for key, value in content["config"].items()}
            model = model_class(**settings, **config)
    except Exception as error:  # upstream's are of many kinds
        reason = " ".join(str(error).split())  # torch's have many lines
        raise ValueError(
            f"{path} cannot be rebuilt with this mace-torch: {type(error).__name__}: {reason}"
        ) from error
    _load_state(model, state, path)
    return model


def _with_effect(settings: Any, version: int) -> Any:
    """Stored settings of LES, without those that earlier releases took and did not use."""
    if not isinstance(settings, Mapping):
        return settings
    settings = stored_settings(settings, version)
    return {name: value for name, value in settings.items() if name not in OF_THE_READOUT}


def _load_state(model: ScaleShiftMACE, state: dict[str, torch.Tensor], path: Path) -> None:
    """Load all of ``state``; only buffers that newer releases of mace-torch added may lack."""
    try:
        incompatible = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        first = next(iter(str(error).splitlines()[1:]), str(error)).strip()
        raise ValueError(f"{path} does not fit this mace-torch: {first}") from error
    parameters = dict(model.named_parameters())
    missing = [key for key in incompatible.missing_keys if key in parameters]
    if missing or incompatible.unexpected_keys:
        raise ValueError(
            f"{path} does not fit this mace-torch: it lacks {missing or 'nothing'} and has "
            f"{incompatible.unexpected_keys or 'nothing'} too much"
        )


def _ours(model: torch.nn.Module, path: Path) -> ScaleShiftMACE:
    """An unpickled model; that of upstream's own class with LES becomes one of ours."""
    if isinstance(model, extensions.MACELES) and not isinstance(model, MACELES):
        state = model.__dict__
        model = MACELES.__new__(MACELES)
        model.__setstate__(state)
    if not isinstance(model, ScaleShiftMACE):
        raise ValueError(f"{path} must hold a ScaleShiftMACE model, got {type(model).__name__}")
    return model


def _to_plain(value: Any) -> Any:
    """``value`` of a model configuration as something that loads with ``weights_only``."""
    if isinstance(value, (o3.Irreps,)):
        return str(value)
    if isinstance(value, type) or callable(value):
        return getattr(value, "__name__", str(value))
    if hasattr(value, "tolist"):
        return torch.as_tensor(value)
    return value


def _from_plain(key: str, value: Any) -> Any:
    """The inverse of :func:`_to_plain` for the entry ``key``."""
    if key in ("hidden_irreps", "MLP_irreps", "edge_irreps") and value is not None:
        return o3.Irreps(value)
    if key in ("interaction_cls", "interaction_cls_first"):
        return modules.interaction_classes[value]
    if key == "readout_cls":
        return modules.readout_classes[value]
    if key == "gate" and value is not None:
        return modules.gate_dict[value]
    if isinstance(value, torch.Tensor):
        return value.cpu().numpy()
    return value
