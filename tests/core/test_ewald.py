"""The periodic sum against independent evaluations, and its invariances."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from les import Ewald
from les.units import COULOMB_CONSTANT, NORM_FACTOR


def naive_energy(
    charges: Tensor, positions: Tensor, cell: Tensor, sigma: float, dl: float, cutoff: str
) -> float:
    """The documented sum, k-point by k-point and in float64, without the self-interaction."""
    charges, positions, cell = charges.double(), positions.double(), cell[0].double()
    charges = charges.view(len(positions), -1)
    volume = abs(float(torch.linalg.det(cell)))
    reciprocal = 2.0 * math.pi * torch.linalg.inv(cell).T
    k_max = 2.0 * math.pi / dl
    ranges = []
    for length in torch.linalg.norm(cell, dim=1).tolist():
        extent = math.ceil(length / dl) + 1
        ranges.append(range(-extent, extent + 1))
    energy = 0.0
    for n in itertools.product(*ranges):
        k = torch.tensor(n, dtype=torch.float64) @ reciprocal
        squared = float(k @ k)
        if n == (0, 0, 0) or squared > k_max**2:
            continue
        weight = 1.0
        if cutoff == "smooth" and squared > 0.64 * k_max**2:
            t = (squared / k_max**2 - 0.64) / 0.36
            weight = 1 - 10 * t**3 + 15 * t**4 - 6 * t**5
        phase = positions @ k
        structure_factor = float(
            (charges.T @ torch.cos(phase)).square().sum()
            + (charges.T @ torch.sin(phase)).square().sum()
        )
        energy += weight * math.exp(-(sigma**2) * squared / 2) / squared * structure_factor
    self_energy = float(charges.square().sum()) / (sigma * math.sqrt(2.0 * math.pi))
    return NORM_FACTOR / volume * energy - COULOMB_CONSTANT * self_energy


def lattice_energy(
    charges: Tensor, positions: Tensor, cell: Tensor, sigma: float, wide: float = 2.0
) -> float:
    """The infinite sum by Ewald's trick: wide Gaussians in k-space, the rest in real space.

    Leaving out k = 0 takes the mean of a kernel away. The difference of the kernels of widths
    ``sigma`` and ``wide`` has the integral 2 pi (wide^2 - sigma^2), which the sum over images
    contains and the background takes away.
    """
    energy = naive_energy(charges, positions, cell, wide, 1.4, "sharp") / COULOMB_CONSTANT
    energy += float(charges.square().sum()) / (wide * math.sqrt(2.0 * math.pi))
    separation = positions.unsqueeze(0) - positions.unsqueeze(1)
    products = torch.outer(charges, charges)
    for n in itertools.product(range(-3, 4), repeat=3):
        shifted = separation + torch.tensor(n, dtype=cell.dtype) @ cell[0]
        distance = shifted.norm(dim=-1).clamp(min=1e-12)
        kernel = torch.erf(distance / (math.sqrt(2) * sigma)) / distance
        kernel -= torch.erf(distance / (math.sqrt(2) * wide)) / distance
        energy += 0.5 * float((products * kernel).sum())
    volume = abs(float(torch.linalg.det(cell[0])))
    energy -= math.pi * (wide**2 - sigma**2) * float(charges.sum()) ** 2 / volume
    energy -= float(charges.square().sum()) / (sigma * math.sqrt(2.0 * math.pi))
    return COULOMB_CONSTANT * energy


@pytest.mark.parametrize(
    ("sigma", "dl", "channels", "total"),
    [(1.0, 2.0, None, 0.0), (1.0, 2.0, None, 3.0), (0.8, 1.7, 3, 1.0)],
    ids=["neutral", "charged", "channels"],
)
def test_sum_over_k(make_system, dtype, tolerance, cell_kind, cutoff, sigma, dl, channels, total):
    system = make_system(cell_kind, 12, dtype, channels=channels, total=total)
    energy, _ = Ewald(sigma, dl, cutoff=cutoff)(*system)
    assert energy.shape == (1,)
    assert energy.dtype == dtype
    expected = naive_energy(*system, sigma, dl, cutoff)
    assert energy.item() == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize("total", [0.0, 2.0], ids=["neutral", "charged"])
@pytest.mark.parametrize("kind", ["cubic", "triclinic"])
def test_converged_sum_is_the_lattice_sum(make_system, kind, cutoff, total):
    system = make_system(kind, 6, total=total)
    energy, _ = Ewald(1.0, 0.7, cutoff=cutoff)(*system)
    assert energy.item() == pytest.approx(lattice_energy(*system, 1.0), rel=1e-10)


def test_lone_charge_in_a_cubic_box(unit_ewald):
    """-2.8373 q^2 / 2L is the energy of a point charge with its images and background."""
    charge, length, sigma = 1.3, 8.0, 0.6
    charges = torch.tensor([charge], dtype=torch.float64)
    cell = length * torch.eye(3).double().unsqueeze(0)
    energy, _ = unit_ewald(sigma=sigma, dl=0.4)(charges, torch.zeros(1, 3).double(), cell)
    width = math.pi * sigma**2 * charge**2 / length**3
    expected = -2.837297479480619 * charge**2 / (2.0 * length) + width
    assert energy.item() == pytest.approx(expected, rel=1e-11)


def test_accuracy_of_dl(make_system, cutoff):
    """Relative errors of forces on random charges, as dl is made smaller (sigma = 1)."""
    charges, positions, cell = make_system("cubic", 80)
    forces = {}
    for dl in (0.7, 1.25, 1.5, 2.0):
        leaf = positions.clone().requires_grad_()
        energy, _ = Ewald(1.0, dl, cutoff=cutoff)(charges, leaf, cell)
        (forces[dl],) = torch.autograd.grad(energy, leaf)
    bounds = {"sharp": (6e-3, 1.5e-4, 4e-6), "smooth": (1.5e-2, 5e-4, 3e-5)}[cutoff]
    for dl, bound in zip((2.0, 1.5, 1.25), bounds, strict=True):
        error = (forces[dl] - forces[0.7]).norm() / forces[0.7].norm()
        assert bound / 10.0 < error < bound, dl


def test_self_interaction(make_system, cutoff):
    system = make_system(channels=2)
    without, potential_without = Ewald(1.2, cutoff=cutoff)(*system, compute_potential=True)
    ewald = Ewald(1.2, cutoff=cutoff, remove_self_interaction=False)
    with_self, potential_with = ewald(*system, compute_potential=True)
    unit = COULOMB_CONSTANT / (1.2 * math.sqrt(2.0 * math.pi))
    difference = with_self - without
    torch.testing.assert_close(difference, unit * system.charges.square().sum().view(1))
    torch.testing.assert_close(potential_with - potential_without, 2.0 * unit * system.charges)


@pytest.mark.parametrize("kind", ["triclinic", "open"])
def test_channels_add_up(make_system, kind):
    charges, positions, cell = make_system(kind, channels=3)
    energy, potential = Ewald()(charges, positions, cell, compute_potential=True)
    assert potential.shape == charges.shape
    alone = [Ewald()(q, positions, cell, compute_potential=True) for q in charges.unbind(1)]
    torch.testing.assert_close(energy, sum(part for part, _ in alone))
    torch.testing.assert_close(potential, torch.stack([phi for _, phi in alone], dim=1))


@pytest.mark.parametrize("repeats", [(2, 1, 1), (1, 3, 1), (2, 2, 2)])
@pytest.mark.parametrize("total", [0.0, 1.5], ids=["neutral", "charged"])
def test_supercell_is_extensive(make_system, cutoff, repeats, total):
    charges, positions, cell = make_system("triclinic", 5, total=total)
    images = [torch.tensor(n).double() @ cell[0] for n in itertools.product(*map(range, repeats))]
    ewald = Ewald(cutoff=cutoff)
    energy, _ = ewald(charges, positions, cell)
    large, _ = ewald(
        charges.repeat(len(images)),
        torch.cat([positions + image for image in images]),
        cell * torch.tensor(repeats).view(1, 3, 1),
    )
    torch.testing.assert_close(large, energy * len(images), rtol=1e-11, atol=0.0)


@pytest.mark.parametrize("kind", ["triclinic", "open"])
def test_translation_rotation_permutation(make_system, rotation, dtype, tolerance, cutoff, kind):
    system = make_system(kind, 9, dtype, total=1.0)
    turn = rotation(3).to(dtype)
    order = torch.randperm(9)
    ewald = Ewald(cutoff=cutoff)
    energy, potential = ewald(*system, compute_potential=True)
    charges, positions, cell = system
    same = [
        (charges, positions + torch.tensor([3.0, -1.7, 22.0], dtype=dtype), cell),
        (charges, positions @ turn, cell @ turn),
        (-charges, -positions, cell),
    ]
    for arguments in same:
        torch.testing.assert_close(ewald(*arguments)[0], energy, rtol=tolerance, atol=0.0)
    permuted, permuted_potential = ewald(
        charges[order], positions[order], cell, compute_potential=True
    )
    torch.testing.assert_close(permuted, energy, rtol=tolerance, atol=0.0)
    scale = potential.abs().max().item()
    torch.testing.assert_close(
        permuted_potential, potential[order], rtol=0.0, atol=tolerance * scale
    )


def test_cell_vectors_in_any_order(make_system, cutoff):
    charges, positions, cell = make_system("triclinic")
    energies = [
        Ewald(cutoff=cutoff)(charges, positions, cell[:, list(order)])[0]
        for order in itertools.permutations(range(3))
    ]
    torch.testing.assert_close(torch.cat(energies), energies[0].repeat(6), rtol=1e-11, atol=0.0)


def test_atoms_outside_the_cell(dtype, tolerance):
    """Positions that are exact in binary stay so 1000 cells away: nothing may be lost."""
    cell = torch.diag(torch.tensor([8.0, 16.0, 8.0], dtype=dtype)).unsqueeze(0)
    positions = torch.randint(0, 512, (12, 3)).to(dtype) / 64.0
    charges = torch.randn(12, dtype=dtype)
    away = torch.randint(-1000, 1000, (12, 3)).to(dtype) @ cell[0]
    inside, _ = Ewald()(charges, positions, cell)
    outside, _ = Ewald()(charges, positions + away, cell)
    torch.testing.assert_close(outside, inside, rtol=tolerance, atol=0.0)


def test_large_box_is_open(make_system):
    """Images of a neutral molecule add -2 pi p^2 / 3V, and less than that in higher order."""
    charges, positions, open_cell = make_system("open", 6)
    length = 48.0
    box = length * torch.eye(3).double().unsqueeze(0)
    ewald = Ewald(sigma=1.0, dl=1.0)
    vacuum, _ = ewald(charges, positions, open_cell)
    periodic, _ = ewald(charges, positions, box)
    dipole = charges @ positions
    images = -2.0 * math.pi / 3.0 * COULOMB_CONSTANT * dipole.square().sum() / length**3
    assert abs(images) > 1e-4
    assert (periodic - vacuum).item() == pytest.approx(images.item(), rel=0.02)


def test_box_commensurate_with_dl(make_system, rotation, dtype, tolerance):
    """k-points right on the sphere of the sharp cutoff count in every orientation."""
    charges, positions, _ = make_system("cubic", 12, dtype)
    cell = 10.0 * torch.eye(3, dtype=dtype).unsqueeze(0)
    turns = [rotation(seed).to(dtype) for seed in range(12)]
    ewald = Ewald(dl=2.0, cutoff="sharp")
    expected = naive_energy(charges, positions, cell, 1.0, 2.0 * (1 - 1e-9), "sharp")
    energies = [ewald(charges, positions @ turn, cell @ turn)[0].item() for turn in turns]
    assert energies == pytest.approx([expected] * len(turns), rel=tolerance)


def test_what_is_periodic(make_system):
    """The argument pbc decides; without it, the volume of the cell, of either handedness."""
    charges, positions, cell = make_system("left_handed")
    nothing = torch.zeros_like(cell)
    yes, no = torch.tensor([[True] * 3]), torch.tensor([[False] * 3])
    ewald = Ewald()
    periodic, vacuum = (ewald(charges, positions, value)[0] for value in (cell, nothing))
    assert abs(periodic - vacuum) > 1e-2
    flat = torch.tensor([[[10.0, 0, 0], [0, 10.0, 0], [0, 0, 0]]]).double()
    for case, axes, expected in (
        (cell, yes, periodic), (cell, no, vacuum), (nothing, no, vacuum), (flat, None, vacuum)
    ):  # fmt: skip
        energy = ewald(charges, positions, case, pbc=axes)[0]
        torch.testing.assert_close(energy, expected, rtol=1e-13, atol=0.0)


def test_norm_factor_scales_the_energy(make_system):
    for kind in ("cubic", "open"):
        system = make_system(kind)
        old, today = Ewald(norm_factor=90.0474)(*system)[0], Ewald()(*system)[0]
        torch.testing.assert_close(old / today, torch.tensor([90.0474 / NORM_FACTOR]).double())


def test_representation_names_the_settings():
    text = repr(Ewald(sigma=1.5, cutoff="sharp"))
    assert "sigma=1.5" in text
    assert "cutoff='sharp'" in text
