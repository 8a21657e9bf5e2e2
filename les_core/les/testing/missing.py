"""Tests: an upstream that is not installed, or does not import, is named where it is needed."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from les.backends import get_backend

#: Runs Python with arguments in a process of its own.
Runner = Callable[..., "subprocess.CompletedProcess[str]"]


class MissingUpstreamTests:
    """Tests of an adapter with the fixture ``run_program``, and what is named below."""

    #: Name of the backend, package that its upstream is imported from, and what installs that.
    backend: ClassVar[str]
    package: ClassVar[str]
    distribution: ClassVar[str]
    #: Names of the adapter that need upstream.
    names: ClassVar[tuple[str, ...]]
    #: Commands that need upstream -> the backend that they name.
    commands: ClassVar[dict[str, str]]

    def without(self, program: str) -> tuple[str, str]:
        """Arguments of Python for ``program``, where upstream is not installed."""
        return "-c", f"import sys; sys.modules[{self.package!r}] = None; {program}"

    def test_names_without_upstream(self, run_program: Runner) -> None:
        for name in self.names:
            program = f"from les_{self.backend} import {name}"
            result = run_program(*self.without(program), check=False)
            assert result.returncode == 1
            missing = f"backend {self.backend!r}: {self.distribution} is not installed"
            assert f"BackendError: {missing}" in result.stderr
            assert f'pip install "les[{self.backend}]"' in result.stderr

    def test_commands_without_upstream(self, run_program: Runner, tmp_path: Path) -> None:
        for command, backend in self.commands.items():
            for word in command.split():
                if word.endswith(get_backend(self.backend).model_suffixes):
                    (tmp_path / word).touch()
            program = f"from les.cli import main; sys.exit(main({command.split()!r}))"
            result = run_program(*self.without(program), check=False, cwd=tmp_path)
            assert result.returncode == 1
            missing = f"backend {backend!r}: {self.distribution} is not installed"
            assert result.stderr.startswith(f"les: error: {missing}")
            assert f'pip install "les[{self.backend}]"' in result.stderr

    def test_broken_upstream(self, run_program: Runner, tmp_path: Path) -> None:
        """An installed one that fails to import is not called missing."""
        (tmp_path / self.package).mkdir()
        broken = tmp_path / self.package / "__init__.py"
        broken.write_text("raise RuntimeError('wrong torch')")
        program = (
            f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
            "from les.backends import get_backend\n"
            f"print(get_backend({self.backend!r}).problem())"
        )
        output = run_program("-c", program).stdout
        problem = f"{self.distribution} fails to import: RuntimeError: wrong torch"
        assert output.strip() == problem
