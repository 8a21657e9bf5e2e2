"""The particle mesh against the direct sum, its derivatives, and its choice of settings."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from les import Ewald, Les, LESConfig
from les.accuracy import MESH_ACCURACY, Resolution, crossover, resolve
from les.bspline import pieces
from les.direct import reciprocal_sum
from les.mesh import _inverse_factor, mesh_size, mesh_sum
from les.spreading import MeshShape, gather, spread

#: Relative differences of energies and of forces from the direct sum with dl = 2 A that a
#: spacing of 0.45 A makes.
INTERPOLATION = {
    4: (1e-3, 6e-3),
    5: (6e-5, 5e-4),
    6: (1e-5, 1e-4),
    7: (2e-6, 2e-5),
    8: (4e-7, 3e-6),
}


def random_box(n_atoms=160, seed=0):
    """Charges that know nothing of one another."""
    generator = torch.Generator().manual_seed(seed)
    edge = (n_atoms / 0.1) ** (1.0 / 3.0)
    charges = torch.randn(n_atoms, generator=generator).double()
    positions = edge * torch.rand(n_atoms, 3, generator=generator).double()
    return charges - charges.mean(), positions, edge * torch.eye(3).double().unsqueeze(0)


def water_box(n=4):
    """Molecules of water at its density, displaced and turned at random."""
    generator = torch.Generator().manual_seed(0)
    places = 3.104 * torch.cartesian_prod(*[torch.arange(n)] * 3).double()
    places += 0.3 * torch.randn(n**3, 3, generator=generator).double()
    turns, _ = torch.linalg.qr(torch.randn(n**3, 3, 3, generator=generator).double())
    half = math.radians(104.5 / 2.0)
    molecule = [
        [0, 0, 0],
        [math.sin(half), 0, math.cos(half)],
        [-math.sin(half), 0, math.cos(half)],
    ]
    positions = places.unsqueeze(1) + 0.96 * torch.tensor(molecule).double() @ turns
    charges = torch.tensor([-0.8, 0.4, 0.4]).double().repeat(n**3)
    return charges, positions.flatten(0, 1), 3.104 * n * torch.eye(3).double().unsqueeze(0)


def rock_salt(n=3):
    """Thermally displaced ions of charge 1."""
    generator = torch.Generator().manual_seed(1)
    places = torch.cartesian_prod(*[torch.arange(2 * n)] * 3)
    charges = 1.0 - 2.0 * (places.sum(1) % 2).double()
    positions = 2.82 * places + 0.1 * torch.randn(places.shape, generator=generator).double()
    return charges, positions.double(), 5.64 * n * torch.eye(3).double().unsqueeze(0)


SYSTEMS = {"random": random_box, "water": water_box, "salt": rock_salt}


def forces(ewald, system):
    charges, positions, cell = system
    leaf = positions.clone().requires_grad_()
    return torch.autograd.grad(ewald(charges, leaf, cell)[0].sum(), leaf)[0]


def deviation(actual, expected):
    """Relative root mean square."""
    return ((actual - expected).norm() / expected.norm()).item()


def on_mesh(order=6, spacing=0.45, **options):
    return Ewald(method="mesh", spacing=spacing, order=order, **options)


@pytest.mark.parametrize("order", [4, 5, 6, 7, 8])
def test_direct_sum_in_all_orders(make_system, dtype, cutoff, order):
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
def test_direct_sum_in_all_cells(make_system, cell_kind, cutoff, channels, total):
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


def test_sharp_edge_of_a_commensurate_box():
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


DERIVATIVES = [((0, 0, 0),), ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))]


@pytest.mark.parametrize("derivatives", DERIVATIVES, ids=["plain", "gradient"])
def test_splines_are_differentiable_twice(derivatives):
    generator = torch.Generator().manual_seed(0)
    shape = MeshShape(2, 4, 6, 2)  # an axis is shorter than the spline
    owner = torch.tensor([0, 0, 1])
    fractional = (2.0 * torch.rand(3, 3, generator=generator).double() - 1.0).requires_grad_()
    values = torch.randn(len(derivatives), 2, 3, generator=generator).double().requires_grad_()
    mesh = torch.randn(2, *shape, generator=generator).double().requires_grad_()

    def spread_(values, fractional):
        return spread(values, fractional, owner, shape, 6, derivatives)

    def gather_(mesh, fractional):
        return gather(mesh, fractional, owner, 6, derivatives)

    for function, inputs in ((spread_, (values, fractional)), (gather_, (mesh, fractional))):
        assert torch.autograd.gradcheck(function, inputs, fast_mode=True)
        assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)
    torch.testing.assert_close(
        (mesh * spread_(values, fractional)).sum(), (values * gather_(mesh, fractional)).sum()
    )


def test_splines_against_their_definition():
    """Differences of truncated powers, exact with fractions; one atom on a long axis."""
    order, size, place = 6, 20, Fraction(37, 100)
    x = place * size
    fractional = torch.tensor([[float(place)], [0.0], [0.0]], dtype=torch.float64)
    shape = MeshShape(1, size, 8, 8)
    mesh = spread(torch.ones(1, 1, 1).double(), fractional, None, shape, order)[0, 0]
    assert mesh.sum().item() == pytest.approx(1.0, rel=1e-14)
    for m in range(size):
        powers = [
            (-1) ** k * math.comb(order, k) * max(x - m - k, Fraction(0)) ** (order - 1)
            for k in range(order + 1)
        ]
        expected = float(sum(powers) / math.factorial(order - 1))
        assert mesh[m].sum().item() == pytest.approx(expected, abs=1e-13)


def test_energy_is_differentiable_twice(make_system):
    charges, positions, cell = make_system("triclinic", 4, total=1.0)
    cell = cell / 2.0  # few k-points and a small mesh
    inputs = [value.clone().requires_grad_() for value in (charges, positions / 2.0, cell)]

    def function(charges, positions, cell):
        return on_mesh(7, 0.8)(charges, positions, cell, compute_potential=True)

    assert torch.autograd.gradcheck(function, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)


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


def test_order_of_the_atoms(monkeypatch):
    """Sorting them by place, which only large structures do, is seen nowhere."""
    charges, positions, cell = random_box(50)
    results = []
    for threshold in (10**9, 1):
        monkeypatch.setattr("les.mesh.SORTED_FROM", threshold)
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


@pytest.mark.parametrize("kind", list(SYSTEMS))
@pytest.mark.parametrize("accuracy", [1e-3, 1e-4, 1e-5, 1e-6])
def test_accuracy_is_kept_and_not_wasted(kind, accuracy):
    system = SYSTEMS[kind]()
    converged = forces(Ewald(dl=0.6, method="direct"), system)
    error = deviation(forces(Ewald(method="mesh", accuracy=accuracy), system), converged)
    assert accuracy / 22.0 < error < accuracy


@pytest.mark.parametrize("kind", list(SYSTEMS))
def test_accuracy_with_a_sharp_cutoff(kind):
    """A reflection of a crystal may be just outside of the sphere."""
    system = SYSTEMS[kind]()
    converged = forces(Ewald(dl=0.6, method="direct"), system)
    options = {"accuracy": 1e-4, "cutoff": "sharp"}
    error = deviation(forces(Ewald(method="mesh", **options), system), converged)
    assert error < (2e-4 if kind == "salt" else 1e-4)


@pytest.mark.parametrize("kind", list(SYSTEMS))
@pytest.mark.parametrize("dl", [2.0, 1.5])
def test_mesh_without_accuracy_is_the_direct_sum(kind, dl, cutoff):
    system = SYSTEMS[kind]()
    mesh, direct = (Ewald(dl=dl, cutoff=cutoff, method=m) for m in ("mesh", "direct"))
    assert mesh.dl == dl
    assert deviation(forces(mesh, system), forces(direct, system)) < MESH_ACCURACY
    assert deviation(mesh(*system)[0], direct(*system)[0]) < MESH_ACCURACY


def test_settings_scale_with_sigma():
    one, two = resolve(1.0, accuracy=1e-4), resolve(2.0, accuracy=1e-4)
    assert two.dl == pytest.approx(2.0 * one.dl)
    assert two.spacing == pytest.approx(2.0 * one.spacing, rel=0.25)
    assert resolve(1.0, accuracy=1e-5).dl < one.dl


def test_given_dl_is_kept_where_it_is_fine_enough():
    assert resolve(1.0, 1.1, accuracy=1e-4).dl == 1.1
    with pytest.raises(ValueError, match=r"`dl` must be at most 1\.\d+ A for `accuracy` = 0.0001"):
        resolve(1.0, 1.4, accuracy=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spacing": 0.5, "order": 3}, r"`order` must be one of \(4, 5, 6, 7, 8\), got 3"),
        ({"spacing": 0.5, "order": 9}, "`order` must be one of"),
        ({"spacing": 0.5, "order": True}, "`order` must be one of"),
        ({"spacing": 0.0, "order": 6}, "`spacing` must be positive and finite, got 0.0"),
        ({"spacing": math.nan, "order": 6}, "`spacing` must be positive"),
        ({"spacing": "fine", "order": 6}, "`spacing` must be positive"),
        ({"spacing": 1.0, "order": 6}, "`spacing` must be below dl / 2 = 1 A"),
        ({"spacing": 0.5}, "`spacing` and `order` belong together"),
        ({"order": 6}, "`spacing` and `order` belong together"),
        ({"accuracy": 0.0}, "`accuracy` must be a number between 1e-09 and 0.1, got 0.0"),
        ({"accuracy": "high"}, "`accuracy` must be a number between"),
        ({"accuracy": 1e-4, "spacing": 0.5, "order": 6}, "follow from `accuracy`"),
        ({"method": "wave"}, "`method` must be one of .*'mesh'.*, got 'wave'"),
    ],
)
def test_bad_settings(options, message):
    for kind in (Ewald, LESConfig):
        with pytest.raises(ValueError, match=message):
            kind(**options)


def test_auto_takes_what_is_faster(monkeypatch, make_system, join):
    """By the number of atoms alone, so that a simulation has one method all along."""
    used = []

    def record(charges, *arguments):
        used.append(len(charges))
        return mesh_sum(charges, *arguments)

    monkeypatch.setattr("les.ewald.mesh_sum", record)
    monkeypatch.setattr("les.accuracy.DIRECT_COST_CPU", 700.0)
    monkeypatch.setattr("les.accuracy.FEWEST_ATOMS", 1)
    ewald = Ewald()
    least = crossover(Resolution(ewald.dl, ewald.spacing, ewald.order), cuda=False)
    assert 3 < least < 30
    for kind, size in (("cubic", least - 1), ("open", least)):
        ewald(*make_system(kind, size))
    assert used == []
    ewald(*make_system("triclinic", least))
    assert used == [least]
    sizes = [("cubic", least - 1), ("open", least), ("rotated", least + 1), ("cubic", least)]
    systems = [make_system(kind, size, seed=i) for i, (kind, size) in enumerate(sizes)]
    energy, potential = ewald(*join(systems), compute_potential=True)
    assert used == [least, 2 * least + 1]
    expected, expected_potential = Ewald(method="direct")(*join(systems), compute_potential=True)
    assert deviation(energy, expected) < MESH_ACCURACY
    assert deviation(potential, expected_potential) < MESH_ACCURACY


def test_auto_in_torchscript_is_direct(monkeypatch, make_system):
    monkeypatch.setattr("les.accuracy.FEWEST_ATOMS", 1)
    monkeypatch.setattr("les.accuracy.DIRECT_COST_CPU", 1e9)
    system = make_system(n_atoms=20)
    scripted, _ = torch.jit.script(Ewald())(*system)
    expected, _ = Ewald(method="direct")(*system)
    torch.testing.assert_close(scripted, expected, rtol=1e-13, atol=0.0)
    with pytest.raises(torch.jit.Error, match="`method` must be 'auto' or 'direct' in TorchScript"):
        torch.jit.script(Ewald(method="mesh"))(*system)


def test_settings_travel():
    config = LESConfig(method="mesh", accuracy=1e-4)
    host, other = Les(config), Les()
    other.load_state_dict(host.state_dict())
    assert other.config() == config
    assert repr(other.ewald) == repr(host.ewald)
    # What accuracy means may change; what a model was trained with may not.
    assert (config.accuracy, config.dl) == (None, other.ewald.dl)
    assert config.dl == pytest.approx(1.192, abs=1e-3)
    explicit = Les(LESConfig(spacing=0.7, order=5)).ewald
    assert (explicit.spacing, explicit.order) == (0.7, 5)


def test_pickles_without_a_mesh():
    ewald = Ewald(sigma=1.2, cutoff="sharp")
    state = {k: v for k, v in ewald.__dict__.items() if k not in ("spacing", "order")}
    old = Ewald.__new__(Ewald)
    old.__setstate__(state)
    assert repr(old) == repr(ewald)


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


def test_memory_of_training_grows_with_the_number_of_atoms():
    """Not with the number of pairs of atoms and mesh points, nor worse: the step of a training."""
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


def test_training_after_inference(make_system):
    """Tables that are kept from one evaluation to the next serve both."""
    _inverse_factor.cache_clear()
    pieces.cache_clear()
    charges, positions, cell = make_system()
    with torch.inference_mode():
        expected = on_mesh()(charges, positions, cell)[0].clone()
    leaf = cell.clone().requires_grad_()
    energy, _ = on_mesh()(charges, positions, leaf)
    energy.sum().backward()
    torch.testing.assert_close(energy.detach(), expected.clone())


def test_core_of_the_sum_without_a_batch(make_system):
    charges, positions, cell = make_system()
    resolution = resolve(1.0)
    mesh, potential = mesh_sum(
        charges[:, None], positions, cell, None, 1.0, resolution, True, False
    )
    direct, _ = reciprocal_sum(charges[None, :, None], positions[None], cell, 1.0, 2.0, True, False)
    assert potential is None
    torch.testing.assert_close(mesh, direct, rtol=1e-6, atol=0.0)
