"""Starting a training from a trained model, with charges or to add charges to."""

from __future__ import annotations

import argparse
import contextlib
import functools
import logging
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from mace.modules.models import ScaleShiftMACE

from les.backends.model_files import OPT_IN
from les_mace.checkpoint import load_model
from les_mace.model import MACELES
from les_mace.restart import save_completely

logger = logging.getLogger("les")


@contextlib.contextmanager
def start_model(options: argparse.Namespace, *, les: bool) -> Iterator[ScaleShiftMACE | None]:
    """The model of ``--from``, or of a file given as ``--foundation_model``, ready for upstream.

    Upstream reads a pickle; in this context it finds one that has been made of the model.

    Raises:
        ValueError: if both are given, or the model does not fit; for a pickle, and for the name
            of one that upstream fetches, without ``--allow-pickle``.
    """
    if options.start is not None and options.foundation_model is not None:
        raise ValueError("`--from` and `--foundation_model` exclude each other")
    source = options.start or options.foundation_model
    if source is None:
        yield None
        return
    if options.start is None and not Path(source).exists():
        if not options.allow_pickle:
            raise ValueError(
                f"--foundation_model {source} is no file; if it is the name of a model that "
                f"mace-torch fetches, that is a pickle: {OPT_IN}"
            )
        yield None
        return
    model = load_model(source, allow_pickle=options.allow_pickle)
    option = "--from" if options.start is not None else "--foundation_model"
    _refuse_unfit(model, f"{option} {source}", options, les=les)
    if isinstance(model, MACELES):
        options.les_arguments = {
            **model.les.config().settings_for_charges(),
            "compute_bec": model.compute_bec,
            "bec_output_index": model.bec_output_index,
        }
    if options.start is not None:
        options.multiheads_finetuning = False
    if options.E0s is None:
        options.E0s = "foundation"
    with tempfile.TemporaryDirectory(prefix="les-") as folder:
        path = Path(folder, "start.model")
        save_completely(model, path)
        options.foundation_model = str(path)
        logger.info("the run starts from %s", source)
        yield model


def _refuse_unfit(
    model: ScaleShiftMACE, source: str, options: argparse.Namespace, *, les: bool
) -> None:
    if isinstance(model, MACELES):
        if not les:
            raise ValueError(f"{source} has LES: continue it with --les instead of --no-les")
        if options.les_given:
            raise ValueError(
                f"{source} has LES with settings of its own: leave out --les_arguments"
            )
    elif type(model) is not ScaleShiftMACE:
        raise ValueError(f"{source} must be a ScaleShiftMACE, got {type(model).__name__}")


def with_start(
    configure_model: Callable[..., Any], options: argparse.Namespace, *, les: bool
) -> Callable[..., Any]:
    """Upstream's ``configure_model``, which can add charges to the model that a run starts from.

    The atomic energies are those that upstream says it uses; it takes those of the start whenever
    that has as many elements.
    """

    @functools.wraps(configure_model)
    def configure(
        args: Any,
        train_loader: Any,
        atomic_energies: Any,
        model_foundation: Any = None,
        *rest: Any,
        **keyword: Any,
    ) -> Any:
        start = model_foundation
        if les and start is not None and not isinstance(start, MACELES):
            start = MACELES.from_short_range(start, options.les_arguments)
        model, output_args = configure_model(
            args, train_loader, atomic_energies, start, *rest, **keyword
        )
        if isinstance(model_foundation, MACELES):
            _refuse_lost_charges(model, model_foundation)
        if start is not None and atomic_energies is not None:
            energies = model.atomic_energies_fn.atomic_energies
            energies.copy_(torch.as_tensor(atomic_energies).reshape(energies.shape))
        return model, output_args

    return configure


def _refuse_lost_charges(model: MACELES, start: MACELES) -> None:
    """Refuse heads to which upstream has not copied the charge readouts of ``start``."""
    given, trained = (each.les.charge_equilibration for each in (model, start))
    if given != trained:
        raise ValueError(
            f"`charge_equilibration` must be {trained}, as in the model to start from, got {given}"
        )
    state = start.les_readouts.state_dict()
    for name, value in model.les_readouts.state_dict().items():
        if value.shape != state[name].shape:
            raise ValueError(
                f"the trained charges of a model with LES fit a model of one head, this has "
                f"{', '.join(model.heads)}: leave out --heads and --pt_train_file, or start from a "
                "short-range model"
            )
