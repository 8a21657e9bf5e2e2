"""What LES has to know of nequip's inner workings: graph capture, export, input fields."""

from __future__ import annotations

import functools
import sys
from typing import Any

import torch
from nequip.data import AtomicDataDict
from nequip.nn import GraphModel
from torch.fx.experimental.proxy_tensor import get_proxy_mode

from les_nequip.charge_states import INPUTS, condition
from les_nequip.edges import record_edges
from les_nequip.keys import (
    EXTERNAL_FIELD_KEY,
    FRAGMENT_CHARGE_KEY,
    FRAGMENT_KEY,
    TOTAL_CHARGE_KEY,
)
from les_nequip.moments import add_readouts

#: The module that writes and runs models for LAMMPS ML-IAP.
MLIAP = "nequip.integrations.lammps_mliap.lmp_mliap_wrapper"

MLIAP_REFUSAL = (
    "a model with LES needs positions and cell, which LAMMPS ML-IAP does not pass; compile it "
    "for pair_nequip"
)


def is_tracing() -> bool:
    """Whether a graph is being captured, in which values of the input are not known."""
    return get_proxy_mode() is not None or torch.compiler.is_compiling()


def is_exporting() -> bool:
    """Whether ``nequip-compile`` runs; also in a package, whose nequip is a copy of its own."""
    workflow = sys.modules.get("nequip.scripts._workflow_utils")
    return workflow is not None and workflow.get_workflow_state() == "compile"


def refuse_mliap_file() -> None:
    """Raise ``ValueError`` if this is called on behalf of LAMMPS ML-IAP."""
    frame: Any = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == MLIAP:
            raise ValueError(MLIAP_REFUSAL)
        frame = frame.f_back


def refuse_partial_input(data: AtomicDataDict.Type) -> None:
    """Raise ``ValueError`` for input that lacks what the sum needs."""
    if AtomicDataDict.LMP_MLIAP_DATA_KEY in data or AtomicDataDict.POSITIONS_KEY not in data:
        raise ValueError(MLIAP_REFUSAL)
    if is_tracing() and is_exporting() and AtomicDataDict.CELL_KEY not in data:
        raise ValueError(
            "a model with LES needs the cell in its input, which pair_allegro does not pass, nor "
            "whole structures: it splits them into domains; compile it with --target "
            "pair_nequip, also for Allegro"
        )


def pass_input(model: GraphModel) -> None:
    """Let ``model`` pass ``pbc`` on to its modules, charge state and field where it uses them.

    It drops all input that its first module does not ask for. Without ``pbc`` a molecule in
    a box cannot be told from a periodic structure.
    """
    modules = [module for module in model.modules() if getattr(module, "is_les", False)]
    fields = [AtomicDataDict.PBC_KEY]
    if any(getattr(module.config, "uses_total_charge", False) for module in modules):
        fields += [TOTAL_CHARGE_KEY, FRAGMENT_KEY, FRAGMENT_CHARGE_KEY]
    for module in modules:
        fields += [INPUTS[name] for name in getattr(module.config, "embedded", ())]
        if getattr(module.config, "external_field", False):
            fields.append(EXTERNAL_FIELD_KEY)
    fields = list(dict.fromkeys(fields))
    model.model_input_fields += [key for key in fields if key not in model.model_input_fields]


def prepare(model: GraphModel) -> None:
    """Let ``model``, which has been built, pass LES what it needs, and change what it has to."""
    pass_input(model)
    record_edges(model.model)
    add_readouts(model.model)
    condition(model.model, is_tracing)


def prepare_for_les() -> None:
    """Let all models with LES that are built from now on pass it what it needs beside features.

    That is ``pbc``, total charges and spins, and where features come from. nequip builds its models
    around the modules; nothing else reaches what is built last.
    """
    original = GraphModel.__init__
    if getattr(original, "prepares_for_les", False):
        return

    @functools.wraps(original)
    def init(self: GraphModel, model: torch.nn.Module, *args: Any, **kwargs: Any) -> None:
        original(self, model, *args, **kwargs)
        if any(getattr(module, "is_les", False) for module in model.modules()):
            prepare(self)

    init.prepares_for_les = True  # type: ignore[attr-defined]
    GraphModel.__init__ = init
