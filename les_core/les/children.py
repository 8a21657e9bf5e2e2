"""Processes that end with the one that started them, however that one ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

#: Set for a child; its standard input is then a pipe that closes when its parent ends.
VARIABLE = "LES_END_WITH_STDIN"

#: Time that a child has to end itself when it is interrupted, before it is killed [s].
GRACE = 10.0


@contextlib.contextmanager
def child(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], output: IO[Any]
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs ``command`` and ends at the latest when the context does.

    It has a group of its own and is ended together with all processes that it has started. If
    this process is killed, so that nobody ends the child, it notices by itself, provided that it
    calls :func:`end_with_parent`, as ``python -m les`` does.

    Args:
        command: program and arguments.
        folder: where it runs.
        environment: its environment variables.
        output: file for what it prints, errors included.
    """
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**environment, VARIABLE: "1"},
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM if sys.platform == "win32" else signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
        _kill(process)
        process.wait()
        if process.stdin is not None:
            process.stdin.close()


def end_with_parent() -> None:
    """In a process that :func:`child` has started, let it end as soon as its parent has ended.

    Its standard input, which tells, is then empty. Other processes are left as they are.
    """
    if os.environ.pop(VARIABLE, None) is None:
        return
    # Its parent interrupts it so that it closes its files. What a shell runs in the background
    # ignores that, and children inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    pipe = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    threading.Thread(target=_watch, args=(pipe,), name="les-parent", daemon=True).start()


def _watch(pipe: int) -> None:
    while os.read(pipe, 1024):  # the parent writes nothing: this waits for the end of the pipe
        pass
    # At once: whoever starts this run again must not find it running.
    if sys.platform != "win32" and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill ``process``, if it still runs, and all of its group."""
    if sys.platform == "win32":
        process.kill()
    else:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: the latter, too
            os.killpg(process.pid, signal.SIGKILL)
