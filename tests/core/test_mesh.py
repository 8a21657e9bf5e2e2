"""The particle mesh against the direct sum, its derivatives, and its memory."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from les import Ewald
from les.sums.bases.bspline import pieces
from les.sums.mesh import _inverse_factor, mesh_size
from les.sums.reciprocal.grid import kept_grid

#: Relative differences of energies and of forces from the direct sum with dl = 2 A that a
#: spacing of 0.45 A makes.
INTERPOLATION = {
    4: (1e-3, 6e-3),
    5: (6e-5, 5e-4),
    6: (1e-5, 1e-4),
    7: (2e-6, 2e-5),
    8: (4e-7, 3e-6),
}


def on_mesh(order=6, spacing=0.45, **options):
    return Ewald(method="mesh", spacing=spacing, order=order, **options)


@pytest.mark.parametrize("order", [4, 5, 6, 7, 8])
def test_direct_sum_in_all_orders(make_system, dtype, cutoff, order, forces, deviation):
    system = make_system("triclinic", 14, dtype, total=1.0)
    mesh, direct = on_mesh(order, cutoff=cutoff), Ewald(method="direct", cutoff=cutoff)
    energy, potential = mesh(*system, compute_potential=True)
    expected, expected_potential = direct(*system, compute_potential=True)
    bounds = INTERPOLATION[order]
    rounding = 0.0 if dtype == torch.float64 else 1e-5
    assert energy.dtype == potential.dtype == dtype
    assert deviation(energy, expected) < bounds[0] + rounding
    assert deviation(potential, expected_potential) < bounds[0] + rounding
    error = deviation(forces(mesh, system), forces(direct, system))
    assert error < bounds[1] + rounding
    assert error > bounds[1] / 100.0


@pytest.mark.parametrize("channels", [None, 1, 3])
@pytest.mark.parametrize("total", [0.0, 2.0], ids=["neutral", "charged"])
def test_direct_sum_in_all_cells(make_system, cell_kind, cutoff, channels, total, deviation):
    system = make_system(cell_kind, 12, channels=channels, total=total)
    mesh, direct = on_mesh(8, 0.33, cutoff=cutoff), Ewald(method="direct", cutoff=cutoff)
    results = []
    for ewald in (mesh, direct):
        leaves = [value.clone().requires_grad_() for value in system]
        energy, potential = ewald(*leaves, compute_potential=True)
        gradients = torch.autograd.grad(energy.sum(), leaves, create_graph=True)
        loss = sum(value.square().sum() for value in (*gradients, potential))
        results.append([energy, potential, *gradients, *torch.autograd.grad(loss, leaves)])
    for actual, expected in zip(*results, strict=True):
        assert actual.shape == expected.shape
        assert deviation(actual, expected) < 1e-5


def test_sharp_edge_of_a_commensurate_box(random_box):
    """k-points right on the sphere count, in a rotated frame as well."""
    charges, positions, _ = random_box(30)
    cell = 12.0 * torch.eye(3).double().unsqueeze(0)
    turn, _ = torch.linalg.qr(
        torch.randn(3, 3, generator=torch.Generator().manual_seed(0)).double()
    )
    for system in ((charges, positions, cell), (charges, positions @ turn, cell @ turn)):
        mesh, _ = on_mesh(8, 0.4, cutoff="sharp")(*system)
        direct, _ = Ewald(method="direct", cutoff="sharp")(*system)
        torch.testing.assert_close(mesh, direct, rtol=2e-6, atol=0.0)


def test_madelung_constant(unit_ewald):
    """Rock salt of narrow Gaussians, that do not overlap: 1.747564... per pair of ions."""
    places = torch.cartesian_prod(*[torch.arange(2)] * 3)
    charges = 1.0 - 2.0 * (places.sum(1) % 2).double()
    cell = 2.0 * torch.eye(3).double().unsqueeze(0)
    ewald = unit_ewald(sigma=0.1, dl=0.1, method="mesh", spacing=0.04, order=8)
    energy, _ = ewald(charges, places.double(), cell)
    assert energy.item() / 4.0 == pytest.approx(-1.747564594633182, rel=5e-7)


def test_finite_differences(make_system, cell_kind):
    """Forces and stress are derivatives of the mesh's own energy, up to rounding."""
    charges, positions, cell = make_system(cell_kind, 7, total=1.0)
    ewald = on_mesh(5, 0.8)
    strain = torch.zeros(3, 3).double().requires_grad_()
    leaf = positions.clone().requires_grad_()

    def energy(leaf, strain):
        deformation = torch.eye(3).double() + strain
        return ewald(charges, leaf @ deformation, cell @ deformation)[0].sum()

    gradients = torch.autograd.grad(energy(leaf, strain), [leaf, strain])
    generator = torch.Generator().manual_seed(0)
    for i, gradient in enumerate(gradients):
        direction = torch.randn(gradient.shape, generator=generator).double()
        step = [torch.zeros_like(positions), torch.zeros(3, 3).double()]
        step[i] = 1e-5 * direction
        ends = [energy(positions + s * step[0], s * step[1]) for s in (1.0, -1.0)]
        expected = (ends[0] - ends[1]) / 2e-5
        torch.testing.assert_close((gradient * direction).sum(), expected, rtol=1e-6, atol=1e-7)


def test_energy_is_differentiable_twice(make_system, check_gradients):
    charges, positions, cell = make_system("triclinic", 4, total=1.0)
    cell = cell / 2.0  # few k-points and a small mesh
    inputs = [value.clone().requires_grad_() for value in (charges, positions / 2.0, cell)]

    def function(charges, positions, cell):
        return on_mesh(7, 0.8)(charges, positions, cell, compute_potential=True)

    check_gradients(function, inputs, fast_mode=True)


@pytest.mark.parametrize("channels", [None, 2])
def test_batch_is_single(make_system, join, channels):
    """Meshes of equal and of different size, open and empty structures between them."""
    kinds = [("cubic", 5), ("open", 4), ("triclinic", 9), ("cubic", 0), ("cubic", 8)]
    kinds += [("rotated", 3), ("left_handed", 6)]
    systems = [make_system(kind, n, seed=i, channels=channels) for i, (kind, n) in enumerate(kinds)]
    ewald = on_mesh()
    leaves = [value.requires_grad_() for value in join(systems)[:3]]
    energy, potential = ewald(*leaves, join(systems).batch, compute_potential=True)
    gradients = torch.autograd.grad(energy.sum(), leaves[:2])
    start = 0
    for i, system in enumerate(systems):
        atoms = slice(start, start + len(system.positions))
        start = atoms.stop
        parts = [value.clone().requires_grad_() for value in system[:2]]
        alone, alone_potential = ewald(*parts, system.cell, compute_potential=True)
        torch.testing.assert_close(energy[i : i + 1], alone, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(potential[atoms], alone_potential, rtol=1e-10, atol=1e-10)
        if len(system.positions) > 0:
            expected = torch.autograd.grad(alone.sum(), parts)
            for gradient, value in zip(gradients, expected, strict=True):
                torch.testing.assert_close(gradient[atoms], value, rtol=1e-10, atol=1e-10)


def test_order_of_the_atoms(monkeypatch, random_box):
    """Sorting them by place, which only large structures do, is seen nowhere."""
    charges, positions, cell = random_box(50)
    results = []
    for threshold in (10**9, 1):
        monkeypatch.setattr("les.sums.mesh.SORTED_FROM", threshold)
        leaves = [value.clone().requires_grad_() for value in (charges, positions, cell)]
        energy, potential = on_mesh()(*leaves, compute_potential=True)
        results.append([energy, potential, *torch.autograd.grad(energy.sum(), leaves)])
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-11, atol=1e-11)


def test_lattice_translations(make_system, cell_kind, dtype, tolerance):
    charges, positions, cell = make_system(cell_kind, 9, dtype)
    moves = torch.randint(-20, 20, (9, 3), generator=torch.Generator().manual_seed(0)).to(dtype)
    energy, _ = on_mesh()(charges, positions, cell)
    moved, _ = on_mesh()(charges, positions + moves @ cell[0], cell)
    torch.testing.assert_close(moved, energy, rtol=10 * tolerance, atol=0.0)


@pytest.mark.parametrize("least", [1, 2, 7, 11, 13, 97, 121, 1001])
def test_mesh_sizes(least):
    size = mesh_size(least - 0.3)
    assert size >= least
    candidates = (n for n in itertools.count(2, 2) if n >= least and 210**20 % n == 0)
    assert size == next(candidates)


class LargestSum(TorchDispatchMode):
    """Bytes of all tensors that are alive, at their highest."""

    def __init__(self):
        super().__init__()
        self.alive, self.highest = {}, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, torch.Tensor):
                storage = value.untyped_storage()
                self.alive[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self.alive = {key: ref for key, ref in self.alive.items() if not ref[0].expired()}
        self.highest = max(self.highest, sum(size for _, size in self.alive.values()))
        return result


def test_memory_of_training_grows_with_the_number_of_atoms(monkeypatch, random_box):
    """Not with the number of pairs of atoms and mesh points, nor worse: the step of a training."""
    # So few atoms are taken all at once on a GPU.
    monkeypatch.setattr("les.sums.bases.splines.PAIRS_AT_A_TIME_ELSEWHERE", 2**17)
    peaks = []
    for n_atoms in (1000, 4000):
        charges, positions, cell = (value.requires_grad_() for value in random_box(n_atoms))
        with LargestSum() as memory:
            energy, _ = on_mesh(6, 0.55)(charges, positions, cell)
            gradient = torch.autograd.grad(energy.sum(), positions, create_graph=True)[0]
            torch.autograd.grad(gradient.square().sum(), (charges, positions, cell))
        peaks.append(memory.highest)
    assert peaks[1] - peaks[0] < 3000 * 4000  # 4 kB per atom; a pair takes 8 bytes, 216 of them
    assert peaks[1] < 4.5 * peaks[0]


@pytest.mark.parametrize("method", ["mesh", "direct"])
def test_training_after_inference(make_system, method):
    """Tables that are kept from one evaluation to the next serve both."""
    kept_grid.cache_clear()
    _inverse_factor.cache_clear()
    pieces.cache_clear()
    charges, positions, cell = make_system()
    with torch.inference_mode():
        expected = Ewald(method=method)(charges, positions, cell)[0].clone()
    leaf = cell.clone().requires_grad_()
    energy, _ = Ewald(method=method)(charges, positions, leaf)
    energy.sum().backward()
    torch.testing.assert_close(energy.detach(), expected.clone())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_atoms_just_below_the_end_of_the_cell(dtype, deviation):
    """Their place in the cell is rounded to 1; structures of a large batch stay apart."""
    generator = torch.Generator().manual_seed(0)
    n_structures, n_atoms = 4, 700
    positions = 20.0 * torch.rand(n_structures * n_atoms, 3, generator=generator).to(dtype)
    positions[::9] *= torch.tensor([-1e-9, 1.0, -1e-18]).to(dtype)
    charges = torch.randn(n_structures * n_atoms, generator=generator).to(dtype)
    cell = 20.0 * torch.eye(3).to(dtype).repeat(n_structures, 1, 1)
    batch = torch.arange(n_structures).repeat_interleave(n_atoms)
    mesh, direct = Ewald(method="mesh"), Ewald(method="direct")
    found = mesh(charges, positions, cell, batch)[0]
    assert deviation(found, direct(charges, positions, cell, batch)[0]) < 1e-5
