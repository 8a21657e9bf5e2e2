"""Compiled kernels give the results of torch."""

from __future__ import annotations

import math

import mpmath
import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from les import Ewald
from les.sums.bases.splines import MeshShape
from les.sums.cpu import library as native
from les.sums.cpu.splines import CompiledSplines
from les.sums.cpu.threads import in_parallel
from les.sums.direct import direct_sum
from les.sums.method import Part
from les.sums.pairs import open_sum
from les.sums.plan import engine_for
from les.sums.reciprocal.cutoff import GreensFunction, cutoff_ends
from les.sums.system import System

pytestmark = pytest.mark.cpu_only("compiled kernels")

NONE = ((0, 0, 0),)
GRADIENT = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
#: As of a third derivative, in no order.
MANY = ((0, 1, 2), (3, 0, 0), (1, 1, 0), (0, 0, 0), (2, 0, 1), (0, 2, 0), (0, 0, 3))
LISTS = {"none": NONE, "gradient": GRADIENT, "many": MANY}


def random(*shape, dtype):
    generator = torch.Generator().manual_seed(len(shape))
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def engine(like):
    """Who does the loops for tensors like this one."""
    return engine_for(like.device, like.dtype)


def greens_function(sigma, k_max, cutoff):
    return GreensFunction(sigma, *cutoff_ends(k_max, cutoff == "smooth"))


def splines(fractional, n_structures=1, order=6, last=20):
    """Of atoms ``[3, n_atoms]``; the second axis is shorter than some splines."""
    n_atoms = fractional.shape[1]
    owner = torch.arange(n_atoms) * n_structures // n_atoms if n_structures > 1 else None
    shape = MeshShape(n_structures, 12, 6, last)
    return engine(fractional).splines(fractional, owner, shape, order)


def in_a_row(charges, positions, cell, half_height=None):
    """A part of equal structures, from rows of atoms."""
    n_structures, n_atoms, n_channels = charges.shape
    owner = torch.arange(n_structures).repeat_interleave(n_atoms)
    counts = torch.full((n_structures,), n_atoms)
    q, r = charges.reshape(-1, n_channels), positions.reshape(-1, 3)
    return Part(System(q, r, cell, owner, counts, half_height), n_atoms)


def wave_sum(charges, positions, cell, cutoff="smooth", half_height=None):
    """Energies of rows of atoms, with potential; the grid is no multiple of any width."""
    part = in_a_row(charges, positions, cell, half_height)
    settings = Ewald(sigma=1.1, dl=2.1, cutoff=cutoff).settings()
    energy, potential = direct_sum(part, settings, engine(charges), True)
    return energy, potential.view(charges.shape)


def pair_sum(charges, positions, sigma):
    """Energies of rows of atoms, with potential."""
    part = in_a_row(charges, positions, positions.new_zeros(len(positions), 3, 3))
    settings = Ewald(sigma, norm_factor=2.0 * math.pi).settings()
    energy, potential = open_sum(part, settings, engine(charges), True)
    return energy, potential.view(charges.shape)


def derivatives_of(function, *arguments):
    """Energies, potentials, and first and second derivatives."""
    leaves = [value.clone().requires_grad_() for value in arguments]
    energy, potential = function(*leaves)
    first = torch.autograd.grad(energy.square().sum(), leaves, create_graph=True)
    loss = sum(value.square().sum() for value in (*first, potential))
    return [energy, potential, *first, *torch.autograd.grad(loss, leaves)]


def assert_equal_to_torch(monkeypatch, make_basis, values, components, derivatives):
    basis = make_basis()
    assert isinstance(basis, CompiledSplines)
    found = basis.spread(values, derivatives), basis.gather(components, derivatives)
    monkeypatch.setenv(native.SWITCH, "0")
    basis = make_basis()
    assert not isinstance(basis, CompiledSplines)
    expected = basis.spread(values, derivatives), basis.gather(components, derivatives)
    rounding = 1e-12 if values.dtype == torch.float64 else 1e-5
    for value, target in zip(found, expected, strict=True):
        assert value.dtype == target.dtype == values.dtype and value.shape == target.shape
        assert (value - target).abs().max() < rounding * target.abs().max()


@pytest.mark.parametrize("order", [4, 5, 6, 7, 8])
@pytest.mark.parametrize("derivatives", LISTS)
@pytest.mark.parametrize(("n_structures", "last"), [(1, 20), (2, 20), (2, 4)])
def test_splines(compiled, monkeypatch, order, derivatives, n_structures, last, dtype):
    # Atoms outside the cell and at its corner.
    fractional = torch.cat([random(3, 20, dtype=dtype), torch.zeros(3, 1, dtype=dtype)], dim=1)

    def make():
        return splines(fractional, n_structures, order, last)

    values = random(len(LISTS[derivatives]), 3, 21, dtype=dtype)
    components = random(3, *make().shape, dtype=dtype)
    assert_equal_to_torch(monkeypatch, make, values, components, LISTS[derivatives])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("n_atoms", [2, 4, 21])
@pytest.mark.parametrize("slab", [False, True])
def test_waves(compiled, monkeypatch, channels, n_atoms, slab, cutoff, dtype):
    """Energies, potentials, first and second derivatives in rotated cells and of slabs."""
    charges = random(2, n_atoms, channels, dtype=dtype)
    positions = 15.0 * random(2, n_atoms, 3, dtype=dtype)
    cell = torch.diag(torch.tensor([6.0, 2.0, 11.0])).to(dtype) + random(2, 3, 3, dtype=dtype)
    height = torch.tensor([4.0, 0.0], dtype=dtype) if slab else None

    def evaluate(*arguments):
        return wave_sum(*arguments, cutoff, height)

    found = derivatives_of(evaluate, charges, positions, cell)
    monkeypatch.setenv(native.SWITCH, "0")
    rounding = 1e-11 if dtype == torch.float64 else 1e-4
    for value, target in zip(
        found, derivatives_of(evaluate, charges, positions, cell), strict=True
    ):
        assert value.dtype == dtype and value.shape == target.shape
        assert (value - target).abs().max() <= rounding * target.abs().max()


def test_third_derivatives_of_waves(compiled):
    charges, positions = random(2, 3, 2, dtype=torch.float64), random(2, 3, 3, dtype=torch.float64)
    cell = 5.0 * torch.eye(3).double() + 0.3 * random(2, 3, 3, dtype=torch.float64)
    leaves = [value.requires_grad_() for value in (charges, positions, cell)]

    def first(*arguments):
        energy, potential = wave_sum(*arguments)
        return energy, potential, *torch.autograd.grad(energy.sum(), arguments, create_graph=True)

    assert torch.autograd.gradgradcheck(first, leaves)


@pytest.mark.parametrize("order", range(6))
def test_greens_function(compiled, monkeypatch, cutoff, order, dtype):
    """With its derivatives: from near zero, across the taper, to beyond the edge."""
    k_squared = torch.cat([torch.zeros(1), torch.linspace(0.3, 11.0, 400)]).to(dtype)

    def evaluate(x):
        x = x.clone().requires_grad_()
        value = engine(x).greens_function(x, greens_function(0.9, 3.0, cutoff))
        for _ in range(order):
            (value,) = torch.autograd.grad(value.sum(), x, create_graph=True)
        return value.detach()

    found = evaluate(k_squared)
    monkeypatch.setenv(native.SWITCH, "0")
    target = evaluate(k_squared.double())
    assert found.dtype == dtype
    rounding = 1e-11 if dtype == torch.float64 else 1e-5
    scale = target.abs().clamp(min=1e-6 * target.abs().max())
    assert ((found - target).abs() <= rounding * scale).all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("n_atoms", [1, 2, 70])
def test_pairs(compiled, monkeypatch, channels, n_atoms, dtype):
    """Energies and all first and second derivatives, of pairs at 0.01 to 60 widths."""
    q = random(3, n_atoms, channels, dtype=dtype)
    r = random(3, n_atoms, 3, dtype=torch.float64)
    r = (r * torch.tensor([0.01, 1.0, 30.0]).double().view(3, 1, 1)).to(dtype)

    def evaluate(q, r):
        return pair_sum(q, r, 1.3)

    found = derivatives_of(evaluate, q, r)
    monkeypatch.setenv(native.SWITCH, "0")
    # The plain sum loses digits where atoms almost coincide: float64 knows better.
    q, r = q.double(), r.double()
    rounding = 1e-9 if dtype == torch.float64 else 3e-5
    for value, target in zip(found, derivatives_of(evaluate, q, r), strict=True):
        assert value.dtype == dtype
        for structure, expected in zip(value.double(), target, strict=True):
            assert (structure - expected).abs().max() <= rounding * expected.abs().max()


def test_kernel_of_pairs(compiled):
    """The interaction itself and its slopes, to all digits and at all distances."""
    distances = torch.cat([torch.logspace(-6, 3, 200), torch.linspace(0.1, 7.0, 200)]).to(
        torch.float64
    )
    r = torch.zeros(400, 2, 3, dtype=torch.float64)
    r[:, 1, 0] = distances
    r.requires_grad_()
    energy, _ = pair_sum(torch.ones(400, 2, 1, dtype=torch.float64), r, math.sqrt(0.5))
    slope = torch.autograd.grad(energy.sum(), r)[0][:, 1, 0]
    with mpmath.workdps(40):
        exact = [mpmath.mpf(x) for x in distances.tolist()]
        energies = [mpmath.erf(x) / x for x in exact]
        edges = [2 / mpmath.sqrt(mpmath.pi) * mpmath.exp(-x * x) for x in exact]
        slopes = [(g - h) / x for x, g, h in zip(exact, edges, energies, strict=True)]
    for found, expected in ((energy, energies), (slope, slopes)):
        target = torch.tensor([float(value) for value in expected], dtype=torch.float64)
        assert ((found - target) / target).abs().max() < 2e-14


def test_hessian_of_potentials(compiled, monkeypatch):
    """Of pairs, in rows, by torch.vmap and by torch.func, with third derivatives."""
    q, r = random(2, 3, 1, dtype=torch.float64), random(2, 3, 3, dtype=torch.float64)

    def loss(r):
        energy, potential = pair_sum(q * torch.cos(r[..., :1]), r, 0.9)
        return energy.square().sum() + potential.pow(3).sum()

    def hessians():
        yield torch.func.jacrev(torch.func.grad(loss))(r)
        leaf = r.clone().requires_grad_()
        slope = torch.autograd.grad(loss(leaf), leaf, create_graph=True)[0]
        vectors = torch.eye(slope.numel(), dtype=slope.dtype).view(-1, *slope.shape)
        rows = torch.vmap(lambda v: torch.autograd.grad(slope, leaf, v, retain_graph=True)[0])
        yield rows(vectors).view(*slope.shape, *slope.shape)

    expected = torch.autograd.functional.hessian(loss, r)
    for value in hessians():
        torch.testing.assert_close(value, expected)
    third = torch.func.jacrev(torch.func.jacrev(torch.func.grad(loss)))(r)
    monkeypatch.setenv(native.SWITCH, "0")
    torch.testing.assert_close(
        third, torch.func.jacrev(torch.func.jacrev(torch.func.grad(loss)))(r)
    )


def test_third_derivatives_of_pairs(compiled):
    q, r = random(2, 3, 1, dtype=torch.float64), random(2, 3, 3, dtype=torch.float64)
    leaves = q.requires_grad_(), r.requires_grad_()

    def first(q, r):
        energy, potential = pair_sum(q, r, 0.9)
        return energy, potential, *torch.autograd.grad(energy.sum(), r, create_graph=True)

    def second(q, r):
        gradients = torch.autograd.grad(
            sum(value.pow(2).sum() for value in first(q, r)), (q, r), create_graph=True
        )
        return gradients

    assert torch.autograd.gradgradcheck(first, leaves)
    assert torch.autograd.gradgradcheck(second, leaves)


def test_arrays_that_are_not_contiguous(compiled):
    fractional = random(21, 3, dtype=torch.float64).t()
    shape = MeshShape(1, 8, 8, 8)
    values = random(21, 1, 1, dtype=torch.float64).permute(1, 2, 0)
    mesh = random(8, 8, 8, 1, 1, dtype=torch.float64).permute(3, 4, 0, 1, 2)
    results = [
        (basis.spread(v, NONE), basis.gather(m, NONE))
        for basis, v, m in (
            (engine(values).splines(fractional, None, shape, 6), values, mesh),
            (
                engine(values).splines(fractional.contiguous(), None, shape, 6),
                *map(torch.clone, (values, mesh)),
            ),
        )
    ]
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=0.0, atol=0.0)


def test_threads(compiled, monkeypatch):
    """Each writes to its own part, also where there are more than planes or atoms."""
    fractional = random(3, 51, dtype=torch.float64)
    values = random(4, 2, 51, dtype=torch.float64)

    def evaluate():
        found = []
        for shape in ((1, 51), (17, 3)):  # fewer structures than threads, and more
            q, r = values[0].t().reshape(*shape, 2), fractional.t().reshape(*shape, 3)
            cell = torch.eye(3).double() * torch.linspace(5.0, 9.0, shape[0]).double().view(
                -1, 1, 1
            )
            found += derivatives_of(lambda q, r: pair_sum(q, r, 1.0), q, r)
            found += derivatives_of(wave_sum, q, r, cell)
        basis = splines(fractional)
        components = basis.spread(values, GRADIENT)
        return [*found, components, basis.gather(components, GRADIENT)]

    expected = evaluate()
    monkeypatch.setattr("les.sums.cpu.threads.WORK_OF_A_THREAD", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    ranges = []
    in_parallel(lambda first, last: ranges.append((first, last)), 5, work=100)
    assert sorted(ranges) == [(i, i + 1) for i in range(5)]
    for value, target in zip(evaluate(), expected, strict=True):
        torch.testing.assert_close(value, target, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("method", "periodic"), [("direct", 1), ("mesh", 1), ("direct", 0)])
def test_gradients_that_are_not_in_memory(compiled, monkeypatch, method, periodic):
    """As torch's of an absolute value, which are zeros without numbers, and negatives of others."""
    charges, positions = random(6, dtype=torch.float64), 5.0 * random(6, 3, dtype=torch.float64)
    cell = 7.0 * periodic * torch.eye(3).double().unsqueeze(0)
    ewald = Ewald(method=method)

    def evaluate():
        leaves = charges.clone().requires_grad_(), positions.clone().requires_grad_()
        energy, potential = ewald(*leaves, cell, compute_potential=True)
        forces = torch.autograd.grad(energy.sum(), leaves[1], create_graph=True)[0]
        found = [ewald(torch._neg_view(-charges), positions, cell, compute_potential=True)[1]]
        for loss in (potential.abs().sum(), forces.abs().sum()):
            first = torch.autograd.grad(loss, leaves, create_graph=True)
            total = sum(value.sum() for value in first)
            found += torch.autograd.grad(total, leaves, retain_graph=True)
        return found

    found = evaluate()
    monkeypatch.setenv(native.SWITCH, "0")
    for value, target in zip(found, evaluate(), strict=True):
        torch.testing.assert_close(value, target)


def test_more_derivatives_than_the_kernels_have_room_for(compiled):
    """Torch does it."""
    fractional = torch.rand(3, 2).double()
    basis = engine(fractional).splines(fractional, None, MeshShape(1, 8, 8, 8), 6)
    derivatives = ((0, 0, 0), (9, 0, 0))
    assert basis.kernels(NONE) is not None and basis.kernels(derivatives) is None
    values = basis.gather(torch.ones(1, 1, 8, 8, 8).double(), derivatives)
    # Splines add up to one everywhere.
    expected = torch.tensor([1.0, 0.0]).double().view(2, 1, 1).expand_as(values)
    torch.testing.assert_close(values, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("method", ["direct", "mesh"])
def test_traces_have_no_kernels(compiled, make_system, method):
    """Tracers do not see what kernels write."""
    system, other = (make_system("cubic", 6, seed=seed) for seed in (0, 1))
    ewald = Ewald(method=method)

    def energy(*arguments):
        return ewald(*arguments)[0]

    graph = make_fx(energy)(*system)
    for arguments in (system, other):
        torch.testing.assert_close(graph(*arguments), energy(*arguments))


def test_orders_that_the_kernels_do_not_have(compiled):
    assert splines(random(3, 4, dtype=torch.float64), order=3).kernels(NONE) is None
