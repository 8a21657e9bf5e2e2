"""What the commands ``les ir`` and ``les born`` share."""

from __future__ import annotations

import argparse
from typing import Any

from les.backends.arguments import identity_of_models, load_models
from les.spectra.frames import require_charges


def load_model(arguments: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """The calculator, and what results depend on besides the structures."""
    models = [arguments.model]
    calculator, backends = load_models(arguments, models, bec=True)
    require_charges(calculator)
    return calculator, identity_of_models(arguments, models, backends)
