"""Processes that end with the one that started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from les import children
from les.children import child
from les.testing.processes import ended, wait_until

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")

#: A child with a child of its own, which writes the ids of both; it is deaf for Ctrl-C.
CHILD = """
import os, pathlib, signal, subprocess, sys, time
from les.children import end_with_parent
end_with_parent()
assert "LES_END_WITH_STDIN" not in os.environ and sys.stdin.read() == ""
if "--deaf" in sys.argv:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
inner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
try:
    pathlib.Path("new").write_text(f"{os.getpid()} {inner.pid}")
    os.replace("new", "ids")
    time.sleep(60)
finally:
    pathlib.Path("closed").touch()
"""

PARENT = """
import os, pathlib, signal, sys
from les.children import child
signal.signal(signal.SIGINT, signal.default_int_handler)  # where these tests run in the background
with child([sys.executable, "-c", sys.argv[1]], pathlib.Path(), os.environ, sys.stdout) as process:
    process.wait()
"""


def ids(folder: Path) -> list[int]:
    """Process ids of the child and its child, as soon as they run."""
    wait_until((folder / "ids").exists)
    return [int(text) for text in (folder / "ids").read_text().split()]


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_children_end_with_a_parent_that_ends(signum, tmp_path):
    parent = subprocess.Popen([sys.executable, "-c", PARENT, CHILD], cwd=tmp_path)
    pids = ids(tmp_path)
    assert not any(map(ended, pids))
    parent.send_signal(signum)
    assert parent.wait(30) != 0
    wait_until(lambda: all(map(ended, pids)))


@pytest.mark.parametrize("deaf", [False, True])
def test_children_end_with_the_context(deaf, tmp_path, monkeypatch):
    monkeypatch.setattr(children, "GRACE", 0.5 if deaf else 30.0)
    command = [sys.executable, "-c", CHILD, *["--deaf"] * deaf]
    with (tmp_path / "log").open("w") as log, pytest.raises(KeyError):  # noqa: SIM117, PT012
        with child(command, tmp_path, os.environ, log):
            pids = ids(tmp_path)
            raise KeyError
    assert ended(pids[0])
    wait_until(lambda: ended(pids[1]))  # init reaps it
    assert (tmp_path / "closed").exists() == (not deaf)  # time to close its files


def test_what_a_child_leaves_behind_ends_too(tmp_path):
    leaving = CHILD.replace("time.sleep(60)\nfin", "sys.exit(3)\nfin")
    assert leaving != CHILD
    command = [sys.executable, "-c", leaving]
    with (tmp_path / "log").open("w") as log, child(command, tmp_path, os.environ, log) as process:
        assert process.wait() == 3
    wait_until(lambda: all(map(ended, ids(tmp_path))))


def test_other_processes_keep_their_standard_input():
    program = "import sys; from les.children import end_with_parent as f; f(); print(input())"
    done = subprocess.run(
        [sys.executable, "-c", program], input="text\n", capture_output=True, text=True, check=True
    )
    assert done.stdout == "text\n"
