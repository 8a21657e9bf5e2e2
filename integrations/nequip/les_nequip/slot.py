"""Where LES goes in a training configuration, as overrides on nequip-train's command line.

Overrides rather than an edited configuration: a run then records them, and continues, is
distributed and is repeated like any other run of upstream.
"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

if TYPE_CHECKING:
    from collections.abc import Mapping

    from omegaconf import DictConfig

MODEL = "training_module.model"
#: Names of the module in configurations.
LES = ("les_nequip.LES", "les_nequip.module.LES")
ADD_LES = ("les_nequip.AddLES", "les_nequip.fine_tuning.AddLES")
CHAIN = ("les_nequip.PairPotentials", "les_nequip.chain.PairPotentials")
#: Upstream's builders of trained models; these have no slot.
TRAINED = ("nequip.model.ModelFromCheckpoint", "nequip.model.ModelFromPackage")
#: What every model builder of upstream takes.
COMMON = ("seed", "model_dtype", "type_names", "compile_mode")


def add_to_slot(config: DictConfig, settings: Mapping[str, Any]) -> list[str]:
    """Overrides that put LES with ``settings`` into the slot ``pair_potential`` of the model.

    What the slot holds already stays beside it. A model that has LES is left as it is.

    Raises:
        ValueError: if there is no model, or none with this slot; if ``settings`` are given
            but the configuration has LES, with its own.
    """
    model = _model(config)
    target = model["_target_"]
    slot = model.get("pair_potential")
    present = [] if not slot else slot["potentials"] if slot.get("_target_") in CHAIN else [slot]
    if target in ADD_LES or any(module.get("_target_") in LES for module in present):
        if settings:
            raise ValueError(
                f"--les_arguments: `{MODEL}` of the configuration has LES already; change its "
                "settings there"
            )
        return []
    if target in TRAINED:
        raise ValueError(
            f"`{MODEL}` is a trained model ({target}), which has no slot for LES; keep a "
            "configuration of an untrained model and name the trained one with --from"
        )
    if not _has_slot(target):
        raise ValueError(
            f"`{MODEL}` is built by {target}, which has no argument `pair_potential` to pass "
            "LES to; NequIP's and Allegro's model builders have"
        )
    les = {"_target_": LES[0], **settings}
    if not present:
        value = les
    else:
        # Modules of the chain are built by the chain.
        chain = [{**module, "_partial_": True} for module in (*present, les)]
        value = {"_target_": CHAIN[0], "potentials": chain}
    return _set(f"{MODEL}.pair_potential", value, exists="pair_potential" in model)


def add_to_trained(config: DictConfig, start: Path, settings: Mapping[str, Any]) -> list[str]:
    """Overrides that replace the model by the trained one in ``start``, with LES added.

    Raises:
        ValueError: if there is no such file, or it is neither a checkpoint nor a package.
    """
    if not start.is_file():
        raise ValueError(f"--from: there is no file {start}")
    path = str(start.resolve())  # checkpoints of the new run look for it there
    if start.suffix == ".ckpt":
        trained = {"_target_": TRAINED[0], "checkpoint_path": path}
    elif start.name.endswith(".nequip.zip"):
        trained = {"_target_": TRAINED[1], "package_path": path}
    else:
        raise ValueError(
            f"--from must be a checkpoint (.ckpt) or a package (.nequip.zip), got {start}"
        )
    model = _model(config)
    kept = {name: model[name] for name in COMMON if name in model}
    value = {
        "_target_": ADD_LES[0],
        **kept,
        "model": {**trained, "compile_mode": "eager"},
        "les": dict(settings),
    }
    return _set(MODEL, value, exists=True)


def override_text(value: Any) -> str:
    """``value`` in the grammar of Hydra's overrides; interpolations stay interpolations."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{override_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(override_text, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        return repr(value)
    # Hydra takes a backslash for itself only before a quote and at the end.
    text = str(value).replace("\\'", "\\\\'").replace("'", "\\'")
    return f"'{text}'"


def _set(key: str, value: Any, *, exists: bool) -> list[str]:
    # Hydra merges a dictionary into one that is there, so that goes first.
    return [f"~{key}"] * exists + [f"+{key}={override_text(value)}"]


def _model(config: DictConfig) -> dict[str, Any]:
    """The model section, interpolations as they are."""
    model = OmegaConf.select(config, MODEL)
    if not OmegaConf.is_dict(model) or "_target_" not in model:
        raise ValueError(
            f"the configuration must name a model builder in `{MODEL}._target_` to add LES to"
        )
    return OmegaConf.to_container(model, resolve=False)  # type: ignore[return-value]


def _has_slot(target: str) -> bool:
    module, _, name = target.rpartition(".")
    try:
        builder = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        hint = '; install it with: pip install "les[allegro]"' if "allegro" in target else ""
        raise ValueError(f"`{MODEL}._target_`: cannot find {target} ({error}){hint}") from error
    parameters = inspect.signature(builder).parameters.values()
    return any(
        parameter.name == "pair_potential" or parameter.kind is parameter.VAR_KEYWORD
        for parameter in parameters
    )
