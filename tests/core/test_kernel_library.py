"""Compiling kernels, keeping them, and what happens where there are none."""

from __future__ import annotations

import re
import stat
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from les import Ewald
from les.sums.cpu import cache
from les.sums.cpu import library as native

pytestmark = pytest.mark.cpu_only("compiled kernels")


@pytest.fixture
def forgotten(monkeypatch, tmp_path):
    """Nothing is compiled yet, nor will what is be kept; the folder where it goes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    forget()
    (tmp_path / "les").mkdir()
    yield tmp_path / "les" / "kernels"
    forget()


def found():
    return native.library(torch.device("cpu"), torch.float64)


def forget():
    """As a new process would have."""
    for kept in (native._loaded, native._warn_once, cache._warn_once):
        kept.cache_clear()


def test_kept_for_later_processes(compiled, forgotten, monkeypatch):
    """Also for those that find no compiler, as on the nodes of a cluster."""
    assert found() is not None
    (file,) = forgotten.iterdir()
    assert stat.S_IMODE(forgotten.stat().st_mode) == 0o700
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    code = "import torch; from les.sums.cpu.library import library as l; " + (
        "assert l(torch.device('cpu'), torch.float64) is not None"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert native.describe() == f"compiled, {file}"


def test_kernels_that_came_with_the_package(compiled, forgotten, monkeypatch, tmp_path):
    """Without a compiler, as from a wheel; others are compiled if these cannot be loaded."""
    shipped = tmp_path / "compiled"
    monkeypatch.setattr(native, "SHIPPED", shipped)
    assert found() is not None
    (kept,) = forgotten.iterdir()
    shipped.mkdir()
    file = kept.rename(shipped / kept.name)
    forget()
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    assert found() is not None
    assert native.describe() == f"compiled, {file}"
    assert not any(forgotten.iterdir())
    file.unlink()
    file.with_name(f"{file.stem}0.so").write_bytes(b"of another system")
    forget()
    assert found() is None
    assert native.describe().endswith("no C compiler")


def test_compiler_that_cannot_be_read(forgotten, monkeypatch):
    monkeypatch.setenv("CC", 'gcc "')
    with pytest.warns(UserWarning, match='cannot read CC=gcc "'):
        assert found() is None


def test_compilers(compiled, forgotten, monkeypatch):
    """``$CC`` may have arguments, and what it names may be missing."""
    usual = native._compiler()
    monkeypatch.setenv("CC", "no-such-compiler -O2")
    assert native._compiler() == usual
    monkeypatch.setenv("CC", f"{usual[0]} -O1")
    assert native._compiler() == [usual[0], "-O1"]
    assert found() is not None


def test_folder_is_absolute(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache.cache_folder() == tmp_path / ".cache" / "les" / "kernels"


@pytest.mark.parametrize("variable", ["PATH", native.SWITCH])
def test_without_kernels(make_system, monkeypatch, forgotten, deviation, variable):
    """Silently, with the same energy."""
    system, mesh = make_system("triclinic", 14), Ewald(method="mesh")
    expected = mesh(*system)[0]
    for file in forgotten.iterdir() if forgotten.exists() else ():
        file.unlink()
    forget()
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv(variable, "" if variable == "PATH" else "off")
    assert found() is None
    reason = "no C compiler" if variable == "PATH" else "LES_NATIVE=off"
    assert native.describe().endswith(reason)
    assert deviation(mesh(*system)[0], expected) < 1e-13


@pytest.mark.parametrize("what", ["fails", "is no folder", "is none"])
def test_kernels_that_cannot_be_made(make_system, monkeypatch, forgotten, what):
    """The sum goes on after one warning that says why."""
    compiler = forgotten.parent / "compiler"
    body = "echo 'unknown option' >&2; exit 1" if what == "fails" else "exit 0"
    compiler.write_text(f"#!/bin/sh\n{body}\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    if what == "is no folder":
        forgotten.write_text("")
    message = {"fails": "unknown option", "is no folder": "exists", "is none": "exit status 0"}
    with pytest.warns(UserWarning, match=message[what]) as caught:
        Ewald(method="mesh")(*make_system("cubic", 5))
    assert len(caught) == 1 and "LES_NATIVE=0" in str(caught[0].message)
    assert re.search(message[what], native.describe())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Ewald(method="mesh")(*make_system("cubic", 5))


def test_files_without_kernels(compiled, tmp_path):
    """Another library is not an AttributeError when a kernel is called."""
    source = tmp_path / "other.c"
    source.write_text("int nothing(void) { return 0; }")
    command = [*native._compiler(), "-shared", "-fPIC"]
    other = cache.compile_library(command, [source], tmp_path, "other")
    with pytest.raises(OSError, match=f"{other} has no kernel les_cells_enter"):
        native._load(other)
    sources = [Path(native.__file__).with_name(name).read_text() for name in native.SOURCES]
    exported = re.findall(r"^(?:void|int64_t) (les_\w+)\(", "".join(sources), re.MULTILINE)
    assert sorted(exported) == sorted(native.SYMBOLS)


def test_not_for_other_devices_and_numbers():
    assert native.library(torch.device("meta"), torch.float64) is None
    assert native.library(torch.device("cpu"), torch.float16) is None
