"""Environments and checks of les; ``nox --list`` shows the sessions.

Upstream packages exclude one another, so there is one environment per backend and one
without any upstream: ``.nox/core``, ``.nox/mace``, ... Sessions share them, because each
holds its own copy of torch. ``nox -R`` skips the installation.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nox

ROOT = Path(__file__).parent

#: Adapters, and the extra of the distribution that brings all their upstreams. A new one
#: is one more line here; its tests are in tests/integrations/<name>. Examples are tested with MACE.
BACKENDS = {
    "cace": "cace,lammps",
    "chgnet": "chgnet",
    "mace": "mace,spectra,lammps,engines",
    "nequip": "allegro,lammps",
}

#: Where the demo leaves its results and report.
DEMO = Path("results", "demo")

#: What the environment without any upstream has.
CORE = "dev,data,docs,engines,spectra"

#: What builds les, and calorine (of `spectra`), which has no wheels.
BUILDERS = ("hatchling", "setuptools>=77", "pybind11")

nox.options.sessions = ["lint", "docs", "tests-core", *(f"tests-{name}" for name in BACKENDS)]
nox.options.default_venv_backend = "none"  # see `environment`


def environment(session: nox.Session, name: str, extras: str) -> Path:
    """Environment ``.nox/<name>`` with les (editable) and ``extras``; returns its programs.

    pip installs, because it alone honours ``constraints.txt`` as written for all of them.
    """
    folder = ROOT / ".nox" / name
    programs = folder / ("Scripts" if sys.platform == "win32" else "bin")
    if not (folder / "pyvenv.cfg").exists():
        session.run_install(sys.executable, "-m", "virtualenv", str(folder), silent=True)
    pip = [str(programs / "python"), "-m", "pip", "install", "-c", "constraints.txt"]
    # Building with what is installed lets a second run do without the network.
    session.run_install(*pip, *BUILDERS, silent=True)
    session.run_install(*pip, "--no-build-isolation", "-e", f".[{extras}]", silent=True)
    return programs


def run_tests(session: nox.Session, programs: Path, tests: list[Path]) -> None:
    """Run pytest on all cores; what follows ``--`` on nox's command line is passed on."""
    session.run(
        *(str(programs / "python"), "-m", "pytest", "-n", "auto", "--maxprocesses", "8"),
        # Trained models are shared within a file; tests/conftest.py puts the files in order.
        *("--dist", "loadfile", "--no-loadscope-reorder", *map(str, tests), *session.posargs),
        # One thread per worker: more only compete for the same cores. Tests of upstream, too,
        # look for its programs on the path.
        env={"OMP_NUM_THREADS": "1", "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"},
    )


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, formatting and types."""
    programs = environment(session, "core", CORE)
    session.run(str(programs / "ruff"), "check", ".")
    session.run(str(programs / "ruff"), "format", "--check", ".")
    session.run(str(programs / "mypy"))


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation site in build/site; warnings, as of a dead link, are errors."""
    programs = environment(session, "core", CORE)
    session.run(str(programs / "python"), "website/build.py", *session.posargs)


@nox.session(name="tests-core")
def tests_core(session: nox.Session) -> None:
    """Test the physics, the command line and the benchmarks, without any upstream."""
    programs = environment(session, "core", CORE)
    run_tests(session, programs, [Path("tests", "core"), Path("tests", "benchmarks")])


def add_backend_session(name: str, extra: str) -> None:
    """Define ``tests-<name>``, which tests the adapter against its real upstream."""

    def run(session: nox.Session) -> None:
        programs = environment(session, name, f"{extra},test")
        run_tests(session, programs, [Path("tests", "integrations", name)])

    run.__doc__ = f"Test les with {name}."
    nox.session(name=f"tests-{name}")(run)


for backend, upstreams in BACKENDS.items():
    add_backend_session(backend, upstreams)


@nox.session
def bench(session: nox.Session) -> None:
    """Compare all models: nox -s bench -- --suite quick (what follows -- goes to les bench run)."""
    programs = [environment(session, name, f"{extra},test") for name, extra in BACKENDS.items()]
    arguments = session.posargs or ["--suite", "quick"]
    folder = ("--environments", str(ROOT / ".nox"))
    session.run(str(programs[0] / "les"), "bench", "run", *folder, *arguments)


@nox.session
def demo(session: nox.Session) -> None:
    """Train MACE with and without LES on ions and on water, and write a report."""
    programs = environment(session, "mace", "mace,test")
    bench = (str(programs / "les"), "bench")
    folder = ("--environments", str(ROOT / ".nox"), "--output", str(DEMO))
    # One thread each: two trainings share two cores better than one would use them.
    session.run(*bench, "run", "--suite", "demo", "--jobs", "2", "--threads", "1", *folder)
    session.run(*bench, "report", str(DEMO))
