"""Options of commands that evaluate one model, and the calculator that they ask for."""

from __future__ import annotations

import argparse
from typing import Any

from les.backends.interface import Backend
from les.backends.loading import load_calculator
from les.backends.registry import backend_names, backend_of, get_backend
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
    parser.add_argument("--dtype", default="float64", choices=("float32", "float64"))


def load_model(arguments: argparse.Namespace, **options: Any) -> tuple[Any, Backend]:
    """The calculator of ``arguments.model``, and the backend that it is of.

    Args:
        arguments: what :func:`add_model_options` has added, and ``model``.
        options: further ones of ``Backend.calculator``.

    Raises:
        BackendError, OSError, ValueError: as ``les.backends.loading.load_calculator``.
    """
    from les.devices import resolve_device

    if arguments.eps_inf is not None:
        check_number("--eps-inf", arguments.eps_inf, "epsilon_factor")
    backend = get_backend(arguments.backend or backend_of(arguments.model))
    calculator = load_calculator(
        backend,
        arguments.model,
        dtype=arguments.dtype,
        device=str(resolve_device(arguments.device)),
        allow_pickle=arguments.allow_pickle,
        head=arguments.head,
        eps_inf=arguments.eps_inf,
        **options,
    )
    return calculator, backend
