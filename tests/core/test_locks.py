"""Locks between processes: who holds them, and that killing releases them."""

from __future__ import annotations

import errno
import logging
import os
import re
import signal
import subprocess
import sys

import pytest

from les import locks
from les.locks import InUseError, locked

#: Holds the lock on its first argument until its standard input ends.
HOLDER = """
import sys
from les.locks import locked
with locked(sys.argv[1]):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def hold():
    """Start another process that holds the lock on a path."""
    processes = []

    def start(path):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout.readline() == "locked\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_another_process_is_kept_out_and_told_by_whom(hold, tmp_path):
    process = hold(tmp_path)
    message = rf"{tmp_path} is in use by process {process.pid} on .+ since 20\d\d-.+: -c {tmp_path}"
    with pytest.raises(InUseError, match=message), locked(tmp_path):
        pytest.fail("two processes hold the lock")
    process.communicate()  # ends it
    with locked(tmp_path):
        pass


def test_a_killed_process_holds_nothing(hold, tmp_path):
    process = hold(tmp_path)
    process.kill()
    process.wait()
    assert f"process {process.pid}" in (tmp_path / "les.lock").read_text()
    with locked(tmp_path) as lock:
        assert f"process {os.getpid()} on" in lock.read_text()
        assert f"process {process.pid} on" not in lock.read_text()


def test_what_was_forked_from_a_killed_process_holds_nothing(tmp_path):
    """Such as workers of a data loader, which notice only after seconds."""
    program = """
import os, sys, time
from les.locks import locked
with locked(sys.argv[1]):
    if os.fork() == 0:
        print("forked", flush=True)
    time.sleep(20)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        assert process.stdout.readline() == "forked\n"
        with pytest.raises(InUseError), locked(tmp_path):
            pass
        process.kill()
        process.wait()
        with locked(tmp_path):
            os.killpg(process.pid, 0)  # the other one is there
        os.killpg(process.pid, signal.SIGKILL)


def test_a_forked_process_leaves_the_lock_of_its_parent_alone(tmp_path):
    program = """
import os, sys
from les.locks import locked
with locked(sys.argv[1]) as lock:
    if os.fork() == 0:
        sys.exit()
    os.wait()
    assert lock.exists()
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)


def test_files_of_one_folder_have_locks_of_their_own(hold, tmp_path):
    hold(tmp_path / "a.pt")
    with locked(tmp_path), locked(tmp_path / "b.pt") as lock:
        assert lock == tmp_path / "b.pt.lock"
        with pytest.raises(InUseError, match=r"a\.pt is in use"), locked(tmp_path / "a.pt"):
            pass


def test_nothing_is_left(tmp_path):
    with pytest.raises(KeyError), locked(tmp_path) as lock:  # noqa: PT012
        assert lock.exists()
        raise KeyError
    assert not list(tmp_path.iterdir())


def test_one_process_is_two_users(tmp_path):
    """Two runs in one process disturb each other as two processes do."""
    mine = pytest.raises(InUseError, match=f"in use by process {os.getpid()} ")
    with locked(tmp_path), mine, locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_the_lock_of_who_is_leaving(tmp_path, monkeypatch):
    """A file that was opened before its holder removed it locks nothing."""
    lock = tmp_path / "les.lock"
    calls = []

    def lock_while_it_is_removed(descriptor):
        if not calls:
            lock.unlink()
        calls.append(descriptor)

    monkeypatch.setattr(locks, "_lock", lock_while_it_is_removed)
    with locked(tmp_path):
        assert len(calls) == 2
        assert re.match(r"process \d+", lock.read_text())


def test_file_systems_without_locks(tmp_path, monkeypatch, caplog):
    def unsupported(descriptor):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(locks, "_lock", unsupported)
    with caplog.at_level(logging.WARNING, "les"), locked(tmp_path):
        pass
    assert f"nothing keeps a second run out of {tmp_path}: Function not" in caplog.text


def test_links_are_not_followed(tmp_path):
    """Nobody can let a run write over another file by a link that is called as its lock."""
    (tmp_path / "les.lock").symlink_to(tmp_path / "precious")
    (tmp_path / "precious").write_text("data")
    with pytest.raises(OSError, match=r"les\.lock"), locked(tmp_path):
        pass
    assert (tmp_path / "precious").read_text() == "data"
