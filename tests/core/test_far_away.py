"""Float32 far from the origin: as good as near it, since shifts here are exact in float32."""

from __future__ import annotations

import pytest
import torch

from les import Ewald, born_effective_charges, dipole_moments
from les.sums.crossover import WORTH_A_MESH
from les.sums.plain import Bounds, traceable_potential
from les.sums.reciprocal.lattice import grid_extent

#: Places are multiples of this [A], which float32 tells apart as far away as this.
GRID, FAR = 2.0**-7, torch.tensor([65536.0, -65536.0, 32768.0])
PBC = {"open": [False] * 3, "slab": [True, True, False], "crystal": [True] * 3}
CELL = [[9.3, 0.4, -0.7], [2.1, 8.2, 0.3], [-1.4, 1.9, 10.1]]


@pytest.fixture(params=["kernels", "torch"])
def _kernels(request, monkeypatch):
    monkeypatch.setenv("LES_NATIVE", "1" if request.param == "kernels" else "0")


def make_system(kind, n_atoms=30):
    """Charges, positions, a cell and periodic axes."""
    generator = torch.Generator().manual_seed(1)
    charges = torch.randn(n_atoms, generator=generator)
    positions = GRID * torch.round(9.0 * torch.rand(n_atoms, 3, generator=generator) / GRID)
    return charges - charges.mean(), positions, torch.tensor([CELL]), torch.tensor([PBC[kind]])


def derivatives(module, charges, positions, cell, pbc):
    """Energy, potential, first derivatives, and those of a number that depends on them."""
    leaves = [value.clone().requires_grad_() for value in (charges, positions, cell)]
    energy, potential = module(*leaves, None, pbc, True)
    first = torch.autograd.grad(energy.sum(), leaves, create_graph=True, materialize_grads=True)
    second = torch.autograd.grad(sum(g.square().sum() for g in first[:2]), leaves[:2])
    return [value.detach() for value in (energy, potential, *first, *second)]


def assert_close(found, expected, tolerance):
    for value, target in zip(found, expected, strict=True):
        scale = target.abs().max().item()
        torch.testing.assert_close(value.to(target), target, rtol=0.0, atol=tolerance * scale)


@pytest.mark.usefixtures("_kernels")
@pytest.mark.parametrize("kind", PBC)
@pytest.mark.parametrize("method", ["direct", "mesh", "scripted"])
def test_sum(kind, method, monkeypatch):
    if kind == "open" and method == "mesh":
        for native in (True, False):
            monkeypatch.setitem(WORTH_A_MESH, native, (2, 1e12))
    module = Ewald(method="mesh" if method == "mesh" else "auto")
    module = torch.jit.script(module) if method == "scripted" else module
    charges, positions, cell, pbc = make_system(kind)
    near = derivatives(module, charges, positions, cell, pbc)
    far = derivatives(module, charges, positions + FAR, cell, pbc)
    assert torch.equal(positions + FAR - FAR, positions)
    if method == "mesh":
        # Its energies depend a little on the origin: those in float64 are what is expected. How
        # they depend on a cell that leaves the atoms where they are is a matter of this, times FAR.
        exact = [value.double() for value in (charges, positions + FAR, cell)]
        near = derivatives(module, *exact, pbc)
        del near[4], far[4]
    assert_close(far, near, 2e-5)


@pytest.mark.usefixtures("_kernels")
@pytest.mark.parametrize("kind", ["slab", "crystal"])
@pytest.mark.parametrize("method", ["direct", "mesh"])
def test_stress(kind, method):
    """From strain of positions and cell; on a mesh that of a slab is good in its plane."""
    charges, positions, cell, pbc = make_system(kind)
    charges, positions, cell = charges.double(), positions.double(), cell.double()
    axis = cell[0, 0] / cell[0, 0].norm()
    normal = torch.linalg.cross(axis, cell[0, 1])
    normal = normal / normal.norm()
    frame = torch.stack([axis, torch.linalg.cross(normal, axis), normal])

    def stress(module, positions):
        strain = torch.zeros_like(frame).requires_grad_()
        deformation = torch.eye(3).to(frame) + 0.5 * (strain + strain.t())
        energy, _ = module(charges, positions @ deformation, cell @ deformation, None, pbc)
        return frame @ torch.autograd.grad(energy.sum(), strain)[0] @ frame.t()

    near = stress(Ewald(method="direct"), positions)
    far = stress(Ewald(method=method), positions + FAR)
    if method == "direct":
        assert_close([far], [near], 1e-9)
    else:
        seen = 2 if kind == "slab" else 3
        assert_close([far[:seen, :seen]], [near[:seen, :seen]], 2e-6)


@pytest.mark.usefixtures("_kernels")
@pytest.mark.parametrize("method", ["direct", "mesh"])
def test_unwrapped_trajectory(method):
    """Atoms many cells away, each in another direction: positions of float32 in float64."""
    charges, positions, cell, pbc = make_system("crystal")
    generator = torch.Generator().manual_seed(2)
    images = torch.randint(-3000, 3000, positions.shape, generator=generator).float()
    away = positions + images @ cell[0]
    module = Ewald(method=method)
    exact = [value.double() for value in (charges, away, cell)]
    found, expected = (
        derivatives(module, charges, away, cell, pbc),
        derivatives(module, *exact, pbc),
    )
    del found[4], expected[4]
    assert_close(found, expected, 2e-5)


@pytest.mark.parametrize("boundary", ["open", "periodic"])
@pytest.mark.parametrize("n_structures", [1, 2])
def test_captured(boundary, n_structures):
    charges, positions, cell, _ = make_system("crystal")
    module, extent = Ewald(dl=2.2), grid_extent(cell, 2.2)
    batch = None
    if n_structures == 2:
        charges, positions = charges.repeat(2), positions.repeat(2, 1)
        cell, batch = cell.repeat(2, 1, 1), torch.arange(2).repeat_interleave(30)

    def evaluate(positions):
        leaf = positions.clone().requires_grad_()
        bounds = Bounds(boundary, extent)
        potential = traceable_potential(module.settings(), charges, leaf, cell, batch, bounds)
        gradient = torch.autograd.grad((charges * potential).sum(), leaf)[0]
        return [potential.detach(), gradient]

    assert_close(evaluate(positions + FAR), evaluate(positions), 2e-6)


@pytest.mark.parametrize("kind", PBC)
def test_dipoles_and_born_effective_charges(kind):
    charges, positions, cell, pbc = make_system(kind)

    def evaluate(positions):
        positions = positions.clone().requires_grad_()
        separation = positions.unsqueeze(0) - positions.unsqueeze(1)
        q = torch.exp(-0.3 * separation.square().sum(-1)) @ charges
        bec = born_effective_charges(q, positions, cell, None, pbc, method="phase")
        batch = torch.zeros(len(q), dtype=torch.long)
        return [bec, dipole_moments(q, positions, batch, 1).detach()]

    assert_close(evaluate(positions + FAR), evaluate(positions), 1e-6)


@pytest.mark.usefixtures("_kernels")
@pytest.mark.parametrize("method", ["direct", "mesh"])
def test_slabs_move_without_a_jump(method):
    """Along their normal, where the origin that coordinates are counted from changes."""
    charges, positions, cell, pbc = make_system("slab")
    charges, positions, cell = charges.double(), positions.double(), cell.double()
    normal = torch.linalg.cross(cell[0, 0], cell[0, 1])
    normal = normal / normal.norm()
    module = Ewald(method=method)
    energies = [
        module(charges, positions + height * normal, cell, None, pbc)[0].item()
        for height in (0.0, 20.0, 25.0, 30.0, 40.0, 70.0)
    ]
    assert max(energies) - min(energies) < (1e-9 if method == "direct" else 1e-4) * abs(energies[0])
