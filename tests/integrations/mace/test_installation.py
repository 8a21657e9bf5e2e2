"""``pip install les[mace]`` from a wheel, into an environment that has nothing and no compiler."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ase.build import molecule

from les_mace import LESCalculator

if TYPE_CHECKING:
    from collections.abc import Iterator

CONSTRAINTS = Path(__file__).parents[3] / "constraints.txt"

#: What pip says where it reaches no package index.
NO_INDEX = re.compile(r"NewConnectionError|NameResolutionError|ConnectTimeoutError|Max retries")

#: Evaluates a molecule in a cell. There is no way round compiled kernels: operations of torch,
#: which the sum would take without them, are removed, as the last evaluation shows.
EVALUATION = """
import json
import os
from ase.build import molecule
from les.sums import plan
from les.sums.cpu.library import describe
from les_mace import LESCalculator

plan.TorchEngine = None
water = molecule("H2O", vacuum=4.0, pbc=True)
water.calc = LESCalculator("les-water")
energy, forces = water.get_potential_energy(), water.get_forces().tolist()
print(json.dumps([describe(), energy, water.calc.results["les_energy"], forces]))
os.environ["LES_NATIVE"] = "0"
try:
    LESCalculator("les-water").get_potential_energy(water)
except TypeError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def clean(wheel_with_kernels: Path) -> Iterator[Path]:
    """The programs of a fresh environment with ``les[mace]``, installed by pip from the wheel.

    All that it needs is resolved and installed anew, nothing is shared with the environment that
    runs the tests; pip takes it from its index or its cache.
    """
    with tempfile.TemporaryDirectory(prefix="les-clean-") as folder:  # 1.2 GB, not to be kept
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        programs = Path(folder, "Scripts" if sys.platform == "win32" else "bin")
        # Bytecode is written for what is used, instead of for all of it.
        pip = [programs / "python", "-m", "pip", "install", "--no-compile", "-c", CONSTRAINTS]
        wanted = f"les[mace] @ {wheel_with_kernels.as_uri()}"
        run = run_in(programs, *pip, wanted)
        if NO_INDEX.search(run.stderr) and run.returncode and "CI" not in os.environ:
            pytest.skip("pip reaches no package index")
        assert run.returncode == 0, run.stderr[-4000:]
        yield programs


def run_in(programs: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command that sees the programs of this environment alone: no compiler, no other les."""
    hidden = ("CC", "CXX", "PYTHONPATH", "VIRTUAL_ENV")
    environment = {name: text for name, text in os.environ.items() if name not in hidden}
    environment |= {"PATH": str(programs), "XDG_CACHE_HOME": str(programs.parent / "cache")}
    # pip's own downloads are in the cache of the user.
    if "pip" in command:
        del environment["XDG_CACHE_HOME"]
    return subprocess.run(
        [*map(str, command)], cwd=programs.parent, env=environment, capture_output=True, text=True
    )


@pytest.mark.slow
def test_doctor_finds_mace_and_kernels_but_no_compiler(clean: Path) -> None:
    assert not any(shutil.which(name, path=str(clean)) for name in ("cc", "gcc", "clang", "c++"))
    run = run_in(clean, clean / "les", "doctor")
    assert run.returncode == 0, run.stderr
    kernels, states = "", {}
    for line in run.stdout.splitlines():
        if line.startswith("kernels"):
            kernels = line
        name, state, *_ = line.removeprefix("extra ").split()
        states[name] = state
    assert "compiled, " in kernels and f"{clean.parent}" in kernels
    assert (states["mace"], states["bench"], states["nequip"]) == ("ok", "ok", "no")


@pytest.mark.slow
def test_a_model_is_evaluated_with_the_kernels_of_the_wheel(clean: Path) -> None:
    run = run_in(clean, clean / "python", "-c", EVALUATION)
    assert run.returncode == 0, run.stderr
    *_, results, without = run.stdout.splitlines()
    assert without == "'NoneType' object is not callable"
    kernels, energy, electrostatic, forces = json.loads(results)
    folder = clean.parent.resolve()
    assert Path(kernels.removeprefix("compiled, ")).resolve().is_relative_to(folder)
    assert not (folder / "cache" / "les" / "kernels").exists()
    water = molecule("H2O", vacuum=4.0, pbc=True)
    water.calc = LESCalculator("les-water")
    assert energy == pytest.approx(water.get_potential_energy(), abs=1e-6)
    assert electrostatic == pytest.approx(water.calc.results["les_energy"], abs=1e-6)
    assert abs(electrostatic) > 0.01
    assert forces == [pytest.approx(row, abs=1e-5) for row in water.get_forces().tolist()]
