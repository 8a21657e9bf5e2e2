"""Structures, and a backend that needs no upstream, for the tests of the core."""

from __future__ import annotations

import math
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
import torch
from ase.calculators.calculator import Calculator, all_changes
from torch.overrides import TorchFunctionMode

from les import Ewald
from les.backends import Backend, arguments, get_backend, models, registry
from les.cli import command, doctor
from les.sums.cpu import library

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from les.backends import TrainingJob

TRICLINIC = [[9.3, 0.4, -0.7], [2.1, 8.2, 0.3], [-1.4, 1.9, 10.1]]
CELLS = {
    "cubic": [[9.1, 0.0, 0.0], [0.0, 9.1, 0.0], [0.0, 0.0, 9.1]],
    "triclinic": TRICLINIC,
    "left_handed": [TRICLINIC[1], TRICLINIC[0], TRICLINIC[2]],
}


class _DrawnOnTheCPU(TorchFunctionMode):
    """Random numbers are the same on all devices."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function in (torch.rand, torch.randn, torch.randint, torch.randperm):
            drawn = function(*args, **{"device": "cpu", **kwargs})
            return drawn.to(kwargs.get("device", torch.get_default_device()))
        return function(*args, **kwargs)


@pytest.fixture(scope="session")
def missing(request: pytest.FixtureRequest) -> str | None:
    """Why there is no device such as ``--device`` names."""
    device = request.config.getoption("device")
    try:
        torch.ones(1, device=device).item()
    except Exception as error:  # each kind of device has its own
        return f"--device {device}: {str(error).splitlines()[0]}"
    return None


@pytest.fixture(autouse=True)
def device(request: pytest.FixtureRequest, missing: str | None) -> Iterator[torch.device]:
    """Where tensors are that tests make: what ``--device`` says."""
    device = torch.device(request.config.getoption("device"))
    if missing is not None:
        pytest.skip(missing)
    if device.type == "cpu":
        yield device
        return
    if (marker := request.node.get_closest_marker("cpu_only")) is not None:
        pytest.skip(f"of the CPU only: {marker.args[0]}")
    with device, _DrawnOnTheCPU():
        yield device


@pytest.fixture
def forget_tables() -> Iterator[Callable[[], None]]:
    """Forgets what earlier calls have kept for later ones; compiled kernels and threads stay."""
    stay = {"les.sums.cpu.library", "les.sums.cpu.threads"}

    def forget() -> None:
        for name in [name for name in sys.modules if name.startswith("les.") and name not in stay]:
            for value in vars(sys.modules[name]).values():
                if hasattr(value, "cache_clear") and value.__module__ not in stay:
                    value.cache_clear()

    forget()
    yield forget
    forget()


class System(NamedTuple):
    """Arguments of ``Ewald.forward`` for one structure."""

    charges: Tensor
    positions: Tensor
    cell: Tensor


class Batch(NamedTuple):
    """Arguments of ``Ewald.forward`` for several structures."""

    charges: Tensor
    positions: Tensor
    cell: Tensor
    batch: Tensor


def _rotation(seed: int = 5) -> Tensor:
    """A rotation matrix without symmetry ``[3, 3]``."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(3, 3, dtype=torch.float64, generator=generator)
    orthogonal, _ = torch.linalg.qr(matrix)
    return orthogonal * torch.linalg.det(orthogonal)


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    """Both precisions."""
    return getattr(torch, request.param)


@pytest.fixture
def tolerance(dtype: torch.dtype) -> float:
    """Relative deviation that rounding explains."""
    return 1e-10 if dtype == torch.float64 else 1e-4


@pytest.fixture(params=["cubic", "triclinic", "rotated", "left_handed"])
def cell_kind(request: pytest.FixtureRequest) -> str:
    """All kinds of cell."""
    return request.param


@pytest.fixture(params=["sharp", "smooth"])
def cutoff(request: pytest.FixtureRequest) -> str:
    """Both ends of the periodic sum."""
    return request.param


@pytest.fixture
def rotation() -> Callable[..., Tensor]:
    """Makes rotation matrices."""
    return _rotation


@pytest.fixture
def make_system() -> Callable[..., System]:
    """Makes random structures, of at least 0.7 A between atoms where ``n_atoms`` is small."""

    def make(
        kind: str = "triclinic",
        n_atoms: int = 10,
        dtype: torch.dtype = torch.float64,
        channels: int | None = None,
        total: float = 0.0,
        seed: int = 0,
    ) -> System:
        generator = torch.Generator().manual_seed(seed)
        shape = (n_atoms,) if channels is None else (n_atoms, channels)
        charges = torch.randn(shape, dtype=torch.float64, generator=generator)
        if n_atoms > 0:
            charges = charges - charges.mean(0) + total / n_atoms
        fractional = torch.rand(n_atoms, 3, dtype=torch.float64, generator=generator)
        if kind == "rotated":
            cell = torch.tensor(TRICLINIC, dtype=torch.float64) @ _rotation()
        elif kind == "open":
            cell = torch.eye(3, dtype=torch.float64) * 6.0
        else:
            cell = torch.tensor(CELLS[kind], dtype=torch.float64)
        positions = fractional @ cell
        if kind == "open":
            cell = torch.zeros(3, 3, dtype=torch.float64)
        return System(charges.to(dtype), positions.to(dtype), cell.unsqueeze(0).to(dtype))

    return make


@pytest.fixture
def join() -> Callable[[list[System]], Batch]:
    """Joins structures to a batch."""

    def make(systems: list[System]) -> Batch:
        sizes = torch.tensor([len(positions) for _, positions, _ in systems])
        return Batch(
            *(torch.cat(parts) for parts in zip(*systems, strict=True)),
            torch.arange(len(systems)).repeat_interleave(sizes),
        )

    return make


@pytest.fixture
def unit_ewald() -> Callable[..., Ewald]:
    """Makes ``Ewald`` with a Coulomb constant of 1."""

    def make(**options: object) -> Ewald:
        return Ewald(norm_factor=2.0 * math.pi, **options)

    return make


@pytest.fixture
def random_box() -> Callable[..., System]:
    """Makes cubic boxes with charges that know nothing of one another."""

    def make(n_atoms: int = 160) -> System:
        generator = torch.Generator().manual_seed(0)
        edge = (n_atoms / 0.1) ** (1.0 / 3.0)
        charges = torch.randn(n_atoms, generator=generator).double()
        positions = edge * torch.rand(n_atoms, 3, generator=generator).double()
        cell = edge * torch.eye(3).double().unsqueeze(0)
        return System(charges - charges.mean(), positions, cell)

    return make


@pytest.fixture
def forces() -> Callable[[Ewald, tuple[Tensor, Tensor, Tensor]], Tensor]:
    """A function for minus the forces on a structure ``[n_atoms, 3]``."""

    def gradient(ewald: Ewald, system: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        charges, positions, cell = system
        leaf = positions.clone().requires_grad_()
        return torch.autograd.grad(ewald(charges, leaf, cell)[0].sum(), leaf)[0]

    return gradient


@pytest.fixture
def deviation() -> Callable[[Tensor, Tensor], float]:
    """A function for the relative root mean square of a difference."""

    def relative(actual: Tensor, expected: Tensor) -> float:
        return ((actual - expected).norm() / expected.norm()).item()

    return relative


@pytest.fixture
def check_gradients(device: torch.device) -> Callable[..., None]:
    """A function that compares derivatives with finite differences, second ones if ``twice``."""

    def check(
        function: Callable[..., Any], inputs: Sequence[Tensor], twice: bool = True, **options: Any
    ) -> None:
        # A GPU adds in another order each time.
        options["nondet_tol"] = 0.0 if device.type == "cpu" else 1e-9
        assert torch.autograd.gradcheck(function, inputs, **options)
        if twice:
            assert torch.autograd.gradgradcheck(function, inputs, **options)

    return check


# --- the command


class FakeCalculator(Calculator):
    """Energy = number of atoms."""

    implemented_properties = ("energy", "forces")

    def calculate(
        self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        n = len(atoms)
        if "Xe" in atoms.get_chemical_symbols():
            raise ValueError("the model does not know xenon")
        self.results = {
            "energy": float(n),
            "forces": np.ones((n, 3)),
            "charges": np.arange(n) / 10.0,
            "born_effective_charges": np.zeros((n, 9)),
        }


class FakeBackend(Backend):
    """Notes what it is asked for."""

    name = "fake"
    package = "les_mace"  # has configurations
    distribution = "fake-upstream"
    symbol = "json:loads"
    calls: list = []  # noqa: RUF012

    def train(self, arguments: Sequence[str], *, les: bool) -> None:
        self.require()
        self.calls.append((arguments, les))

    def calculator(
        self, model: str | Path, *, device: str = "cpu", dtype: str = "float64", **options: Any
    ) -> FakeCalculator:
        self.calls.append((Path(model), device, dtype, options))
        return FakeCalculator()

    def training_arguments(self, job: TrainingJob) -> Any:
        raise NotImplementedError

    trained_model = history = training_arguments


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeBackend]:
    """The fake backend in place of all others."""

    def find(name: str) -> Backend:
        return FakeBackend() if name == "fake" else get_backend(name)

    for module in (arguments, command, doctor, models, registry):
        monkeypatch.setattr(module, "get_backend", find)
        monkeypatch.setattr(module, "backend_names", lambda: ["fake"])
    monkeypatch.setattr(FakeBackend, "calls", [])
    return FakeBackend


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """A function for the error message of a command that must fail without a traceback."""

    def run(*argv: str) -> str:
        assert command.main(list(argv)) == 1
        *_, message = capsys.readouterr().err.partition("les: error: ")
        assert message
        return message

    return run


@pytest.fixture
def compiled() -> None:
    """There is a compiler, and the kernels compile."""
    if not any(shutil.which(name) for name in library.COMPILERS):
        pytest.skip("needs a C compiler")
    assert library.library(torch.device("cpu"), torch.float64) is not None
