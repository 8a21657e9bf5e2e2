"""The command line of ``les train mace``: upstream's own, and what all trainings of les share."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from typing import Any, TextIO

from mace.tools import build_default_arg_parser
from mace.tools.default_keys import DefaultKeys
from mace.tools.scripts_utils import check_path_ase_read

from les.config import LESConfig
from les.devices import resolve_device
from les.legacy import settings_of_new_models
from les.parser import brief_errors
from les.training.arguments import add_charge_options, configuration, mapping
from les.training.external_field import add_field_key
from les.training.files import check_name
from les.training.ranges import positive
from les.training.responses import add_responses, check_responses, response_weights
from les_mace.configuration import configuration as model_configuration
from les_mace.labels import UnnamedKey

logger = logging.getLogger("les")

#: Upstream's ``--model`` names that can carry charges.
MODELS = ("MACE", "ScaleShiftMACE", "MACELES")

#: Options of all trainings of les -> where upstream keeps the same.
ALIASES = {"--resume": "restart_latest", "--epochs": "max_num_epochs", "--learning_rate": "lr"}

#: Losses of upstream that have the dipole in them, by its own options.
DIPOLE_LOSSES = ("dipole", "dipole_polar", "energy_forces_dipole")

#: Options of upstream that are numbers of at least 1.
NUMBERS = ("max_num_epochs", "batch_size", "valid_batch_size")

CONSENT = ("--allow-pickle", "--allow_pickle")


def parse(arguments: Sequence[str], *, les: bool) -> argparse.Namespace:
    """Upstream's options, checked, with those of les.

    Besides upstream's there are ``start``, the model that ``--from`` names, ``allow_pickle``, and
    ``les_given``, whether settings of LES were given.

    Raises:
        ValueError: for a name that leads to another folder, a device that is not there, a model
            that cannot carry charges, and consent to run code that is not on the command line.
        SystemExit: for what the parser refuses.
    """
    options = make_parser(les).parse_args(list(arguments))
    if options.allow_pickle and not set(CONSENT) & set(arguments):
        raise ValueError(
            "--allow-pickle, the consent to run code, is given on the command line, not in a file"
        )
    check_name(options.name)
    options.device = str(resolve_device(options.device))
    for label in UnnamedKey.LABELS:
        if getattr(options, f"{label}_key") is None:
            key = UnnamedKey(DefaultKeys[label.upper()].value)
            setattr(options, f"{label}_key", key)
    _refuse_late_failures(options)
    options.responses = _responses(options)
    if options.responses:
        config = LESConfig.resolve(options.les_arguments or {}) if les else None
        check_responses(options.responses, config)
    options.les_given = options.les_arguments is not None
    if les:
        if options.model not in MODELS:
            raise ValueError(f"`--model` must be one of {MODELS} with --les, got {options.model!r}")
        new = {"cutoff": "smooth", **settings_of_new_models(False)}
        options.les_arguments = {**new, **(options.les_arguments or {})}
        try:
            model_configuration(options.les_arguments)
        except ValueError as error:
            raise ValueError(f"--les_arguments: {error}") from error
    return options


def _responses(options: argparse.Namespace) -> dict[str, float]:
    """Weights of responses that upstream's loss does not have, of those that have one.

    Raises:
        ValueError: for a key without a weight, and for data or ways of training that cannot do it.
    """
    if options.loss in DIPOLE_LOSSES:  # of models of dipoles, which have charges of their own
        options.dipole_weight = 1.0 if options.dipole_weight is None else options.dipole_weight
        weights = response_weights(options, ("bec",))
    else:
        weights = response_weights(options)
        options.dipole_weight = weights.get("dipole", 1.0)  # upstream's default, without effect
    if options.dipole_key is None:
        options.dipole_key = UnnamedKey(DefaultKeys.DIPOLE.value)
    for label in weights:
        if options.distributed:
            raise ValueError(f"--{label}_weight is not possible with --distributed")
        for name in ("train_file", "valid_file", "pt_train_file", "pt_valid_file"):
            path = getattr(options, name)
            if path is not None and not check_path_ase_read(path):
                raise ValueError(f"--{label}_weight needs extxyz files, got --{name} {path}")
    return weights


def _refuse_late_failures(options: argparse.Namespace) -> None:
    """Refuse options with which upstream (0.3.16) fails at the very end of the training.

    Without a place to start, a second stage that would have no epoch is left out with a warning.
    """
    if options.radial_type != "bessel" and options.model in (*MODELS, "PolarMACE"):
        raise ValueError(
            f"`--radial_type` must be bessel, got {options.radial_type}: mace-torch cannot write "
            "the trained model of another one"
        )
    n_epochs = options.max_num_epochs
    if options.swa and options.start_swa is None and n_epochs == 1:
        logger.warning("a run of one epoch has no second stage")
        options.swa = False
    start = options.start_swa or max(1, n_epochs // 4 * 3)
    if (options.swa or options.start_swa is not None) and start == n_epochs:
        raise ValueError(
            f"the second stage starts after epoch {start} of {n_epochs} and has no epoch: set "
            "--start_swa to less, or leave out --swa"
        )


def make_parser(les: bool) -> argparse.ArgumentParser:
    """Upstream's parser, with errors in one line and the options of les."""
    parser = build_default_arg_parser()
    parser.prog = "les train mace"
    parser.allow_abbrev = False
    brief_errors(parser)
    if hasattr(parser, "_config_file_open_func"):  # configargparse
        parser._config_file_open_func = _open_configuration
    actions = {action.dest: action for action in parser._actions}
    for alias, destination in ALIASES.items():
        action = actions[destination]
        action.option_strings = [*action.option_strings, alias]
        parser._option_string_actions[alias] = action
    for label in UnnamedKey.LABELS:
        _change(actions[f"{label}_key"], default=None)
        actions[f"{label}_key"].help = f"key of the {label}; default: REF_{label}, or without REF_"
    for name in NUMBERS:
        _change(actions[name], type=positive)
    _change(actions["device"], choices=None)
    actions["device"].help = "where to compute: auto (a GPU if there is one), cpu, cuda, cuda:1"
    _change(actions["les_arguments"], type=mapping)
    add_responses(parser)
    add_field_key(parser)
    actions["les_arguments"].help = "fields of les.LESConfig, or a YAML file of them"
    parser.add_argument(
        "--atomic_energies",
        choices=("fit", "keep"),
        default="fit",
        help="shift averaged E0s to the training data when stage two begins, or keep them",
    )
    if les:
        add_charge_options(parser)
    what = "MACE model, with LES or to add charges to" if les else "MACE model without LES"
    parser.add_argument("--from", dest="start", help=f"trained {what}, to start from")
    parser.add_argument(
        *CONSENT,
        action="store_true",
        help="trust --from, --foundation_model and the checkpoints of --restart_latest: read them "
        "also if that runs the code they hold",
    )
    return parser


def _change(action: argparse.Action, **attributes: Any) -> None:
    for name, value in attributes.items():
        setattr(action, name, value)


def _open_configuration(path: str) -> TextIO:
    """Open a file of ``--config``, or the one that ``les config list`` names so."""
    return configuration("mace")(path).open(encoding="utf-8")
