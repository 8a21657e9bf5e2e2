"""The long-range part that models with charges of their own take from the core."""

from __future__ import annotations

import pytest
import torch

from les import Ewald, Les, LESConfig, dipole_moments
from les.long_range import CaptureLimits, captured_long_range, long_range, summed_cells
from les.structures import Structures
from les.sums.reciprocal.lattice import grid_extent

EPSILON = 2.25
PBC = [[True, True, True], [False, True, True], [False, False, False], [True, True, False]]


@pytest.fixture
def structures():
    """Charges, positions, cells, batch index and periodic axes: a crystal, slabs, a molecule."""
    generator = torch.Generator().manual_seed(1)
    sizes = torch.tensor([7, 5, 6, 70])
    batch = torch.repeat_interleave(torch.arange(4), sizes)
    positions = 6.0 * torch.rand(len(batch), 3, generator=generator, dtype=torch.float64)
    cell = 6.0 * torch.eye(3, dtype=torch.float64) + torch.rand(4, 3, 3, generator=generator)
    cell[2] = 0.0
    charges = torch.randn(len(batch), generator=generator, dtype=torch.float64)
    return charges, positions, cell.contiguous(), batch, torch.tensor(PBC)


def evaluated(structures, **settings):
    config = LESConfig(epsilon_factor=EPSILON, **settings)
    ewald = Ewald(**config.sum_settings())
    charges, *others = structures
    return ewald, config, long_range(ewald, config, charges, Structures(*others))


@pytest.mark.parametrize("remove_mean", [True, False])
def test_what_follows_from_charges(structures, remove_mean):
    charges, positions, _, batch, _ = structures
    settings = {"remove_mean": remove_mean, "neutrality": "none"}
    ewald, _, found = evaluated(structures, **settings)
    energy, potential = ewald(*structures, True)
    torch.testing.assert_close(found.energy, energy)
    torch.testing.assert_close(found.atom_energies, 0.5 * charges * potential)
    torch.testing.assert_close(found.charges, 1.5 * charges)
    expected = dipole_moments(charges, positions, batch, 4, remove_mean, EPSILON)
    torch.testing.assert_close(found.dipole, expected, rtol=1e-13, atol=1e-13)
    column = (charges[:, None], *structures[1:])
    torch.testing.assert_close(evaluated(column, **settings)[2].dipole, expected)


def test_several_channels(structures):
    """They interact each with its own kind, and have no dipole."""
    charges, *others = structures
    channels = torch.stack([charges, charges.flip(0)], dim=1)
    parts = [evaluated((column, *others))[2] for column in channels.unbind(1)]
    found = evaluated((channels, *others))[2]
    assert found.dipole is None
    assert found.charges.shape == channels.shape
    for name in ("energy", "atom_energies"):
        torch.testing.assert_close(getattr(found, name), sum(getattr(x, name) for x in parts))


@pytest.mark.parametrize("neutrality", ["none", "shift"])
def test_les_gives_the_same(structures, neutrality):
    charges, positions, cell, batch, pbc = structures
    _, config, expected = evaluated(structures, neutrality=neutrality)
    les = Les(config)
    options = {"compute_atom_energies": True, "compute_dipole": True}
    found = les(positions, cell, latent_charges=charges, batch=batch, pbc=pbc, **options)
    for name, value in (
        ("E_lr", expected.energy),
        ("E_lr_atoms", expected.atom_energies),
        ("charges", expected.charges),
        ("dipole", expected.dipole),
    ):
        torch.testing.assert_close(found[name], value)
    assert les(positions, cell, latent_charges=charges, batch=batch, pbc=pbc)["dipole"] is None
    with pytest.raises(ValueError, match="`compute_dipole` needs `compute_energy`, got false"):
        les(positions, latent_charges=charges, compute_energy=False, compute_dipole=True)


def derivatives(found, leaves):
    weights = torch.linspace(0.5, 1.5, len(found.energy)).double()
    return torch.autograd.grad((weights * found.energy).sum(), leaves, allow_unused=True)


@pytest.mark.parametrize("open_too", [True, False])
def test_captured(structures, open_too):
    """Slabs among crystals and molecules, as in a graph, with derivatives."""
    charges, positions, cell, batch, pbc = structures
    if not open_too:
        kept = batch != 2
        charges, positions = charges[kept], positions[kept]
        batch, cell, pbc = batch[kept] - (batch[kept] == 3).long(), cell[[0, 1, 3]], pbc[[0, 1, 3]]
    leaves = [x.clone().requires_grad_() for x in (charges, positions, cell)]
    ewald, config, expected = evaluated((*leaves, batch, pbc))
    extent = grid_extent(summed_cells(ewald, Structures(positions, cell, batch, pbc)), ewald.dl)
    boundary = "mixed" if open_too else "periodic"
    limits = CaptureLimits(boundary, extent, slabs=True)
    found = captured_long_range(
        ewald, config, leaves[0], Structures(*leaves[1:], batch, pbc), limits
    )
    for name in ("energy", "atom_energies", "charges"):
        value = getattr(expected, name)
        torch.testing.assert_close(getattr(found, name), value, rtol=1e-10, atol=1e-10)
    assert found.dipole is None
    for actual, wanted in zip(derivatives(found, leaves), derivatives(expected, leaves)):
        torch.testing.assert_close(actual, wanted, rtol=1e-9, atol=1e-9)


def test_captured_slab_needs_its_grid(structures):
    """The cell that a slab is summed in is higher than its own."""
    charges, *others = structures
    atoms = Structures(*others)
    _, cell, _, pbc = atoms
    ewald = Ewald()
    summed = summed_cells(ewald, atoms)
    lengths = torch.linalg.vector_norm(summed[pbc.sum(dim=1) == 2], dim=-1)
    assert (lengths[:, 2] > 20.0).all()
    torch.testing.assert_close(summed[0], cell[0])
    extent = grid_extent(cell[:1], ewald.dl)
    limits = CaptureLimits("mixed", extent, slabs=True)
    with pytest.raises(RuntimeError, match="build it with a larger `max_cell`"):
        captured_long_range(ewald, LESConfig(), charges, atoms, limits)
