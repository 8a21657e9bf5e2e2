"""What upstream says whenever it is used, and that tells its users nothing."""

from __future__ import annotations

import contextlib
import io
import sys
import warnings
from collections.abc import Iterator

#: Starts of the warnings, each with where it arises.
WARNINGS = (
    # e3nn, when it reads constants of its own
    ("Environment variable TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", UserWarning),
    # TorchScript, about annotations in upstream's classes
    ("The TorchScript type system doesn't support instance-level", UserWarning),
    # mace-torch's loaders, which pin memory also without a GPU
    ("'pin_memory' argument is set as true", UserWarning),
    (r".torch\.jit\.", DeprecationWarning),
)
#: Starts of lines on standard output.
LINES = ("cuequivariance or cuequivariance_torch is not available",)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Leave out :data:`WARNINGS` while upstream builds or evaluates a model."""
    with warnings.catch_warnings():
        for start, category in WARNINGS:
            warnings.filterwarnings("ignore", start, category)
        yield


@contextlib.contextmanager
def quiet_import() -> Iterator[None]:
    """As :func:`quiet`, while upstream is imported: it also prints :data:`LINES` then."""
    printed = io.StringIO()
    try:
        with quiet(), contextlib.redirect_stdout(printed):
            yield
    finally:
        for line in printed.getvalue().splitlines(keepends=True):
            if not line.startswith(LINES):
                sys.stdout.write(line)
