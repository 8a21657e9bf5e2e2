"""Errors that stop all ranks, with one message.

LAMMPS calls back through ctypes, which prints an exception and goes on as if nothing had happened;
and a rank that has failed lets the others wait for it. So each rank keeps its exception, all tell
one another before they do anything together, and all stop. A rank that is lost tells nothing: who
waits for it too long ends all.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from les.sums.reduction import Reduction

#: How long a rank waits for others [s], unless it is said.
PATIENCE = 3600.0

#: Time between the last message and the end of all [s].
FAREWELL = 1.0

#: In how many parts time is waited. A process that is suspended loses patience for one of them at
#: most, however long that takes.
N_TICKS = 60


class EngineError(RuntimeError):
    """The program that moves the atoms cannot continue; the error is the same on all ranks."""


def shared_message(error: BaseException | None, communicator: Any) -> str | None:
    """What went wrong on the ranks, or ``None`` if nothing did; all ranks must call it.

    Args:
        error: what went wrong on this one.
        communicator: of mpi4py.
    """
    own = None if error is None else f"{error}" or type(error).__name__
    messages: list[str | None] = communicator.allgather(own)
    failed = [rank for rank, message in enumerate(messages) if message is not None]
    if not failed:
        return None
    different = list(dict.fromkeys(messages[rank] for rank in failed))
    where = "" if len(failed) == len(messages) else f" (on rank {', '.join(map(str, failed))})"
    return f"{'; '.join(str(text) for text in different)}{where}"


def abort(communicator: Any, message: str | None = None) -> None:
    """End all ranks, of which others may wait for this one: the last resort.

    Nothing after this is executed.

    Args:
        communicator: of mpi4py.
        message: what is printed on standard error; the exception at hand unless it is given.
    """
    if message is None:
        message = f"error on rank {communicator.Get_rank()}:\n{traceback.format_exc().rstrip()}"
    sys.stderr.write(f"les: {message}\n")
    sys.stderr.flush()
    # What mpirun has not read from a rank when that one ends all is lost.
    time.sleep(FAREWELL)
    communicator.Abort(1)


@contextlib.contextmanager
def waiting(communicator: Any, patience: float) -> Iterator[None]:
    """Within it a rank waits for others, after ``patience`` [s] in vain for the last time.

    All ranks are ended then, with a message on standard error.
    """
    done = threading.Event()

    def watch() -> None:
        for _ in range(N_TICKS):
            if done.wait(patience / N_TICKS):
                return
        abort(
            communicator,
            f"error: rank {communicator.Get_rank()} has waited {patience:g} s for the other ranks: "
            "one of them is lost or hangs",
        )

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()


class Impatient:
    """A ``Reduction`` that ends all ranks when one has waited too long for the others.

    Args:
        reduction: what adds up.
        communicator: of mpi4py, the one of ``reduction``.
        patience: how long a rank waits [s].
    """

    def __init__(self, reduction: Reduction, communicator: Any, patience: float) -> None:
        self.reduction, self.communicator, self.patience = reduction, communicator, patience
        self.rank, self.size = reduction.rank, reduction.size

    def sum(self, values: Tensor) -> Tensor:
        with waiting(self.communicator, self.patience):
            return self.reduction.sum(values)


def raise_after_commands(lmp: Any, failure: Any) -> None:
    """Let the methods of ``lmp`` that execute commands raise what went wrong within them.

    Args:
        lmp: a ``lammps.lammps``.
        failure: returns an exception, or ``None``.
    """

    def raising(method: Any) -> Any:
        @functools.wraps(method)
        def execute(*arguments: Any) -> Any:
            try:
                return method(*arguments)
            finally:
                # It comes first: what LAMMPS says afterwards is only what follows from it.
                error = failure()
                if error is not None:
                    raise error

        return execute

    for name in ("command", "commands_list", "commands_string", "file"):
        setattr(lmp, name, raising(getattr(lmp, name)))
