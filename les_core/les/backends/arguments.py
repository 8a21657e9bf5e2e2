"""Options of commands that evaluate models, and the calculator that they ask for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from les.backends.interface import Backend
from les.backends.loading import load_calculator
from les.backends.models import backend_of, model_path
from les.backends.registry import backend_names, get_backend
from les.ranges import check_number


def add_model_options(parser: Any) -> None:
    """Add the options that say how a model is read and evaluated."""
    parser.add_argument(
        "--eps-inf",
        type=float,
        metavar="EPS",
        help="high-frequency dielectric constant (default: epsilon_factor of the model)",
    )
    parser.add_argument(
        "--backend", choices=backend_names(), help="default: that of files with this ending"
    )
    parser.add_argument("--head", help="of a model with several heads")
    parser.add_argument("--allow-pickle", action="store_true", help="read pickled models")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument(
        "--dtype",
        default="float64",
        choices=("float32", "float64"),
        help="precision of the model (default: %(default)s)",
    )


def load_model(arguments: argparse.Namespace, **options: Any) -> tuple[Any, Backend]:
    """The calculator of ``arguments.model``, and the backend that it is of.

    Arguments and errors as for :func:`load_models`.
    """
    calculator, (backend,) = load_models(arguments, [arguments.model], **options)
    return calculator, backend


def load_models(
    arguments: argparse.Namespace, models: Sequence[Path], **options: Any
) -> tuple[Any, list[Backend]]:
    """The calculator of a model, or of the committee that several are, and their backends.

    Args:
        arguments: what :func:`add_model_options` has added.
        models: the files, or names of models, those of ``les models list`` or of upstream.
        options: further ones of ``Backend.calculator``.

    Raises:
        BackendError, OSError: as ``les.backends.loading.load_calculator``.
        ValueError: as that, and for models that make no committee.
    """
    from les.devices import resolve_device

    if arguments.eps_inf is not None:
        check_number("--eps-inf", arguments.eps_inf, "epsilon_factor")
    backends = [get_backend(arguments.backend or backend_of(model)) for model in models]
    calculators = [
        load_calculator(
            backend,
            model,
            dtype=arguments.dtype,
            device=str(resolve_device(arguments.device)),
            allow_pickle=arguments.allow_pickle,
            head=arguments.head,
            eps_inf=arguments.eps_inf,
            **options,
        )
        for backend, model in zip(backends, models, strict=True)
    ]
    if len(calculators) == 1:
        return calculators[0], backends
    from les.backends.committee import Committee

    return Committee(calculators, names=[str(model) for model in models]), backends


def identity_of_models(
    arguments: argparse.Namespace, models: Sequence[Path], backends: Sequence[Backend]
) -> dict[str, Any]:
    """What the results of models depend on besides the structures, by names for messages."""
    from les import __version__
    from les.files import checksum

    return {
        # A name that is no file is one of a model that comes with upstream.
        "models": [
            checksum(path) if (path := model_path(model)).is_file() else str(model)
            for model in models
        ],
        "backends": [backend.name for backend in backends],
        "--head": arguments.head,
        "--eps-inf": arguments.eps_inf,
        "--dtype": arguments.dtype,
        "versions": [__version__, *(backend.version() for backend in backends)],
    }
