"""Where compiled kernels are kept: what is loaded again, and what is not."""

from __future__ import annotations

import ctypes
import os
import re
import time
import warnings

import pytest

from les.files import checksum
from les.sums.cpu import cache
from les.sums.cpu.library import _compiler

pytestmark = [
    pytest.mark.cpu_only("compiled kernels"),
    pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs owners and modes"),
]

NAME = "kernels-0123"


@pytest.fixture
def folder(compiled, monkeypatch, tmp_path):
    """Nothing is kept yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    cache._warn_once.cache_clear()
    yield tmp_path / "cache" / "les" / "kernels"
    cache._warn_once.cache_clear()


@pytest.fixture
def find(tmp_path):
    """A function that finds or builds a small library, and tells which and what it returns."""
    source = tmp_path / "answer.c"
    source.write_text("int answer(void) { return 42; }")

    def load(file):
        # A file of the same name that is loaded already would not be read again.
        copy = tmp_path / f"{time.time_ns()}.so"
        copy.write_bytes(file.read_bytes())
        return ctypes.CDLL(str(copy))

    def run():
        built = []

        def build(folder):
            command = [*_compiler(), "-shared", "-fPIC"]
            built.append(cache.compile_library(command, [source], folder, NAME))
            return built[-1]

        library, file = cache.kept_library(NAME, build, load)
        assert library.answer() == 42
        assert built in ([], [file])
        return file, bool(built)

    return run


def test_kept(folder, find):
    file, built = find()
    assert built and file.parent == folder
    assert (folder.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o700)
    assert find() == (file, False)


@pytest.mark.parametrize("damage", ["empty", "cut", "changed"])
def test_damaged_file(folder, find, damage):
    """Of an interrupted copy of the home folder, for instance: replaced before it is loaded."""
    file, _ = find()
    whole = file.read_bytes()
    changed = whole[:4096] + bytes(len(whole) - 4096)
    file.write_bytes({"empty": b"", "cut": whole[:5000], "changed": changed}[damage])
    again, built = find()
    assert built
    assert list(folder.iterdir()) == [again]
    assert len(again.read_bytes()) == len(whole)


def test_file_that_cannot_be_loaded(folder, find):
    """Of another system with the same home: it stays, and there is one more."""
    folder.mkdir(mode=0o700, parents=True)
    text = folder / "text"
    text.write_text("no library")
    other = text.rename(folder / f"{NAME}-{checksum(text)[: cache.DIGITS]}.so")
    file, built = find()
    assert built
    assert set(folder.iterdir()) == {file, other}


@pytest.mark.parametrize("what", ["folder", "file", "owner"])
def test_files_of_others_are_not_loaded(folder, find, monkeypatch, what):
    file, _ = find()
    target = file if what == "file" else folder
    message = f"others may write to {target} "
    if what == "owner":
        monkeypatch.setattr(os, "getuid", lambda: file.stat().st_uid + 1)
        message = f"{folder} belongs to another user"
    else:
        target.chmod(0o770)
    with pytest.warns(UserWarning, match=re.escape(message)):
        elsewhere, built = find()
    assert built
    assert elsewhere.parent != folder
    assert elsewhere.parent.stat().st_mode & 0o777 == 0o700
    with warnings.catch_warnings():  # of the other precision
        warnings.simplefilter("error")
        assert find() == (elsewhere, True)
    if what != "owner":
        target.chmod(0o700)
        assert find() == (file, False)


def test_forgotten_files_are_removed(folder, find):
    """When others are compiled, but nothing that was used of late, or is no kernel."""
    folder.mkdir(mode=0o700, parents=True)
    old, recent, other = (folder / name for name in ("kernels-1-1.so", "kernels-2-2.so", "mine"))
    left = folder / "compiling-x"
    left.mkdir()
    for path, days in ((old, 31), (recent, 29), (other, 100), (left, 2)):
        if path is not left:
            path.write_text("")
        set_age(path, days)
    file, _ = find()
    assert set(folder.iterdir()) == {file, recent, other}


def test_use_is_noted(folder, find):
    file, _ = find()
    set_age(file, 5)
    find()
    assert time.time() - file.stat().st_mtime < cache.DAY


def set_age(path, days):
    then = time.time() - days * cache.DAY
    os.utime(path, (then, then))
