"""Training on responses as overrides of a configuration."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from les.data.requirements import Requirements
from les_nequip.charge_states import INPUTS
from les_nequip.configured import is_compiled, resolved
from les_nequip.keys import RESPONSE_FIELDS
from les_nequip.overrides import add_callback, set_section
from les_nequip.sections import ADD_LES, LES
from les_nequip.slot import MODEL


def with_responses(
    config: DictConfig, weights: Mapping[str, float], *, in_field: bool = False
) -> list[str]:
    """Overrides of ``config`` that put responses with ``weights`` into its loss and metrics.

    The coefficient of a root mean square error in the metrics, which decide the best epoch, is the
    square root of the weight. With ``in_field`` structures may lack an energy, too: those of
    periodic ones in a field are left out.

    Raises:
        ValueError: for a configuration without a loss, and models that are compiled to be trained.
    """
    if not weights and not in_field:
        return []
    if is_compiled(config):
        raise ValueError(
            "Born effective charges, dipoles and structures in a field cannot be trained on with "
            "`compile_mode: compile`; set training_module.model.compile_mode=eager"
        )
    overrides = []
    for section, error, power in (("loss", "mse", 1.0), ("val_metrics", "rmse", 0.5)):
        key = f"training_module.{section}"
        node = OmegaConf.select(config, key)
        if node is None and section == "loss":
            raise ValueError("the configuration has no `training_module.loss` to add responses to")
        if node is None:
            continue
        value = {
            "_target_": "les_nequip.WithResponses",
            "coeffs": {RESPONSE_FIELDS[x]: math.pow(w, power) for x, w in weights.items()},
            "error": error,
            "metrics": {**OmegaConf.to_container(node, resolve=False), "_partial_": True},
        }
        overrides += set_section(key, value, exists=True)
    return [*overrides, *with_trained_sign(config)]


def requirements_of(config: DictConfig) -> Requirements:
    """What the model with LES that ``config`` describes asks of structures, but for elements."""
    model = resolved(OmegaConf.select(config, MODEL))
    sections = list(_les_sections(model))
    uses_total_charge = any(section.get("neutrality") == "shift" for section in sections)
    embedded = [x for x in INPUTS if any(section.get(f"embed_{x}") for section in sections)]
    moments = ("dipole", "quadrupole", "induced_charge", "induced_dipole")
    reads_moments = any(section.get(f"use_{x}") for section in sections for x in moments)
    whole = is_compiled(config) or reads_moments
    return Requirements(
        total_charge=uses_total_charge,
        embedded=tuple(embedded),
        whole=whole,
        external_field=any(section.get("external_field") for section in sections),
    )


def with_trained_sign(config: DictConfig) -> list[str]:
    """Overrides of ``config`` with which its model gets charges of the right sign, and says so.

    For what a sign can be learned from: responses, and structures with a total charge.
    """
    model = OmegaConf.to_container(OmegaConf.select(config, MODEL), resolve=False)
    sections = list(_les_sections(model))
    callback = {
        "_target_": "les_nequip.ComputeResponses",
        "orient": not any(section.get("sign") == "trained" for section in sections),
    }
    for les in sections:
        les["sign"] = "trained"
    overrides = set_section(MODEL, model, exists=True)
    return [*overrides, *add_callback(config, callback)]


def _les_sections(section: Any) -> Iterator[dict[str, Any]]:
    """The settings of LES in a section of a configuration that builds a model."""
    if isinstance(section, dict):
        if section.get("_target_") in LES:
            yield section
        elif section.get("_target_") in ADD_LES:
            yield section.setdefault("les", {})
        for value in section.values():
            yield from _les_sections(value)
    elif isinstance(section, list):
        for value in section:
            yield from _les_sections(value)
