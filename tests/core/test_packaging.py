"""The distribution: what it contains, what it promises, what importing it costs."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import torch

import les

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "les": ROOT / "les_core",
    "les_cace": ROOT / "integrations" / "cace",
    "les_chgnet": ROOT / "integrations" / "chgnet",
    "les_mace": ROOT / "integrations" / "mace",
    "les_nequip": ROOT / "integrations" / "nequip",
    "les_bench": ROOT / "benchmarks",
}
#: What a backend, the benchmarks or a YAML file need; ``import les`` must do without.
NOT_FOR_CORE = {
    "ase", "chgnet", "e3nn", "mace", "matplotlib", "matscipy", "nequip", "pymatgen", "yaml",
}  # fmt: skip


def build(source: Path, out: Path) -> tuple[Path, Path]:
    """Build the sdist of ``source`` and a wheel from that sdist."""

    def hatchling(kind: str, folder: Path) -> Path:
        code = f"import hatchling.build as b; print(b.build_{kind}({str(out)!r}))"
        command = [sys.executable, "-c", code]
        run = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
        return out / run.stdout.split()[-1]

    sdist = hatchling("sdist", source)
    with tarfile.open(sdist) as archive:
        archive.extractall(out, filter="data")
    return sdist, hatchling("wheel", out / sdist.name.removesuffix(".tar.gz"))


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> tuple[set[str], set[str]]:
    """File names in the sdist and in the wheel that is built from it."""
    pytest.importorskip("hatchling")
    sdist, wheel = build(ROOT, tmp_path_factory.mktemp("dist"))
    with tarfile.open(sdist) as archive:
        in_sdist = {name.partition("/")[2] for name in archive.getnames()}
    with zipfile.ZipFile(wheel) as archive:
        return in_sdist, set(archive.namelist())


def package_files(package: str) -> set[str]:
    """Files of an import package in the source tree, relative to its import root."""
    root = PACKAGES[package]
    files = (path.relative_to(root) for path in (root / package).rglob("*") if path.is_file())
    return {
        path.as_posix()
        for path in files
        if not any(part.startswith((".", "__pycache__")) for part in path.parts)
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_wheel_from_sdist_holds_every_file_of_the_package(
    package: str, distributions: tuple[set[str], set[str]]
) -> None:
    files = package_files(package)
    assert {f"{package}/__init__.py", f"{package}/py.typed"} <= files
    assert files <= distributions[1]


def test_wheel_holds_nothing_else(distributions: tuple[set[str], set[str]]) -> None:
    top = {name.partition("/")[0] for name in distributions[1]}
    assert top == {*PACKAGES, f"les-{metadata.version('les')}.dist-info"}


def test_sdist_holds_what_a_packager_needs(distributions: tuple[set[str], set[str]]) -> None:
    wanted = {"LICENSE", "README.md", "CITATION.cff", "constraints.txt", "tests/conftest.py"}
    assert wanted <= distributions[0]
    assert any(name.startswith("docs/") for name in distributions[0])


def test_sdist_holds_all_that_is_kept_in_the_repository(
    distributions: tuple[set[str], set[str]],
) -> None:
    """But for what serves the place where the repository is kept."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode or not (ROOT / ".git").exists():
        pytest.skip("this is no clone")
    kept = {name for name in listed.stdout.splitlines() if (ROOT / name).is_file()}
    left_out = kept - distributions[0]
    assert {name for name in left_out if not name.startswith((".ci/", ".github/"))} == set()
    added = distributions[0] - kept
    assert {name for name in added if Path(name).suffix in {".so", ".pyc", ".pt"}} == set()


def test_version_is_the_same_everywhere() -> None:
    version = metadata.version("les")
    assert les.__version__ == version
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (.+)$", citation, re.MULTILINE)[1] == version
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## \[(\d.*?)\]", changelog, re.MULTILINE)[1] == version


@pytest.mark.parametrize(
    "module", ["les", "les_chgnet.backend", "les_mace.backend", "les_nequip.backend"]
)
def test_import_does_without_upstreams(module: str) -> None:
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    assert NOT_FOR_CORE & set(run.stdout.split()) == set()


def test_entry_points_can_be_loaded() -> None:
    entries = metadata.distribution("les").entry_points
    assert [entry.name for entry in entries if entry.group == "console_scripts"] == ["les"]
    backends = {entry.name for entry in entries if entry.group == "les.backends"}
    assert {"allegro", "cace", "chgnet", "chgnet-pretrained", "mace", "nequip"} == backends
    extensions = {entry.value for entry in entries if entry.group == "nequip.extension"}
    assert extensions == {"les", "les_nequip", "les_nequip.registration"}  # modules
    for entry in entries:
        assert callable(entry.load()) or entry.value in extensions


def test_extras_are_declared() -> None:
    extras = metadata.metadata("les").get_all("Provides-Extra")
    assert {"mace", "nequip", "allegro", "chgnet", "cace", "bench", "dev"} <= set(extras or [])


def test_adapter_folders_do_not_shadow_upstreams() -> None:
    """``integrations/mace/__init__.py`` would make `import mace` find the adapter there."""
    assert not list((ROOT / "integrations").glob("*/__init__.py"))


def test_constraints_can_be_shared_by_all_backends() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w-]+==[\w.]+(; python_version .+)?", pin) for pin in pins), pins
    # mace-torch and nequip need different versions of it.
    assert "e3nn" not in {pin.partition("==")[0] for pin in pins}


def test_pre_commit_runs_the_tested_ruff() -> None:
    pattern = r"ruff==[\d.]+"
    config = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert set(re.findall(pattern, config)) == set(re.findall(pattern, constraints))


def test_what_the_core_names_can_be_packaged() -> None:
    """Packaging a model copies the core with all that its modules name, called or not.

    What these modules name is copied as well, be it for the sake of types alone.
    """
    code = """import sys, les
for name, module in list(sys.modules.items()):
    if name.partition('.')[0] == 'les':
        print(name)
"""
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    waiting, seen, named = run.stdout.split(), set(), set()
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        found = names_in(module)
        named |= {name.partition(".")[0] for name in found}
        waiting += [name for name in found if name.partition(".")[0] == "les"]
    assert {"torch", "numpy"} <= named
    assert named - sys.stdlib_module_names <= {"les", "numpy", "torch", "yaml"}


def names_in(module: str) -> set[str]:
    """Modules that the source of a module names; none where it is no module, but part of one."""
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:  # within what is no package
        return set()
    if spec is None or spec.origin is None:
        return set()
    named = set()
    for node in ast.walk(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            named |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return named


@pytest.mark.slow
def test_wheel_with_kernels_needs_no_compiler(
    wheel_with_kernels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Installed where there is none, it calculates with the kernels that it holds."""
    wheel = wheel_with_kernels
    assert "-py3-none-" in wheel.name
    assert not wheel.name.endswith("-any.whl")
    installed = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target"]
    subprocess.run([*pip, str(installed), str(wheel)], check=True, capture_output=True)
    without = {name: value for name, value in os.environ.items() if name != "CC"}
    without |= {"PATH": "", "PYTHONPATH": str(installed), "XDG_CACHE_HOME": str(tmp_path / "kept")}
    code = """import torch, les
from les.cli.doctor import describe
print(describe(), *les.Ewald()(*torch.load("structure.pt"))[0].tolist(), sep="\\n")
"""
    positions = torch.tensor([[0.0, 0, 0], [1, 2, 3]], dtype=torch.float64)
    charges = torch.tensor([[1.0], [-1]], dtype=torch.float64)
    structure = (charges, positions, 9 * torch.eye(3, dtype=torch.float64)[None])
    torch.save(structure, tmp_path / "structure.pt")
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=without, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    kernels, energy = run.stdout.splitlines()
    assert kernels.startswith(f"compiled, {installed}")
    assert not (tmp_path / "kept").exists()
    monkeypatch.setenv("LES_NATIVE", "0")
    assert float(energy) == pytest.approx(les.Ewald()(*structure)[0].item(), rel=1e-12)
