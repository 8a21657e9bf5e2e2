"""Training through mace-torch's own command line, with its model class replaced."""

from __future__ import annotations

import contextlib
import functools
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from mace import modules
from mace.cli import run_train
from mace.modules import extensions
from mace.tools import build_default_arg_parser, scripts_utils

from les.files import replacing
from les_mace.checkpoint import load_model, save_model
from les_mace.labels import checked_loader
from les_mace.model import MACELES

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

logger = logging.getLogger("les")

#: Upstream's ``--model`` names that can carry charges.
MODELS = ("MACE", "ScaleShiftMACE", "MACELES")


def train(arguments: Sequence[str], *, les: bool) -> None:
    """Run ``mace_run_train`` with its own ``arguments``.

    Without ``les`` this is upstream's run, untouched. With it, the model that upstream
    would build gets charges: the same backbone from the same seed. Two things are added:
    ``--from MODEL`` starts from a trained short-range model (a pickle, so it runs the code
    in that file, as upstream's ``--foundation_model`` does), and settings in
    ``--les_arguments`` default to those of ``les.LESConfig``.

    Raises:
        ValueError: if ``--model`` or the model given by ``--from`` cannot carry charges.
    """
    parser = build_default_arg_parser()
    parser.prog = "les train mace"
    if not les:
        run_train.run(parser.parse_args(arguments))
        return
    parser.add_argument(
        "--from", dest="start", help="trained short-range MACE model to add charges to"
    )
    args = parser.parse_args(arguments)
    if args.model not in MODELS:
        raise ValueError(f"`--model` must be one of {MODELS} with --les, got {args.model!r}")
    args.les_arguments = {"cutoff": "smooth", **(args.les_arguments or {})}
    if args.start is not None:
        _start_from(args)
    # Loaders of older models look for the class here.
    modules.models.MACELES = MACELES
    with (
        _replaced(extensions, "MACELES", MACELES),
        _replaced(
            scripts_utils.data,
            "load_from_xyz",
            checked_loader(scripts_utils.data.load_from_xyz, _trained_on(args)),
        ),
        _replaced(run_train, "configure_model", _with_charges(run_train.configure_model, args)),
    ):
        run_train.run(args)
    _save_safely(args)


def _with_charges(
    configure_model: Callable[..., Any], args: argparse.Namespace
) -> Callable[..., Any]:
    """Upstream's ``configure_model``, for which ``ScaleShiftMACE`` is one with charges.

    Going through the branch of the short-range model keeps the backbone the same: that of
    upstream's ``MACELES`` has another first interaction and energy shift by default.
    """

    @functools.wraps(configure_model)
    def configure(*positional: Any, **keyword: Any) -> Any:
        model_class = functools.partial(MACELES, les_arguments=args.les_arguments)
        with _replaced(modules, "ScaleShiftMACE", model_class):
            return configure_model(*positional, **keyword)

    return configure


def _trained_on(args: argparse.Namespace) -> tuple[str, ...]:
    """The labels that every frame needs, given the weights in the loss."""
    energy = args.loss != "forces_only" and args.energy_weight != 0
    return ("energy",) * energy + ("forces",) * (args.forces_weight != 0)


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    original = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, original)


def _start_from(args: argparse.Namespace) -> None:
    """Let upstream fine-tune from a short-range model to which charges have been added."""
    if args.foundation_model is not None:
        raise ValueError("`--from` and `--foundation_model` exclude each other")
    short_range = load_model(args.start, allow_pickle=True)
    try:
        extended = MACELES.from_short_range(short_range, args.les_arguments)
    except TypeError as error:
        raise ValueError(f"--from {args.start}: {error}") from error
    folder = Path(args.model_dir or args.work_dir)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{args.name}_start.model"
    with replacing(path) as temporary:
        torch.save(extended, temporary)
    logger.info("added charges to %s; the run starts from %s", args.start, path)
    args.foundation_model = str(path)
    args.multiheads_finetuning = False
    if args.E0s is None:
        args.E0s = "foundation"


def _save_safely(args: argparse.Namespace) -> None:
    """Beside upstream's pickled models, write files that load without running code."""
    for stem in (args.name, f"{args.name}_stagetwo"):
        path = Path(args.model_dir, f"{stem}.model")
        if path.is_file():
            safe = Path(args.model_dir, f"{stem}.pt")
            save_model(load_model(path, allow_pickle=True), safe)
            logger.info("wrote %s", safe)
