"""Bases that atoms are spread over: splines and plane waves, and their derivatives."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch

from les import Ewald
from les.sums.bases.adjoint import gather, spread
from les.sums.bases.bspline import FROM_ORDER, ORDERS, ZERO, pieces, squared_factor
from les.sums.bases.fourier import TorchFourier, analyse, synthesise
from les.sums.bases.mesh_waves import MeshWaves
from les.sums.bases.splines import MeshShape, SplineMesh
from les.sums.bases.waves import Waves
from les.sums.crossover import WORTH_A_MESH

DERIVATIVES = [((0, 0, 0),), ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))]


def splines(fractional):
    """On two meshes, for atoms ``[3, 3]``."""
    # An axis is shorter than the spline.
    return SplineMesh(fractional.detach(), torch.tensor([0, 0, 1]), MeshShape(2, 4, 6, 2), 6)


def waves(fractional):
    """For two structures of three atoms ``[3, 2, 3]``."""
    return Waves(fractional.detach().permute(1, 2, 0), (2, 1, 3))


def mesh_waves(fractional):
    """On the two meshes of :func:`splines`."""
    return MeshWaves(splines(fractional), (1, 2, 0), TorchFourier())


BASES = {
    "splines": (splines, (3,), (2, 4, 6, 2), torch.float64),
    "waves": (waves, (2, 3), (2, 4, 2, 24), torch.float64),
    "mesh waves": (mesh_waves, (3,), (2, 3, 5, 1), torch.complex128),
}


@pytest.fixture(params=BASES)
def basis(request):
    """A function that makes a basis, shapes of atoms and components, dtype of the latter."""
    return BASES[request.param]


def random(*shape, seed=0, dtype=torch.float64):
    """Numbers between -1 and 1."""
    generator = torch.Generator().manual_seed(seed)
    return 2.0 * torch.rand(*shape, generator=generator, dtype=dtype) - 1.0


def product(first, second):
    """Of two arrays of components, real or not, with real and imaginary parts as numbers."""
    return (first.conj() * second).real.sum()


@pytest.mark.parametrize("derivatives", DERIVATIVES, ids=["plain", "gradient"])
def test_transposes_and_derivatives(basis, check_gradients, derivatives):
    make, atoms, shape, dtype = basis
    fractional = random(3, *atoms).requires_grad_()
    values = random(len(derivatives), 2, *atoms, seed=1).requires_grad_()
    components = random(2, *shape, seed=2, dtype=dtype).requires_grad_()

    def spread_(values, fractional):
        return spread(values, fractional, make(fractional), derivatives)

    def gather_(components, fractional):
        return gather(components, fractional, make(fractional), derivatives)

    for function, inputs in ((spread_, (values, fractional)), (gather_, (components, fractional))):
        check_gradients(function, inputs, fast_mode=True)
    torch.testing.assert_close(
        product(components, spread_(values, fractional)),
        (values * gather_(components, fractional)).sum(),
    )


def test_a_few_at_a_time(basis, monkeypatch):
    """Blocks that do not divide the number of atoms or of rows change nothing."""
    make, atoms, shape, dtype = basis
    fractional, components = random(3, *atoms), random(2, *shape, seed=2, dtype=dtype)
    values = random(4, 2, *atoms, seed=1)

    def results():
        made = make(fractional)
        return [
            spread(values, fractional, made, DERIVATIVES[1]),
            gather(components, fractional, made, DERIVATIVES[1]),
        ]

    monkeypatch.setenv("LES_NATIVE", "0")
    expected = results()
    for pairs, products in ((2 * 6**3, 2 * 24), (1, 3 * 24)):
        monkeypatch.setattr("les.sums.bases.splines.PAIRS_AT_A_TIME", pairs)
        monkeypatch.setattr("les.sums.bases.wave_products.PRODUCTS_AT_A_TIME", products)
        monkeypatch.setattr("les.sums.bases.mesh_waves.POINTS_AT_A_TIME", products)
        monkeypatch.setattr("les.sums.bases.fourier.NUMBERS_AT_A_TIME", products)
        for found, target in zip(results(), expected, strict=True):
            torch.testing.assert_close(found, target, rtol=1e-13, atol=1e-13)


def test_vectorised_over_values(basis):
    """All rows of a Hessian at once, by ``torch.vmap``, as MACE does."""
    make, atoms, shape, dtype = basis
    fractional, values = random(3, *atoms).requires_grad_(), random(4, 2, *atoms, seed=1)
    made = make(fractional)
    weights = random(2, *shape, seed=2, dtype=dtype)
    components = spread(values, fractional, made, DERIVATIVES[1]) * weights
    energy = (gather(components, fractional, made) ** 2).sum()
    slope = torch.autograd.grad(energy, fractional, create_graph=True)[0]

    def row(vector):
        return torch.autograd.grad(slope, fractional, vector, retain_graph=True)[0]

    vectors = torch.eye(slope.numel(), dtype=slope.dtype).view(-1, *slope.shape)
    expected = torch.stack([row(vector) for vector in vectors])
    torch.testing.assert_close(torch.vmap(row)(vectors), expected)
    with pytest.raises(NotImplementedError, match="several structures as one `batch`"):
        torch.vmap(lambda places: spread(values, places, made, DERIVATIVES[1]))(
            random(2, 3, *atoms)
        )


@pytest.mark.parametrize("numbers", [1, 100, 2**16])
def test_transforms_of_meshes(monkeypatch, numbers):
    """Those of torch, cropped, and their transpose."""
    monkeypatch.setattr("les.sums.bases.fourier.NUMBERS_AT_A_TIME", numbers)
    mesh, extent = random(3, 6, 8, 10), (2, 0, 4)
    whole = torch.fft.rfftn(mesh, dim=(1, 2, 3))
    found = analyse(mesh, extent)
    torch.testing.assert_close(found, whole[:, [0, 1, 2, 4, 5]][:, :, [0]][..., :5])
    components = random(*found.shape, seed=1, dtype=torch.complex128)
    back = synthesise(components, (6, 8, 10))
    torch.testing.assert_close((back * mesh).sum(), product(components, found))


def truncated_powers(order, x, power):
    """The B-spline of an order, or a derivative of it, at x."""
    terms = [
        (-1) ** k * math.comb(order, k) * max(x - k, Fraction(0)) ** power for k in range(order + 1)
    ]
    return float(sum(terms) / math.factorial(power))


@pytest.mark.parametrize("order", ORDERS)
def test_transform_of_splines(order):
    """Their integrals with cosines, by a fine sum, and how little is mixed up for it."""
    n = 4096
    x = (torch.arange(n * order).double() + 0.5) / n
    places = torch.floor(x).long()
    values = (
        pieces(order, 1)[0][places] * (x - places - 0.5).unsqueeze(1) ** torch.arange(order)
    ).sum(1)
    for fraction in (0.0, 0.2, 0.45, 1.0, 1.3):
        found = (values * torch.cos(2.0 * math.pi * fraction * (x - 0.5 * order))).sum() / n
        expected = math.sqrt(squared_factor(order, 100, 130)[round(100 * fraction)].item())
        assert abs(found.item()) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("order", [5, 8])
def test_splines_against_their_definition(order):
    """Differences of truncated powers, exact with fractions; one atom on a long axis."""
    size, place = 20, Fraction(37, 100)
    x = place * size
    fractional = torch.tensor([[float(place)], [0.0], [0.0]], dtype=torch.float64)
    shape = MeshShape(1, size, 8, 8)
    basis = SplineMesh(fractional, None, shape, order)
    mesh = spread(torch.ones(1, 1, 1).double(), fractional, basis)[0, 0]
    assert mesh.sum().item() == pytest.approx(1.0, rel=1e-14)
    for m in range(size):
        expected = truncated_powers(order, x - m, order - 1)
        if order >= FROM_ORDER:
            expected += truncated_powers(order, x - m, order - 3) / (2.0 * math.pi * ZERO) ** 2
        assert mesh[m].sum().item() == pytest.approx(expected, abs=1e-13)


@pytest.mark.parametrize("kind", ["triclinic", "open"])
@pytest.mark.parametrize("method", ["direct", "mesh"])
def test_rows_of_a_hessian(make_system, monkeypatch, kind, method):
    """Of the whole sum, with charges that depend on the positions."""
    for native in (True, False):
        monkeypatch.setitem(WORTH_A_MESH, native, (2, 1e12))
    charges, positions, cell = make_system(kind, 5)
    positions.requires_grad_()
    energy, _ = Ewald(method=method)(charges * torch.cos(positions[:, 0]), positions, cell)
    slope = torch.autograd.grad(energy.sum(), positions, create_graph=True)[0]

    def row(vector):
        return torch.autograd.grad(slope, positions, vector, retain_graph=True)[0]

    vectors = torch.eye(slope.numel(), dtype=slope.dtype).view(-1, *slope.shape)
    expected = torch.stack([row(vector) for vector in vectors])
    torch.testing.assert_close(torch.vmap(row)(vectors), expected)
