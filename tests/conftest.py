"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: How many ordinary tests take as long as one that is marked ``slow``, about.
SLOW = 20


def pytest_addoption(parser: pytest.Parser) -> None:
    # Here, because of the folders that hold tests pytest asks this one before it reads options.
    parser.addoption(
        "--device",
        default="cpu",
        help="where the tests of the core have their tensors: cpu, cuda, cuda:1, ... "
        "(they are skipped where there is no such device; all other tests choose themselves)",
    )


def pytest_configure(config: pytest.Config) -> None:
    try:
        torch.device(config.getoption("device"))
    except RuntimeError as error:
        raise pytest.UsageError(f"--device: {error}") from error


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that no worker is left with one at the end."""
    weights: Counter[Path] = Counter()
    for item in items:
        weights[item.path] += SLOW if item.get_closest_marker("slow") else 1
    items.sort(key=lambda item: -weights[item.path])


def _folder_from(variable: str) -> Path:
    """Folder that an environment variable names.

    Without it the test is skipped, or fails where ``LES_REQUIRE_DATA=1`` says that the
    data must be there. A variable that names no folder is always an error.
    """
    value = os.environ.get(variable)
    if not value:
        reason = f"{variable} is not set"
        if os.environ.get("LES_REQUIRE_DATA") == "1":
            pytest.fail(f"{reason}, but LES_REQUIRE_DATA=1 demands the data")
        pytest.skip(f"{reason} (see CONTRIBUTING.md)")
    folder = Path(value)
    if not folder.is_dir():
        pytest.fail(f"{variable}={value} is not a folder")
    return folder


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder with reference data sets, from ``LES_DATA_DIR``."""
    return _folder_from("LES_DATA_DIR")


@pytest.fixture(scope="session")
def reference_dir() -> Path:
    """Folder with reference values and checkpoints, from ``LES_REFERENCE_DIR``."""
    return _folder_from("LES_REFERENCE_DIR")


@pytest.fixture(scope="session")
def quick_compiler(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A C compiler for kernels whose speed does not matter."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None or sys.platform == "win32":
        pytest.skip("needs a C compiler and a shell")
    quick = tmp_path_factory.mktemp("compiler") / "quick"
    quick.write_text(f'#!/bin/sh\nexec {compiler} "$@" -O0\n')
    quick.chmod(0o700)
    return str(quick)


@pytest.fixture(scope="session")
def wheel_with_kernels(tmp_path_factory: pytest.TempPathFactory, quick_compiler: str) -> Path:
    """A wheel of the sources with kernels for this system, compiled without delay."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    code = f"import hatchling.build as b; print(b.build_wheel({str(folder)!r}))"
    environment = {**os.environ, "LES_BUILD_KERNELS": "1", "CC": quick_compiler}
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[1],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return folder / run.stdout.split()[-1]


@pytest.fixture
def run_tutorials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that runs pages of ``docs/tutorials``, named one after the other, in one folder.

    They run in their shorter form. What a page says that a block prints it has to print, but for
    the numbers in it.
    """
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "website"))
    import tutorials

    def run(*names: str) -> None:
        environment = tutorials.environment(tmp_path)
        for name in names:
            text = (tutorials.PAGES / f"{name}.md").read_text(encoding="utf-8")
            for ran in tutorials.run(tutorials.shortened(text), tmp_path, environment):
                assert tutorials.lines_missed(ran) == [], f"{name}.md; printed:\n{ran.printed}"
                assert bool(ran.printed) == bool(ran.recorded), f"{name}.md: {ran.printed}"
            for picture in tutorials.pictures(text):
                (drawn,) = tmp_path.rglob(picture)
                assert drawn.read_bytes().startswith(b"\x89PNG")

    return run


@pytest.fixture(autouse=True)
def _independent_of_other_tests() -> Iterator[None]:
    """Seed torch, and undo a changed default dtype (training with MACE changes it)."""
    dtype = torch.get_default_dtype()
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(dtype)
