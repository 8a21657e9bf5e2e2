"""Loading and saving MACE models with charges.

mace-torch saves models as pickles, and loading a pickle runs whatever code it holds. The
format here is a dictionary of plain values and tensors: the arguments that rebuild the
model and its ``state_dict``.
"""

from __future__ import annotations

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

from les.files import replacing
from les_mace.model import MACELES

#: Marks files of this format, and its version.
FORMAT = "les_mace.MACELES/1"


def save_model(model: MACELES, path: str | Path) -> None:
    """Write ``model`` so that :func:`load_model` reads it without running code.

    The file appears whole or not at all, also if several processes write it.
    """
    config = {key: _to_plain(value) for key, value in extract_config_mace_model(model).items()}
    content = {
        "format": FORMAT,
        "config": config,
        "les_arguments": {
            **model.les.config().to_dict(),
            "compute_bec": model.compute_bec,
            "bec_output_index": model.bec_output_index,
        },
        "state_dict": {key: value.cpu() for key, value in model.state_dict().items()},
    }
    with replacing(path) as temporary:
        torch.save(content, temporary)


def load_model(
    path: str | Path, *, allow_pickle: bool = False, device: str = "cpu"
) -> ScaleShiftMACE:
    """Read a model: one of :func:`save_model`, or with ``allow_pickle`` one of mace-torch.

    Pickled models of published LES, and of mace-torch's own class ``MACELES``, become ours
    with their own settings. Short-range models are returned as they are.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is a pickle and ``allow_pickle`` is false, is damaged, or holds
            something other than a MACE model.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no model file {path}")
    path.open("rb").close()  # a file that may not be read is not a question of its format
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds, where the content is something else
        if not allow_pickle:
            raise ValueError(
                f"{path} is not a plain LES model file; if it is a pickled MACE model from a "
                "source you trust, pass allow_pickle=True, or --allow-pickle (loading it runs "
                "the code it holds)"
            ) from error
        return _load_pickle(path).to(device)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path} holds no MACE model with LES (format {FORMAT!r} expected)")
    state = content["state_dict"]
    with default_dtype(state["atomic_energies_fn.atomic_energies"].dtype):
        config = {key: _from_plain(key, value) for key, value in content["config"].items()}
        model = MACELES(les_arguments=content["les_arguments"], **config)
    _load_state(model, state, path)
    return model.to(device)


def _load_state(model: MACELES, state: dict[str, torch.Tensor], path: Path) -> None:
    """Load all of ``state``; only buffers that newer releases of mace-torch added may lack."""
    incompatible = model.load_state_dict(state, strict=False)
    parameters = dict(model.named_parameters())
    missing = [key for key in incompatible.missing_keys if key in parameters]
    if missing or incompatible.unexpected_keys:
        raise ValueError(
            f"{path} does not fit this mace-torch: it lacks {missing or 'nothing'} and has "
            f"{incompatible.unexpected_keys or 'nothing'} too much"
        )


def _load_pickle(path: Path) -> ScaleShiftMACE:
    # Where published models look for their class.
    modules.models.MACELES = MACELES
    try:
        model = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:  # torch raises many kinds; the file is what matters
        raise ValueError(f"{path} cannot be loaded: {type(error).__name__}: {error}") from error
    if isinstance(model, extensions.MACELES):
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
