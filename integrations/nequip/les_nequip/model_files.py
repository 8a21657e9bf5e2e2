"""Model files: our own of plain values, and upstream's checkpoints, read as plain values.

A model is written as the section of the configuration that builds it, its weights and its
format. Reading one runs no code but the builders in ``les_nequip.sections``.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import torch
import yaml
from nequip.model.saved_models import load_saved_model
from nequip.utils.global_state import set_global_state
from torch import Tensor

from les.backends.model_files import OPT_IN, PickleRefusedError, check_file, load_plain
from les.files import replacing
from les_nequip.sections import (
    TRAINED_MODEL,
    build,
    in_precision,
    refuse_other_builders,
)

#: Marks files of this format, and its version.
FORMAT: Final = "les_nequip.model/1"
#: Endings of the names of model files.
PLAIN, CHECKPOINT, PACKAGE, COMPILED = ".nequip.pt", ".ckpt", ".nequip.zip", ".nequip.pt2"

#: Upstream's modules of training whose weights to evaluate with are known to us.
_TRAINING_MODULES: Final = frozenset(
    f"nequip.train.{name}"
    for name in (
        "NequIPLightningModule",
        "lightning.NequIPLightningModule",
        "EMALightningModule",
        "ema.EMALightningModule",
    )
)
_PREFIX: Final = "model.sole_model."


@dataclass(frozen=True)
class Stored:
    """What a file holds of a model, in plain values."""

    path: Path
    #: The section of a configuration that builds the model; names no other file.
    section: dict[str, Any]
    state_dict: dict[str, Any]
    #: Averages of the parameters, in their order, to be used instead of them.
    averages: list[Tensor] | None = None

    @property
    def has_les(self) -> bool:
        """Whether the model has latent charges."""
        return any(".readout.network." in name for name in self.state_dict)

    def model(self, dtype: str = "", compile_mode: str = "eager") -> Any:
        """The model in evaluation mode on the CPU, in ``dtype`` or else its own precision.

        Raises:
            ValueError: if it cannot be built here, or its weights do not fit.
        """
        section = in_precision(self.section, dtype) if dtype else self.section
        try:
            model = build(section, compile_mode)
            model.load_state_dict(self.state_dict)
        except (RuntimeError, ValueError) as error:
            raise ValueError(
                f"{self.path} does not fit nequip {metadata.version('nequip')}: {error}"
            ) from error
        if self.averages is not None:
            with torch.no_grad():
                for parameter, average in zip(model.parameters(), self.averages, strict=True):
                    parameter.copy_(average)
        model.les_section = self.section
        return model.eval()


def save_model(model: Any, path: str | Path, section: Mapping[str, Any] | None = None) -> None:
    """Write ``model`` so that :func:`load_model` reads it; the file appears whole or not at all.

    Args:
        model: a model of nequip.
        path: the file, whose name ends with ``.nequip.pt``.
        section: the section ``training_module.model`` of a configuration that builds it; those
            that were read from a file bring their own.

    Raises:
        ValueError: for another name, without a ``section``, or with one that is not plain or
            names other functions than builders of models.
    """
    path = Path(path)
    if not path.name.endswith(PLAIN):
        raise ValueError(f"the name {path} must end with {PLAIN}, which tells whose model it is")
    section = getattr(model, "les_section", None) if section is None else section
    if section is None:
        raise ValueError("`section` must be given: how this model was built is not known")
    section = _plain(section, "`section`")
    refuse_other_builders(section, "`section`")
    names = ("les", "nequip", "nequip-allegro", "e3nn", "torch")
    content = {
        "format": FORMAT,
        "section": section,
        "state_dict": {key: x.detach().cpu() for key, x in model.state_dict().items()},
        "versions": {name: _version(name) for name in names},
    }
    with replacing(path) as temporary:
        torch.save(content, temporary)


def load_model(path: str | Path, *, dtype: str = "", allow_pickle: bool = False) -> Any:
    """A model from a plain file, a checkpoint, or with ``allow_pickle`` a package.

    Args:
        path: ends with ``.nequip.pt``, ``.ckpt`` or ``.nequip.zip``.
        dtype: ``"float32"``, ``"float64"`` or, empty, the precision of the model.
        allow_pickle: read what runs the code it holds when it is loaded.

    Raises:
        FileNotFoundError, OSError, ValueError: as ``les.backends.model_files.load_plain``; for
            files that hold no model of nequip, or one that does not fit what is installed.
    """
    path = Path(path)
    if allow_pickle and path.name.endswith((PACKAGE, CHECKPOINT)):
        foreign = _as_upstream_loads_it(path)
        if foreign is not None and (not dtype or getattr(torch, dtype) == foreign.model_dtype):
            return foreign.eval()
    return read_stored(path, allow_pickle=allow_pickle).model(dtype)


def read_stored(path: str | Path, *, allow_pickle: bool = False) -> Stored:
    """What a model file holds; arguments and errors as those of :func:`load_model`."""
    path = Path(path)
    if path.name.endswith(PLAIN):
        return _read_plain(path)
    if path.name.endswith(CHECKPOINT):
        return _read_checkpoint(path, allow_pickle)
    if path.name.endswith(PACKAGE):
        return _read_package(path, allow_pickle)
    raise ValueError(
        f"{path} must be a model file ({PLAIN}), a checkpoint ({CHECKPOINT}) or a package "
        f"({PACKAGE})"
    )


def read_checkpoint(path: Path, *, allow_pickle: bool = False) -> dict[str, Any]:
    """The content of a checkpoint of ``nequip-train``, of which nothing is built.

    Raises:
        FileNotFoundError, OSError, ValueError: as :func:`load_model`.
    """
    content = load_plain(path, "checkpoint of nequip-train", allow_pickle=allow_pickle)
    try:
        hyper = content["hyper_parameters"]
        complete = (
            isinstance(hyper["model"], Mapping)
            and isinstance(hyper["info_dict"]["training_module"]["_target_"], str)
            and isinstance(content["state_dict"], Mapping)
        )
    except (KeyError, TypeError):
        complete = False
    if not complete:
        raise ValueError(f"{path} is no checkpoint of nequip-train: parts of one are missing")
    result: dict[str, Any] = content
    return result


def check_compiled(path: Path, allow_pickle: bool) -> None:
    """Refuse a compiled model that is not whole, or that nobody has allowed to run.

    Raises:
        FileNotFoundError, OSError, ValueError: as :func:`load_model`.
    """
    check_file(path, "compiled NequIP model")
    if not allow_pickle:
        raise PickleRefusedError(f"{path} is a compiled model, a program; {OPT_IN}")


def _as_upstream_loads_it(path: Path) -> Any:
    """The model of a package, with the code in it, or of a training that is not known to us."""
    if path.name.endswith(PACKAGE):
        check_file(path, "package of nequip")
    else:
        hyper = read_checkpoint(path, allow_pickle=True)["hyper_parameters"]
        if hyper["info_dict"]["training_module"]["_target_"] in _TRAINING_MODULES:
            return None
    set_global_state()
    try:
        return load_saved_model(str(path))
    except Exception as error:  # the code of the package may raise anything
        raise ValueError(
            f"{path} cannot be loaded as a model of nequip: {type(error).__name__}: {error}"
        ) from error


def _read_plain(path: Path) -> Stored:
    content = load_plain(path, "NequIP model")
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise ValueError(f"{path} holds no NequIP model: its format is {found!r}, not {FORMAT!r}")
    if not all(isinstance(content.get(key), Mapping) for key in ("section", "state_dict")):
        raise ValueError(f"{path} lacks parts of a NequIP model")
    refuse_other_builders(content["section"], path)
    return Stored(path, dict(content["section"]), dict(content["state_dict"]))


def _read_checkpoint(path: Path, allow_pickle: bool) -> Stored:
    content = read_checkpoint(path, allow_pickle=allow_pickle)
    hyper, state = content["hyper_parameters"], content["state_dict"]
    module = hyper["info_dict"]["training_module"]["_target_"]
    if module not in _TRAINING_MODULES:
        raise PickleRefusedError(
            f"{path} is of a training with {module}, whose weights les does not know; {OPT_IN}"
        )
    weights = {key[len(_PREFIX) :]: x for key, x in state.items() if key.startswith(_PREFIX)}
    others = [key for key in state if key.startswith("model.") and not key.startswith(_PREFIX)]
    if not weights or others:
        raise ValueError(f"{path} must hold one model, it has the weights {sorted(state)[:3]}, ...")
    section = _without_files(_plain(hyper["model"], path), allow_pickle)
    if not allow_pickle:
        refuse_other_builders(section, path)
    averages = None
    if "ema._extra_state" in state:
        n_averages = sum(key.startswith("ema.ema_weight_") for key in state)
        averages = [state[f"ema.ema_weight_{index}"] for index in range(n_averages)]
    return Stored(path, section, weights, averages)


def _read_package(path: Path, allow_pickle: bool) -> Stored:
    check_file(path, "package of nequip")
    if not allow_pickle:
        raise PickleRefusedError(f"{path} is a package, with pickles and the code to load; {OPT_IN}")
    try:
        with zipfile.ZipFile(path) as archive:
            (name,) = (x for x in archive.namelist() if x.endswith("/model/config.yaml"))
            section = yaml.safe_load(archive.read(name))["training_module"]["model"]
        model = load_saved_model(str(path))
    except Exception as error:  # the code of the package may raise anything
        raise ValueError(
            f"{path} cannot be loaded as a package of nequip: {type(error).__name__}: {error}"
        ) from error
    section = _without_files(_plain(section, path), allow_pickle)
    return Stored(path, section, dict(model.state_dict()))


def _without_files(section: dict[str, Any], allow_pickle: bool) -> dict[str, Any]:
    """``section`` with those of the models in the files that it names in their place."""
    target = section.get("_target_")
    if target in TRAINED_MODEL:
        inner: dict[str, Any] = section["section"]
        return inner
    for name, key in (
        ("nequip.model.ModelFromCheckpoint", "checkpoint_path"),
        ("nequip.model.ModelFromPackage", "package_path"),
    ):
        if target == name:
            return read_stored(section[key], allow_pickle=allow_pickle).section
    return {
        key: _without_files(value, allow_pickle) if isinstance(value, dict) else value
        for key, value in section.items()
    }


def _plain(value: Any, where: Any) -> Any:
    """``value`` in dictionaries, lists, texts and numbers."""
    if isinstance(value, Mapping):
        return {_plain(key, where): _plain(item, where) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, where) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"{where} holds a {type(value).__name__} where plain values are expected")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
