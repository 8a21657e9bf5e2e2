"""Energy along a strain path: smooth where the cutoff is smooth."""

from __future__ import annotations

import math

import pytest
import torch

from les import Ewald
from les.sums.mesh import mesh_size

STEP = 1e-4
ISOTROPIC = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
SHEAR = [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]


@pytest.fixture
def water_like():
    """64 molecules of three charges at random places in a box of liquid density."""
    generator = torch.Generator().manual_seed(1)
    length = 12.43

    def uniform(*shape):
        return torch.rand(shape, dtype=torch.float64, generator=generator)

    bonds = uniform(64, 2, 3) - 0.5
    oxygen = length * uniform(64, 1, 3)
    positions = torch.cat([oxygen, oxygen + bonds / bonds.norm(dim=-1, keepdim=True)], dim=1)
    charges = torch.tensor([-0.8, 0.4, 0.4]).double().repeat(64)
    return charges, positions.view(-1, 3), length * torch.eye(3).double().unsqueeze(0)


@pytest.fixture
def water(data_dir):
    """A frame of DFT water with the charges of a simple water model."""
    from ase.io import read

    atoms = read(data_dir / "water_rpbe_d3" / "water_rpbe_d3_test50.xyz", index=0)
    assert len(atoms) == 192
    charges = torch.tensor([-0.8 if number == 8 else 0.4 for number in atoms.numbers])
    cell = torch.tensor(atoms.cell[:]).unsqueeze(0)
    return charges.double(), torch.tensor(atoms.positions), cell


def deviations(system, ewald, direction):
    """Energy steps minus the trapezoid of dE/dstrain, over +-2 % strain [eV]."""
    charges, positions, cell = system
    direction = torch.tensor(direction, dtype=torch.float64)
    energies, slopes = [], []
    for n in range(-200, 201):
        strain = torch.tensor(n * STEP, dtype=torch.float64, requires_grad=True)
        deformation = torch.eye(3, dtype=torch.float64) + strain * direction
        energy, _ = ewald(charges, positions @ deformation, cell @ deformation)
        (slope,) = torch.autograd.grad(energy, strain)
        energies.append(energy.detach())
        slopes.append(slope)
    energy, slope = torch.cat(energies), torch.stack(slopes)
    return energy.diff() - 0.5 * STEP * (slope[1:] + slope[:-1])


@pytest.mark.parametrize("direction", [ISOTROPIC, SHEAR], ids=["isotropic", "shear"])
@pytest.mark.parametrize("source", ["water_like", "water"])
def test_strain(source, direction, request):
    system = request.getfixturevalue(source)
    smooth = deviations(system, Ewald(sigma=1.0, dl=2.0, cutoff="smooth"), direction)
    assert smooth.abs().max() < 1e-7
    sharp = deviations(system, Ewald(sigma=1.0, dl=2.0, cutoff="sharp"), direction)
    assert sharp.abs().max() > 1e-3


def test_wrapping_does_not_jump():
    """An atom that crosses the boundary of the cell leaves energy and forces continuous."""
    cell = 8.0 * torch.eye(3).double().unsqueeze(0)
    charges = torch.tensor([1.0, -1.0]).double()
    values = []
    for x in (4.0 - 1e-9, 4.0 + 1e-9, 8.0 - 1e-9, 8.0 + 1e-9):
        leaf = torch.tensor([[x, 0.3, 0.1], [1.0, 2.0, 3.0]]).double()
        leaf[0, 0] = x
        leaf.requires_grad_()
        energy, _ = Ewald()(charges, leaf, cell)
        values.append(torch.cat([energy, torch.autograd.grad(energy, leaf)[0].flatten()]).detach())
    for before, after in ((0, 1), (2, 3)):
        torch.testing.assert_close(values[before], values[after], rtol=0.0, atol=1e-7)


#: Periodic axes, and how a cube is deformed.
SHAPES = {
    "cubic": ((True, True, True), ISOTROPIC),
    "triclinic": ((True, True, True), [[1.0, 0.2, -0.1], [0.0, 1.0, 0.15], [0.1, 0.0, 1.1]]),
    "slab": ((True, True, False), [[1.0, 0.2, 0.0], [0.0, 1.1, 0.0], [0.0, 0.0, 1.0]]),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("accuracy", "bar"), [(1e-3, 2e-7), (1e-4, 2.8e-8), (1e-5, 5e-9)])
def test_mesh_that_changes_its_size(water_like, shape, accuracy, bar):
    """The energy hardly jumps, in units of the charges' interaction with themselves."""
    charges, positions, cell = water_like
    axes, deformation = SHAPES[shape]
    matrix = torch.tensor(deformation, dtype=torch.float64)
    positions, cell, pbc = positions @ matrix, cell @ matrix, torch.tensor([axes])
    ewald = Ewald(accuracy=accuracy, method="mesh")
    itself = ewald.norm_factor / (2.0 * math.pi) ** 1.5 * float(charges.square().sum())
    jumps = []
    for length in torch.linalg.vector_norm(cell[0], dim=1)[torch.tensor(axes)].tolist():
        # Where the mesh along this vector has as many points as it can.
        size = mesh_size(length / ewald.spacing)
        energies = [
            ewald(charges, scale * positions, scale * cell, pbc=pbc)[0].item()
            for scale in (size * ewald.spacing / length + step for step in (-1e-10, 1e-10))
        ]
        jumps.append(abs(energies[1] - energies[0]))
    assert 1e-12 * itself < max(jumps) < bar * itself
