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

from les.legacy import settings_of_new_models
from les_nequip.model_files import read_stored
from les_nequip.overrides import set_section
from les_nequip.sections import ADD_LES, CHAIN, LES, TRAINED_MODEL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from omegaconf import DictConfig

MODEL = "training_module.model"
#: Builders of trained models; these have no slot.
TRAINED = (*TRAINED_MODEL, "nequip.model.ModelFromCheckpoint", "nequip.model.ModelFromPackage")
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
    les = {"_target_": LES[0], **settings_of_new_models(True), **settings}
    if not present:
        value = les
    else:
        # Modules of the chain are built by the chain.
        chain = [{**module, "_partial_": True} for module in (*present, les)]
        value = {"_target_": CHAIN[0], "potentials": chain}
    return set_section(f"{MODEL}.pair_potential", value, exists="pair_potential" in model)


def start_from(
    config: DictConfig, start: Path, settings: Mapping[str, Any], *, les: bool, allow_pickle: bool
) -> list[str]:
    """Overrides that replace the model by the trained one in ``start``.

    With ``les``, LES is added to one that has none.

    Raises:
        FileNotFoundError, ValueError: as ``les_nequip.load_model``; for ``settings`` of a model
            that has LES, and for such a model without ``les``.
    """
    stored = read_stored(start, allow_pickle=allow_pickle)
    if stored.has_les and not les:
        raise ValueError(f"--from: {start} has LES; train it further with --les")
    if stored.has_les and settings:
        raise ValueError(
            f"--les_arguments: {start} has LES already, with its own settings; it is trained "
            "further as it is"
        )
    stored.model()  # so that what does not fit is found here
    model = _model(config)
    kept = {name: model[name] for name in COMMON if name in model}
    trained: dict[str, Any] = {
        "_target_": TRAINED_MODEL[0],
        "model_file": str(start.resolve()),
        "section": stored.section,
    }
    if allow_pickle:
        trained["allow_pickle"] = True
    if stored.has_les or not les:
        value = {**trained, **kept}
    else:
        les_section = {**settings_of_new_models(True), **settings}
        value = {"_target_": ADD_LES[0], **kept, "model": trained, "les": les_section}
    return set_section(MODEL, value, exists=True)


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
