"""Training through mace-torch's own command line, with its model class replaced."""

from __future__ import annotations

import argparse
import functools
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mace import modules
from mace.cli import run_train
from mace.modules import extensions
from mace.modules.models import ScaleShiftMACE
from mace.tools import scripts_utils

from les.config import LESConfig
from les.data.requirements import Requirements
from les.training.external_field import check_field_key
from les_mace.arguments import parse
from les_mace.atomic_energies import refitted_energies
from les_mace.charge_metrics import logged_charges
from les_mace.charge_training import charges_at, charges_first
from les_mace.checkpoint import FORMATS, load_model, save_model
from les_mace.closing import close_run
from les_mace.fragments import fragments_in_data
from les_mace.labels import Checks, UnnamedKey, checked_loader
from les_mace.model import MACELES
from les_mace.neighbours import own_cells
from les_mace.quiet import quiet
from les_mace.replaced import replaced
from les_mace.responses import (
    oriented,
    scaled_by_energies,
    trained_responses,
    with_energies_only,
)
from les_mace.restart import complete_checkpoints
from les_mace.settings import settings_of
from les_mace.start import start_model, with_start

if TYPE_CHECKING:
    from les.backends import Backend

logger = logging.getLogger("les")

#: Losses of upstream that do not have the energy, or the forces, in them.
WITHOUT_FORCES = ("dipole", "dipole_polar")
WITHOUT_ENERGY = ("forces_only", *WITHOUT_FORCES)


def train(arguments: Sequence[str], *, les: bool, backend: Backend) -> None:
    """Run ``mace_run_train`` with its own ``arguments``.

    Without ``les`` the model is upstream's own. With it, the model that upstream would build gets
    charges: the same backbone from the same seed. The options that are added, and those that all
    trainings of les share, are in ``les_mace.arguments``; settings in ``--les_arguments`` default
    to those of ``les.LESConfig``.

    Raises:
        ValueError: for options, data or files that cannot be used; the message says which.
    """
    args = parse(arguments, les=les)
    settings = settings_of(args, les=les)  # those given: a start and upstream change them
    # Loaders of older models look for the class here.
    modules.models.MACELES = MACELES
    heads: list[Any] = []
    with (
        quiet(),
        own_cells(),
        start_model(args, les=les) as start,
        complete_checkpoints(args, settings),
    ):
        data = scripts_utils.data
        loader = checked_loader(data.load_from_xyz, _checks(args, start, les=les))
        configure = with_start(run_train.configure_model, args, les=les)
        if les:
            configure = _with_charges(configure, args)
            configure = oriented(configure, args.responses)
        with (
            logged_charges(),
            fragments_in_data(),
            charges_first(args.freeze_short_range_epochs if les else None),
            charges_at(args.charge_learning_rate if les else None),
            trained_responses(args.responses),
            refitted_energies(args),
            scaled_by_energies(),
            replaced(extensions, "MACELES", MACELES),
            replaced(data, "load_from_xyz", loader),
            replaced(data, "compute_average_E0s", with_energies_only(data.compute_average_E0s)),
            replaced(run_train, "configure_model", _seen(configure, heads)),
            replaced(run_train, "get_avg_num_neighbors", _of_batches(run_train)),
        ):
            try:
                run_train.run(args)
            except AssertionError as error:  # how upstream refuses options
                raise ValueError(f"mace-torch: {error}" if str(error) else repr(error)) from error
        if args.dry_run or (args.distributed and os.environ.get("RANK", "0") != "0"):
            return
        written = [path for pair in _models(args) if (path := _save_safely(*pair)) is not None]
    if written:
        close_run(backend, written[-1], heads, args)


def _of_batches(owner: Any) -> Callable[..., Any]:
    """Upstream's first look at the batches to train on, of which there must be one.

    Raises:
        ValueError: for fewer structures than a batch has: upstream leaves out what is left over.
    """
    original = owner.get_avg_num_neighbors

    @functools.wraps(original)
    def checked(heads: Any, args: Any, train_loader: Any, *rest: Any, **keyword: Any) -> Any:
        if len(train_loader) == 0:
            raise ValueError(
                f"--batch_size {train_loader.batch_size} is more than the "
                f"{len(train_loader.dataset)} structures to train on, and mace-torch leaves out "
                "batches that are not full: lower --batch_size"
            )
        return original(heads, args, train_loader, *rest, **keyword)

    return checked


def _seen(configure_model: Callable[..., Any], heads: list[Any]) -> Callable[..., Any]:
    """Upstream's ``configure_model``, which leaves its configurations of heads in ``heads``."""

    @functools.wraps(configure_model)
    def configure(*positional: Any, **keyword: Any) -> Any:
        heads.extend(positional[6] if len(positional) > 6 else keyword["head_configs"])
        return configure_model(*positional, **keyword)

    return configure


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
        with replaced(modules, "ScaleShiftMACE", model_class):
            return configure_model(*positional, **keyword)

    return configure


def _checks(args: argparse.Namespace, start: ScaleShiftMACE | None, *, les: bool) -> Checks:
    """What the data must have, given the start, the model and the weights in the loss.

    That is the same with LES and without: runs that are compared see the same data.
    """
    energy = args.loss not in WITHOUT_ENERGY and args.energy_weight != 0
    forces = args.loss not in WITHOUT_FORCES and args.forces_weight != 0
    required = ("energy",) * energy + ("forces",) * forces
    used = ("total_charge", "total_spin", "external_field") if args.model == "PolarMACE" else ()
    embedded = str(args.embedding_specs or "")
    named = tuple(name for name in ("total_charge", "total_spin") if name in embedded)
    elements = None if start is None else frozenset(start.atomic_numbers.tolist())
    keys = {label: getattr(args, f"{label}_key") for label in args.responses}
    keys = {label: None if isinstance(x, UnnamedKey) else x for label, x in keys.items()}
    files = [str(path) for path in (args.train_file, args.valid_file) if path is not None]
    config = LESConfig.resolve(args.les_arguments) if les else None
    check_field_key(args, config)
    return Checks(
        required,
        args.loss,
        Requirements.of(config, elements),
        (*used, *named),
        responses=keys,
        with_responses=files,
        field_key=args.external_field_key,
    )


def _models(args: argparse.Namespace) -> list[tuple[Path, Path]]:
    """Upstream's pickles of this run and our files of the same models, the result last.

    The result has one name, whether there is a second stage or not.
    """
    stages = {f"{args.name}.model": f"{args.name}.pt"}
    if args.swa:
        stages = {
            f"{args.name}.model": f"{args.name}_stageone.pt",
            f"{args.name}_stagetwo.model": f"{args.name}.pt",
        }
    folder = Path(args.model_dir)
    return [(folder / pickled, folder / plain) for pickled, plain in stages.items()]


def _save_safely(path: Path, safe: Path) -> Path | None:
    """Beside a pickle that upstream has written, write a file that loads without running code."""
    model = load_model(path, allow_pickle=True) if path.is_file() else None
    if type(model) not in FORMATS:
        return None
    assert isinstance(model, ScaleShiftMACE)
    try:
        save_model(model, safe)
    except ValueError as error:
        logger.warning("there is only the pickle %s: %s", path, error)
        return None
    logger.info("wrote %s", safe)
    return safe
