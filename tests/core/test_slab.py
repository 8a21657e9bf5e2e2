"""Two periodic axes: against an explicit two-dimensional sum, and invariances."""

from __future__ import annotations

import math

import pytest
import torch

from les import Ewald, born_effective_charges

#: Rows: two vectors of the plane, and one along the open axis that must not matter.
CELLS = {
    "rectangular": [[7.0, 0.0, 0.0], [0.0, 8.2, 0.0], [0.0, 0.0, 25.0]],
    "oblique": [[7.1, 0.3, -0.5], [1.9, 6.8, 0.7], [1.0, -2.0, 30.0]],
}


@pytest.fixture
def axes():
    """Two periodic ones."""
    return torch.tensor([[True, True, False]])


@pytest.fixture
def make_slab():
    """Makes charges within about 5 A of a plane; ``total`` is their sum."""

    def make(kind="oblique", n_atoms=7, total=0.0, dtype=torch.float64):
        generator = torch.Generator().manual_seed(11)
        cell = torch.tensor(CELLS[kind], dtype=torch.float64)
        fractional = torch.rand(n_atoms, 3, dtype=torch.float64, generator=generator)
        fractional[:, 2] *= 0.18
        charges = torch.randn(n_atoms, dtype=torch.float64, generator=generator)
        charges = charges - charges.mean() + total / n_atoms
        return charges.to(dtype), (fractional @ cell).to(dtype), cell.unsqueeze(0).to(dtype)

    return make


def explicit_sum(charges, positions, cell, sigma):
    r"""Energy with a Coulomb constant of 1, as a sum over reciprocal vectors h of the plane.

    pi/A sum_ij q_i q_j { sum_h cos(h.r)/(2h) [e^{hz} erfc(az + h/2a) + e^{-hz} erfc(-az + h/2a)]
    - e^{-a^2 z^2}/(a sqrt(pi)) - z erf(az) } with a = 1/(sqrt(2) sigma), less the charges' own
    interaction (D. E. Parry, Surf. Sci. 49, 433 (1975)).
    """
    first, second = cell[0, 0], cell[0, 1]
    normal = torch.linalg.cross(first, second)
    area = torch.linalg.vector_norm(normal)
    normal = normal / area
    a = 1.0 / (math.sqrt(2.0) * sigma)
    in_plane = [
        2.0 * math.pi * torch.linalg.cross(second, normal) / area,
        2.0 * math.pi * torch.linalg.cross(normal, first) / area,
    ]
    separation = positions[:, None] - positions[None]
    z = separation @ normal
    kernel = -torch.exp(-((a * z) ** 2)) / (a * math.sqrt(math.pi)) - z * torch.erf(a * z)
    for m in range(-14, 15):
        for n in range(-14, 15):
            if m == n == 0:
                continue
            h = m * in_plane[0] + n * in_plane[1]
            length = torch.linalg.vector_norm(h)
            ends = [
                torch.exp(s * length * z) * torch.erfc(s * a * z + length / (2.0 * a))
                for s in (1.0, -1.0)
            ]
            kernel = kernel + torch.cos(separation @ h) / (2.0 * length) * sum(ends)
    energy = math.pi / area * (charges[:, None] * charges[None] * kernel).sum()
    return energy - (charges**2).sum() / (sigma * math.sqrt(2.0 * math.pi))


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("total", [0.0, 1.3], ids=["neutral", "charged"])
@pytest.mark.parametrize("sigma", [0.8, 1.3])
def test_explicit_sum(make_slab, unit_ewald, kind, total, sigma, axes):
    system = make_slab(kind, total=total)
    energy, potential = unit_ewald(sigma=sigma, dl=0.9 * sigma)(*system, None, axes, True)
    expected = explicit_sum(*system, sigma)
    assert energy.item() == pytest.approx(expected.item(), rel=1e-8)
    assert 0.5 * (system[0] * potential).sum().item() == pytest.approx(energy.item(), rel=1e-12)


@pytest.mark.parametrize("cutoff", ["smooth", "sharp"])
@pytest.mark.parametrize("dl", [1.0, 2.0])
def test_neither_place_nor_vacuum_matters(make_slab, cutoff, dl, axes):
    charges, positions, cell = make_slab()
    ewald = Ewald(cutoff=cutoff, dl=dl)
    expected = ewald(charges, positions, cell, None, axes)[0].item()
    for shift in (0.3, 7.0, -1234.0):
        moved = positions + shift * cell[:, 2] / cell[:, 2].norm()
        energy = ewald(charges, moved, cell, None, axes)[0].item()
        assert energy == pytest.approx(expected, rel=1e-8)
    for vacuum in ([0.0, 0.0, 0.0], [0.0, 0.0, 3.0], [5.0, 5.0, 500.0], [0.0, 0.0, -20.0]):
        other = cell.clone()
        other[0, 2] = torch.tensor(vacuum)
        energy = ewald(charges, positions, other, None, axes)[0].item()
        assert energy == pytest.approx(expected, rel=1e-12)


def test_three_periodic_axes_and_much_vacuum(make_slab, axes):
    """Without a dipole along the normal, images along the open axis do not matter."""
    charges, positions, cell = make_slab("rectangular")
    mirrored = positions * torch.tensor([1.0, 1.0, -1.0]).double()
    charges, positions = charges.repeat(2), torch.cat([positions, mirrored])
    ewald = Ewald(dl=1.0)
    expected = ewald(charges, positions, cell, None, axes)[0].item()
    cell[0, 2, 2] = 150.0
    assert ewald(charges, positions, cell)[0].item() == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("handedness", [1, -1])
def test_any_axis_is_open(make_slab, rotation, axis, handedness, axes):
    charges, positions, cell = make_slab()
    expected = Ewald()(charges, positions, cell, None, axes)[0]
    turn = rotation()
    rows = [0, 1] if handedness == 1 else [1, 0]
    rows.insert(axis, 2)
    pbc = torch.ones(1, 3, dtype=torch.bool)
    pbc[0, axis] = False
    energy = Ewald()(charges, positions @ turn, cell[:, rows] @ turn, None, pbc)[0]
    torch.testing.assert_close(energy, expected, rtol=1e-10, atol=0.0)


def test_derivatives(make_slab, check_gradients, axes):
    """Forces and strain against finite differences, and second derivatives."""
    charges, positions, cell = make_slab(n_atoms=4, total=0.5)
    ewald = Ewald()

    def energy(q, r, strain):
        deformation = torch.eye(3, dtype=torch.float64) + strain
        return ewald(q, r @ deformation, cell @ deformation, None, axes)[0]

    leaves = [charges, positions, torch.zeros(3, 3, dtype=torch.float64)]
    leaves = [leaf.clone().requires_grad_() for leaf in leaves]
    check_gradients(energy, leaves, eps=1e-5, atol=1e-6)
    gradients = torch.autograd.grad(energy(*leaves).sum(), leaves)
    torch.testing.assert_close(gradients[1].sum(0), torch.zeros(3).double(), rtol=0, atol=1e-9)
    torch.testing.assert_close(gradients[2], gradients[2].T, rtol=0, atol=1e-9)


def test_all_boundary_conditions_in_one_batch(make_slab, make_system, join, dtype, tolerance):
    systems = [
        make_slab("oblique", 9, dtype=dtype),
        make_system("triclinic", 12, dtype=dtype),
        make_system("open", 5, dtype=dtype),
        make_slab("rectangular", 4, dtype=dtype),
    ]
    pbc = torch.tensor([[True, True, False], [True] * 3, [False] * 3, [True, True, False]])
    ewald = Ewald()
    energy, potential = ewald(*join(systems), pbc, True)
    alone = [ewald(*system, None, which[None], True) for system, which in zip(systems, pbc)]
    expected = torch.cat([x for x, _ in alone]), torch.cat([x for _, x in alone])
    torch.testing.assert_close(energy, expected[0], rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(potential, expected[1], rtol=tolerance, atol=10 * tolerance)
    scripted, _ = torch.jit.script(ewald)(*join(systems), pbc)
    torch.testing.assert_close(scripted, energy, rtol=tolerance, atol=tolerance)


def test_empty_slab(make_slab, axes):
    charges, positions, cell = make_slab()
    batch = torch.ones(len(charges), dtype=torch.long)
    energy, _ = Ewald()(charges, positions, cell.repeat(2, 1, 1), batch, axes.repeat(2, 1))
    assert energy[0] == 0.0
    torch.testing.assert_close(energy[1:], Ewald()(charges, positions, cell, None, axes)[0])


def test_response_along_the_normal(make_slab, rotation, axes):
    """Fixed charges respond with themselves; in the plane as in a periodic cell."""
    charges, positions, cell = make_slab("rectangular")
    turn = rotation()
    leaf = (positions @ turn).requires_grad_()
    turned = cell @ turn
    bec = born_effective_charges(charges, leaf, turned, pbc=axes, method="phase")
    as_crystal = born_effective_charges(charges, leaf, turned, method="phase")
    bec, as_crystal = turn @ bec @ turn.T, turn @ as_crystal @ turn.T
    torch.testing.assert_close(bec[:, 2, 2], charges, rtol=0, atol=1e-12)
    torch.testing.assert_close(bec[:, :2, :2], as_crystal[:, :2, :2], rtol=0, atol=1e-12)
    assert bec[:, 2, :2].abs().max() < 1e-12


@pytest.mark.parametrize(
    ("pbc", "rows", "message"),
    [
        ([True, False, False], [0, 1, 2], r"`pbc` must have none, two or three axes true.*wires"),
        ([True, True, False], [0, 0, 2], "`cell` must span an area along the axes where `pbc`"),
        ([False, True, True], [2, 1, 1], "for structure 0"),
    ],
)
def test_what_is_refused(make_slab, pbc, rows, message):
    charges, positions, cell = make_slab()
    with pytest.raises(ValueError, match=message):
        Ewald()(charges, positions, cell[:, rows], None, torch.tensor([pbc]))


@pytest.mark.parametrize("cutoff", ["smooth", "sharp"])
def test_on_a_mesh(make_slab, cutoff):
    """As the direct sum, with derivatives, and with other structures in the batch."""
    slab, other = make_slab("oblique", 30, total=0.7), make_slab("rectangular", 20)
    arguments = [torch.cat(pair) for pair in zip(slab, other, strict=True)]
    arguments = [value.clone().requires_grad_() for value in arguments]
    batch = torch.tensor([0] * 30 + [1] * 20)
    pbc = torch.tensor([[True, True, False], [True] * 3])
    results = []
    for method in ("direct", "mesh"):
        ewald = Ewald(method=method, cutoff=cutoff, spacing=0.3, order=8)
        energy, potential = ewald(*arguments, batch, pbc, True)
        gradients = torch.autograd.grad(energy.sum(), arguments)
        results.append([energy, potential, *gradients])
    for direct, mesh in zip(*results, strict=True):
        scale = direct.detach().abs().max().item()
        torch.testing.assert_close(mesh, direct, rtol=0.0, atol=1e-5 * scale)


@pytest.mark.parametrize("extent", [5.0, 20.0])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_single_precision(rotation, extent, seed, axes):
    """In frames where nothing is along an axis of coordinates."""
    generator = torch.Generator().manual_seed(seed)
    turn = rotation(seed)
    cell = torch.tensor([[7.1, 0.3, 0.0], [1.9, 6.8, 0.0], [0.0, 0.0, extent]]).double()
    positions = torch.rand(16, 3, generator=generator).double() @ cell @ turn
    charges = torch.randn(16, generator=generator).double()
    charges, cell = charges - charges.mean(), (cell @ turn).unsqueeze(0)
    gradients = []
    for dtype in (torch.float64, torch.float32):
        leaves = [x.to(dtype).requires_grad_() for x in (charges, positions, cell)]
        gradients.append(torch.autograd.grad(Ewald()(*leaves, None, axes)[0], leaves))
    for exact, single in zip(*gradients, strict=True):
        scale = exact.abs().max().item()
        torch.testing.assert_close(single.double(), exact, rtol=0.0, atol=2e-5 * scale)


@pytest.mark.parametrize("method", ["direct", "mesh"])
def test_energy_is_continuous(make_slab, method, axes):
    """While the topmost atom moves, which changes the height that is summed in."""
    charges, positions, cell = make_slab("rectangular")
    top = int(positions[:, 2].argmax())
    ewald = Ewald(method=method)
    step = 0.01
    energies, forces = [], []
    for _ in range(160):
        leaf = positions.clone().requires_grad_()
        energy, _ = ewald(charges, leaf, cell, None, axes)
        (gradient,) = torch.autograd.grad(energy, leaf)
        energies.append(energy.item())
        forces.append(gradient[top, 2].item())
        positions[top, 2] += step
    change = torch.tensor(energies).diff()
    expected = step * 0.5 * (torch.tensor(forces)[1:] + torch.tensor(forces)[:-1])
    assert expected.abs().max() > 1e-3
    # The trapezoidal rule; a jump would be seen.
    torch.testing.assert_close(change, expected, rtol=0.0, atol=2e-5)
