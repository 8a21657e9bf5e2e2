"""Command lines of training whose options may also stand in a YAML file."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from les.backends import BackendError, config_path
from les.backends.registry import owner_of
from les.config_files import read_yaml
from les.keys import refuse_unknown
from les.parser import ArgumentParser
from les.training.ranges import positive, rate
from les.training.responses import add_responses

#: Options of ``TrainingParser`` that mean nothing without LES.
OF_LES = ("les_arguments", "charge_learning_rate", "freeze_short_range_epochs")

#: Consent to run the code that a file holds: who writes the command gives it, no other file.
CONSENT = frozenset({"allow-pickle", "allow_pickle"})

#: Options that are given on the command line only.
NOT_IN_FILES = CONSENT | {"help", "config"}


def mapping(text: str) -> dict[str, Any]:
    """A YAML mapping, such as ``'{sigma: 1.0}'``, or the path of a YAML file that holds one."""
    import yaml

    try:
        if not text.lstrip().startswith("{") and Path(text).is_file():
            return read_yaml(text)
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}") from error
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(
            f"must be a mapping such as '{{key: 1}}', or a YAML file of one, got {text!r}"
        )
    return value


def configuration(backend: str) -> Callable[[str], Path]:
    """A function that makes a path of ``--config``: a YAML file, or a name of ``les config list``.

    A file wins over a shipped configuration of its name. The function raises
    ``argparse.ArgumentTypeError`` for what is neither.
    """

    def find(text: str) -> Path:
        path = Path(text)
        if path.is_file():
            return path
        if path.suffix in (".yaml", ".yml"):
            raise argparse.ArgumentTypeError(f"there is no file {path}")
        try:
            return config_path(text, backend)
        except (BackendError, ValueError) as error:
            raise argparse.ArgumentTypeError(f"there is no file {path}, and {error}") from error

    return find


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the defaults of options that have one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False:
            return action.help
        return super()._get_help_string(action)


class TrainingParser(ArgumentParser):
    """What all training commands take, in groups to which each adds its own options.

    Args:
        backend: name of the backend; also of a run that is given none.
        description: what the command does.
        les: with the options of LES.
        labels: what can be trained on; each has an option for its key.
        help: of ``from``, ``model`` and ``epochs``, which mean something else for each backend.
        defaults: of ``epochs``, ``batch_size`` and ``learning_rate``.
    """

    def __init__(
        self,
        backend: str,
        description: str,
        *,
        les: bool,
        labels: Sequence[str],
        help: Mapping[str, str],
        defaults: Mapping[str, Any],
    ) -> None:
        super().__init__(
            prog=f"les train {backend}",
            description=description,
            formatter_class=HelpFormatter,
        )
        self.backend = backend
        self.add_argument(
            "--config",
            type=configuration(backend),
            help="YAML file of options, without their dashes, or a name of `les config list`",
        )
        self.files = add = self.add_argument_group("files")
        add.add_argument("--train_file", type=Path, required=True, help="extxyz, plain or .gz")
        add.add_argument("--valid_file", type=Path, required=True, help="decides the best epoch")
        add.add_argument("--test_file", type=Path, help="only for the final table")
        add.add_argument("--work_dir", type=Path, default=Path(), help="folder of the results")
        add.add_argument("--name", default=backend, help="start of the names of the results")
        add.add_argument("--resume", action="store_true", help="continue a run of this name")
        for label in labels:
            add.add_argument(
                f"--{label}_key", help=f"key of the {label}; default: REF_{label}, or without REF_"
            )
        self.model = add = self.add_argument_group("model")
        add.add_argument("--from", dest="start", help=help["from"])
        add.add_argument(
            *("--allow-pickle", "--allow_pickle"),
            action="store_true",
            help="trust --from: read it also if that runs the code it holds",
        )
        add.add_argument("--model", type=mapping, help=help["model"])
        if les:
            add.add_argument(
                "--les_arguments",
                type=mapping,
                help="fields of les.LESConfig, or a YAML file of them",
            )
            add_charge_options(add)
        self.training = add = self.add_argument_group("training")
        add.add_argument("--epochs", type=positive, help=help["epochs"])
        add.add_argument("--batch_size", type=positive, help="structures per step")
        add.add_argument(
            "--valid_batch_size",
            type=positive,
            default=8,
            help="structures per batch of validation",
        )
        add.add_argument("--learning_rate", type=rate, help="of the first epoch")
        add.add_argument("--seed", type=int, default=1, help="of weights and order")
        add.add_argument("--device", default="auto", help="auto (a GPU if there is one), cpu, cuda")
        add_responses(self)
        self.set_defaults(**defaults)


def add_charge_options(parser: argparse._ActionsContainer) -> None:
    """Add the options that say how charges are trained, where that differs from the rest."""
    parser.add_argument(
        "--charge_learning_rate",
        type=rate,
        metavar="RATE",
        help="learning rate of the charges; default: that of all",
    )
    parser.add_argument(
        "--freeze_short_range_epochs",
        type=positive,
        metavar="N",
        help="train only the charges in the first N epochs",
    )


def label_keys(options: argparse.Namespace, labels: Iterable[str]) -> dict[str, str]:
    """Label -> key that was given for it, of those ``labels`` that have one."""
    given = {label: getattr(options, f"{label}_key") for label in labels}
    return {label: key for label, key in given.items() if key is not None}


def parse(
    parser: argparse.ArgumentParser, arguments: Sequence[str], also_known: Sequence[str] = ()
) -> argparse.Namespace:
    """Options from the command line and the file that ``--config`` names; the former win.

    Args:
        parser: has the option ``--config``; others take one value, or none and are false.
        arguments: the command line.
        also_known: keys that the file may hold for another form of this command, left alone.

    Raises:
        ValueError: for an unknown key in the file, whose message names the closest one, or the
            backend that the file is of; and for consent to run code, which only the command line
            gives.
        SystemExit: for what argparse refuses.
    """
    finder = ArgumentParser(prog=parser.prog, add_help=False)
    (option,) = (action for action in parser._actions if action.dest == "config")
    finder.add_argument("--config", type=option.type or Path)
    path = finder.parse_known_args(arguments)[0].config
    if path is None:
        return parser.parse_args(arguments)
    options = {text for action in parser._actions for text in action.option_strings}
    known = {text[2:] for text in options if text.startswith("--")} - NOT_IN_FILES
    try:
        values = read_yaml(path)
        for key in CONSENT.intersection(values):
            raise ValueError(f"{key!r} is given on the command line only, as --{key}")
        unknown = values.keys() - known.union(also_known)
        backend = getattr(parser, "backend", "")
        owner = owner_of(unknown, backend)
        if owner is not None:
            raise ValueError(
                f"it is a configuration of {owner}, and not of {backend} ({', '.join(unknown)}); "
                "see `les config list`"
            )
        refuse_unknown(values, known | set(also_known))
    except (OSError, ValueError) as error:
        raise ValueError(f"--config {path}: {error}") from error
    own = {key: value for key, value in values.items() if key in known}
    return parser.parse_args([*_as_arguments(own), *arguments])


def _as_arguments(values: Mapping[str, Any]) -> list[str]:
    """What one would type for ``values``."""
    arguments = []
    for key, value in values.items():
        if value is True:
            arguments.append(f"--{key}")
        elif isinstance(value, (dict, list)):
            arguments.append(f"--{key}={json.dumps(value)}")
        elif value is not None and value is not False:
            arguments.append(f"--{key}={value}")
    return arguments
