"""Files that nequip writes: checkpoints, packages and compiled models."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from nequip.model.saved_models import load_saved_model
from nequip.utils.global_state import set_global_state

from les.backends.model_files import OPT_IN, PickleRefusedError, check_file, check_parts, load_plain
from les_nequip.sections import plain, refuse_other_builders, without_files
from les_nequip.stored import Stored, is_state

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

SectionReader = Callable[[str], dict[str, Any]]


def read_checkpoint(path: Path, *, allow_pickle: bool = False) -> dict[str, Any]:
    """The content of a checkpoint of ``nequip-train``, of which nothing is built.

    Raises:
        FileNotFoundError, OSError, ValueError: as ``les_nequip.load_model``.
    """
    kind = "checkpoint of nequip-train"
    content = load_plain(path, kind, allow_pickle=allow_pickle)
    check_parts(content, ("hyper_parameters", "state_dict"), path, kind)
    try:
        hyper = content["hyper_parameters"]
        complete = (
            isinstance(hyper["model"], Mapping)
            and isinstance(hyper["info_dict"]["training_module"]["_target_"], str)
            and is_state(content["state_dict"])
        )
    except (KeyError, TypeError):
        complete = False
    if not complete:
        raise ValueError(f"{path} is no checkpoint of nequip-train: parts of one are missing")
    result: dict[str, Any] = content
    return result


def read_trained(path: Path, allow_pickle: bool, read: SectionReader) -> Stored:
    """The model in a checkpoint, as it is to be evaluated.

    Args:
        path: the file.
        allow_pickle: load what runs the code it holds.
        read: returns the section of a model in another file, which the checkpoint may name.

    Raises:
        FileNotFoundError, OSError, ValueError: as ``les_nequip.load_model``.
    """
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
        raise ValueError(f"{path} must hold one model, got the weights {sorted(state)[:3]}, ...")
    section = without_files(plain(hyper["model"], path), path, read)
    if not allow_pickle:
        refuse_other_builders(section, path)
    averages = None
    if "ema._extra_state" in state:
        keys = [key for key in state if key.startswith("ema.ema_weight_")]
        try:
            averages = [state[key] for key in sorted(keys, key=lambda key: int(key.split("_")[-1]))]
        except ValueError as error:
            raise ValueError(f"{path} holds averages of weights without a number") from error
    return Stored(path, section, weights, averages)


def read_package(path: Path, allow_pickle: bool, read: SectionReader) -> Stored:
    """The model in a package; arguments and errors as those of :func:`read_trained`."""
    check_file(path, "package of nequip")
    if not allow_pickle:
        raise PickleRefusedError(
            f"{path} is a package, with pickles and the code to load; {OPT_IN}"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            (name,) = (x for x in archive.namelist() if x.endswith("/model/config.yaml"))
            section = yaml.safe_load(archive.read(name))["training_module"]["model"]
        model = load_saved_model(str(path))
    except Exception as error:  # the code of the package may raise anything
        raise ValueError(
            f"{path} cannot be loaded as a package of nequip: {type(error).__name__}: {error}"
        ) from error
    section = without_files(plain(section, path), path, read)
    return Stored(path, section, dict(model.state_dict()))


def as_upstream_loads_it(path: Path) -> Any:
    """The model of a package, with the code in it, or of a training that is not known to us.

    Returns:
        The model, or ``None`` for a checkpoint that :func:`read_trained` reads.

    Raises:
        FileNotFoundError, OSError, ValueError: as ``les_nequip.load_model``.
    """
    if path.name.endswith(".nequip.zip"):
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


def check_compiled(path: Path, allow_pickle: bool) -> None:
    """Refuse a compiled model that is not whole, or that nobody has allowed to run.

    Raises:
        FileNotFoundError, OSError, ValueError: as ``les_nequip.load_model``.
    """
    check_file(path, "compiled NequIP model")
    if not allow_pickle:
        raise PickleRefusedError(f"{path} is a compiled model, a program; {OPT_IN}")
