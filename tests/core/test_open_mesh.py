"""Open boundaries on a mesh against the sum over pairs."""

from __future__ import annotations

import pytest
import torch

from les import Ewald
from les.sums import crossover, open_mesh
from les.sums.cpu.library import library
from les.sums.reciprocal.accuracy import MESH_ACCURACY, resolve

#: Of sums, whose order differs from one time to the next on a GPU.
ROUNDING = 1e-12


def patch_limits(monkeypatch, fewest, points_per_square):
    for native in (True, False):
        monkeypatch.setitem(crossover.WORTH_A_MESH, native, (fewest, points_per_square))


@pytest.fixture(autouse=True)
def _small_structures_on_a_mesh(monkeypatch):
    patch_limits(monkeypatch, 2, 1e12)


@pytest.fixture
def derivatives():
    """Energy, potential, first derivatives, and those of a loss on all of them."""

    def evaluate(method, charges, positions, cell, batch=None, sigma=1.0):
        leaves = [value.clone().requires_grad_() for value in (charges, positions)]
        ewald = Ewald(sigma, method=method)
        energy, potential = ewald(*leaves, cell, batch, compute_potential=True)
        first = torch.autograd.grad(energy.sum(), leaves, create_graph=True)
        loss = sum(value.square().sum() for value in (*first, potential))
        return [energy, potential, *first, *torch.autograd.grad(loss, leaves)]

    return evaluate


def structure(n_atoms, edges, seed=0, dtype=torch.float64, channels=()):
    """Random charges, not neutral, in a box far from the origin."""
    generator = torch.Generator().manual_seed(seed)
    charges = torch.randn(n_atoms, *channels, generator=generator, dtype=torch.float64)
    positions = torch.rand(n_atoms, 3, generator=generator, dtype=torch.float64)
    positions = positions * torch.tensor(edges) + torch.tensor([-31.0, 8.3, 107.0])
    return charges.to(dtype), positions.to(dtype), torch.zeros(1, 3, 3, dtype=dtype)


@pytest.mark.parametrize("channels", [(), (2,)])
@pytest.mark.parametrize("edges", [(9.0, 9.0, 9.0), (3.0, 31.0, 4.0), (1.5, 1.5, 40.0)])
@pytest.mark.parametrize("sigma", [0.8, 1.3])
def test_sum_over_pairs(derivatives, deviation, channels, edges, sigma):
    system = structure(40, edges, channels=channels)
    found = derivatives("auto", *system, sigma=sigma)
    exact = derivatives("direct", *system, sigma=sigma)
    for value, expected in zip(found[1:], exact[1:], strict=True):
        assert 0.0 < deviation(value, expected) < MESH_ACCURACY
    # An energy is what is left of the charges' interaction with themselves and with others.
    itself = Ewald(sigma).settings().coefficients(False)[0] * system[0].square().sum() / sigma
    assert (found[0] - exact[0]).abs() < 0.1 * MESH_ACCURACY * itself


def test_float32(derivatives, deviation):
    system = structure(60, (9.0, 9.0, 9.0), dtype=torch.float32)
    exact = [value.double() for value in system]
    for value, expected in zip(
        derivatives("auto", *system), derivatives("direct", *exact), strict=True
    ):
        assert value.dtype == torch.float32
        assert deviation(value.double(), expected) < 2e-4


def test_finite_differences(check_gradients):
    charges, positions, cell = structure(5, (4.0, 3.0, 5.0))

    def energy(charges, positions):
        return Ewald()(charges, positions, cell)[0]

    leaves = charges.requires_grad_(), positions.requires_grad_()
    check_gradients(energy, leaves, fast_mode=True)


def test_nothing_jumps_when_the_mesh_grows(monkeypatch):
    """Nor where the first point of the mesh is another one; forces are derivatives there, too."""
    charges, positions, cell = structure(8, (5.0, 5.0, 5.0))
    sizes = set()
    shape = open_mesh.MeshShape

    def record(*numbers):
        sizes.add(numbers)
        return shape(*numbers)

    monkeypatch.setattr(open_mesh, "MeshShape", record)
    energies, forces = [], []
    step = 0.01
    for i in range(101):
        moved = positions.clone()
        moved[3, 0] = positions[:, 0].max() + step * i
        moved[5, 1] = positions[:, 1].min() - step * i
        moved.requires_grad_()
        energy = Ewald()(charges, moved, cell)[0]
        gradient = torch.autograd.grad(energy.sum(), moved)[0]
        energies.append(energy.item())
        forces.append((gradient[3, 0] - gradient[5, 1]).item())
    assert len(sizes) > 2
    slopes = torch.tensor(forces, dtype=torch.float64)
    differences = torch.tensor(energies, dtype=torch.float64).diff()
    expected = 0.5 * step * (slopes[1:] + slopes[:-1])
    torch.testing.assert_close(differences, expected, rtol=0.0, atol=2e-6 * max(map(abs, energies)))


def test_place_does_not_matter(derivatives):
    """Not at all if it differs by points of the mesh, and within its accuracy else."""
    charges, positions, cell = structure(12, (6.0, 6.0, 6.0))
    spacing = resolve(1.0, smooth=True, accuracy=MESH_ACCURACY).spacing
    shift = spacing * torch.tensor([3.0, -80.0, 100.0], dtype=torch.float64)
    expected = derivatives("auto", charges, positions, cell)
    for factor, tolerance in ((1.0, 1e-12), (0.5123, MESH_ACCURACY)):
        found = derivatives("auto", charges, positions + factor * shift, cell)
        for value, target in zip(found, expected, strict=True):
            torch.testing.assert_close(
                value, target, rtol=0.0, atol=tolerance * target.abs().max().item()
            )


def test_batches(make_system, join, derivatives):
    """Open structures on meshes of equal and of other sizes, a periodic one, and one atom."""
    first, second = structure(30, (9.0, 8.0, 7.0)), structure(25, (4.0, 20.0, 4.0), seed=1)
    single = structure(1, (1.0, 1.0, 1.0), seed=2)
    shifted = first[0].flip(0), first[1] + 1.0, first[2]
    systems = [first, make_system("triclinic", 9), second, single, shifted]
    batch = join(systems)
    together = derivatives("auto", *batch)
    alone = [derivatives("auto", *system) for system in systems]
    for value, parts in zip(together, zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(value, torch.cat(parts), rtol=1e-9, atol=1e-9)


def test_choice(monkeypatch, deviation):
    """By the number of atoms, also in TorchScript; never where the direct sum is asked for."""
    system = structure(30, (9.0, 8.0, 7.0))
    exact = Ewald(method="direct")(*system)[0]
    on_mesh = Ewald()(*system)[0]
    assert deviation(on_mesh, exact) > ROUNDING
    for other in (Ewald(method="mesh"), torch.jit.script(Ewald())):
        assert deviation(other(*system)[0], on_mesh) < ROUNDING
    patch_limits(monkeypatch, 31, 1e12)
    assert deviation(Ewald()(*system)[0], exact) < ROUNDING


def test_an_atom_that_left(monkeypatch, deviation):
    """The mesh would be too large for memory; the sum over pairs takes its place."""
    charges, positions, cell = structure(30, (9.0, 8.0, 7.0))
    positions[7] += 5000.0
    exact = Ewald(method="direct")(charges, positions, cell)[0]
    assert deviation(Ewald()(charges, positions, cell)[0], exact) < ROUNDING
    patch_limits(monkeypatch, 2, 2.0)
    for method in ("auto", "mesh"):
        assert deviation(Ewald(method=method)(charges, positions, cell)[0], exact) < ROUNDING


@pytest.mark.parametrize(("native", "n_atoms", "edge"), [("0", 2600, 29.6), ("1", 20100, 40.0)])
def test_large_structures_are_on_a_mesh_if_compact(
    monkeypatch, device, deviation, native, n_atoms, edge
):
    """With the numbers that are not patched."""
    monkeypatch.undo()
    monkeypatch.setenv("LES_NATIVE", native)
    if native == "1" and library(device, torch.float64) is None:
        pytest.skip("needs compiled kernels")
    charges, positions, cell = structure(n_atoms, (edge, edge, edge))
    for factor, equal in ((1.0, False), (2.5, True)):
        energy, exact = (
            Ewald(method=method)(charges, factor * positions, cell)[0]
            for method in ("auto", "direct")
        )
        assert (deviation(energy, exact) < ROUNDING) == equal
        assert deviation(energy, exact) < 1e-4


@pytest.mark.parametrize("accuracy", [1e-4, 1e-6, 1e-7])
def test_finer_accuracy(forces, deviation, accuracy):
    """Where periodic structures are summed more finely, so are open ones, if need be over pairs."""
    system = structure(200, (12.6, 12.6, 12.6))
    exact = forces(Ewald(method="direct"), system)
    error = deviation(forces(Ewald(accuracy=accuracy), system), exact)
    assert error < 0.1 * min(accuracy, MESH_ACCURACY)
    assert (error < ROUNDING) == (accuracy < 1e-6)


def test_tables_serve_training_after_inference():
    open_mesh._weights.cache_clear()
    charges, positions, cell = structure(12, (6.0, 6.0, 6.0))
    with torch.inference_mode():
        expected = Ewald()(charges, positions, cell)[0].clone()
    energy, _ = Ewald()(charges, positions.requires_grad_(), cell)
    energy.sum().backward()
    torch.testing.assert_close(energy.detach(), expected.clone())
