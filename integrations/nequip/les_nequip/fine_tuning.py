"""Adding LES to a trained short-range model, to be trained further."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from hydra.utils import get_method
from nequip.utils import torch_default_dtype

from les_nequip.module import LES
from les_nequip.trained import refuse_other_model
from les_nequip.upstream import prepare

#: Place in front of which upstream's models have their pair potential.
SUM = "total_energy_sum"


def AddLES(
    model: Mapping[str, Any] | torch.nn.Module,
    les: Mapping[str, Any] | None = None,
    *,
    seed: int = 1,
    compile_mode: str | None = None,
    type_names: Sequence[str] | None = None,
    model_dtype: str | None = None,
) -> torch.nn.Module:
    """A trained NequIP or Allegro model with LES added, whose charges start small and random.

    For the section ``training_module.model`` of a configuration::

        model:
          _target_: les_nequip.AddLES
          model:
            _target_: les_nequip.TrainedModel
            model_file: /path/to/model.nequip.pt

    Args:
        model: the section that builds the trained model, or the model.
        les: arguments of ``les_nequip.LES``.
        seed: seed of the initial weights of the charge readout.
        compile_mode: ``"eager"`` or ``"compile"``, instead of what ``model`` says.
        type_names: must be those of the model, if given.
        model_dtype: must be that of the model, if given.

    Raises:
        ValueError: if the section builds no NequIP or Allegro model, or a model that has LES
            already, or other types or another precision than given.
    """
    trained: Any = model
    if not isinstance(model, torch.nn.Module):
        section = dict(model)
        if compile_mode is not None:
            section["compile_mode"] = compile_mode
        trained = get_method(section.pop("_target_"))(**section)
    elif compile_mode is not None:
        raise ValueError("`compile_mode` of a model that is built already cannot be changed")
    models: Any = trained.values() if isinstance(trained, torch.nn.ModuleDict) else [trained]
    for graph_model in models:
        refuse_other_model(graph_model, type_names, model_dtype)
        _add(graph_model, seed, dict(les or {}))
    short_range = dict(model) if isinstance(model, Mapping) else getattr(model, "les_section", None)
    if short_range is not None:  # how this one is built, for its files
        trained.les_section = {
            "_target_": "les_nequip.AddLES",
            "model": getattr(trained, "les_section", short_range),
            "les": dict(les or {}),
            "seed": seed,
        }
    return trained


def _add(graph_model: Any, seed: int, settings: dict[str, Any]) -> None:
    if any(getattr(module, "is_les", False) for module in graph_model.modules()):
        raise ValueError("`model` has LES already; train it as it is")
    sequences = [module for module in graph_model.modules() if SUM in dict(module.named_children())]
    if len(sequences) != 1:
        raise ValueError(
            f"`model` must be a NequIP or Allegro model with one {SUM!r}, got "
            f"{type(graph_model).__name__} with {len(sequences)}"
        )
    sequence = sequences[0]
    children = dict(sequence.named_children())
    before = children[list(children)[list(children).index(SUM) - 1]]
    with torch_default_dtype(graph_model.model_dtype), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        les = LES(
            type_names=graph_model.type_names,
            irreps_in={key: _irreps(value) for key, value in before.irreps_out.items()},
            **settings,
        )
        device = next(graph_model.parameters()).device
        sequence.insert("les", les.to(device), before=SUM)
        for module in (graph_model, graph_model.model):
            module.irreps_out.update(les.irreps_out)
        prepare(graph_model)


def _irreps(irreps: Any) -> Any:
    """Irreps of a packaged model, whose classes are copies, as those installed here."""
    return None if irreps is None else str(irreps)
