"""Bases that atoms are spread over: splines of a mesh and plane waves, and their derivatives."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch

from les import Ewald
from les.spreading import MeshShape, SplineMesh
from les.transfer import gather, spread
from les.waves import Waves, axis_bases

DERIVATIVES = [((0, 0, 0),), ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))]


def splines(fractional):
    """On two meshes, for atoms ``[3, 3]``."""
    # An axis is shorter than the spline.
    return SplineMesh(fractional.detach(), torch.tensor([0, 0, 1]), MeshShape(2, 4, 6, 2), 6)


def waves(fractional):
    """For two structures of three atoms ``[3, 2, 3]``."""
    return Waves(*axis_bases(fractional.detach().permute(1, 2, 0), [2, 1, 3]))


BASES = [(splines, (3,), (2, 4, 6, 2)), (waves, (2, 3), (2, 4, 2, 24))]


@pytest.fixture(params=BASES, ids=["splines", "waves"])
def basis(request):
    """A function that makes a basis, and the shapes of atoms and components."""
    return request.param


def random(*shape, seed=0):
    """Numbers between -1 and 1."""
    generator = torch.Generator().manual_seed(seed)
    return 2.0 * torch.rand(*shape, generator=generator, dtype=torch.float64) - 1.0


@pytest.mark.parametrize("derivatives", DERIVATIVES, ids=["plain", "gradient"])
def test_transposes_and_derivatives(basis, derivatives):
    make, atoms, shape = basis
    fractional = random(3, *atoms).requires_grad_()
    values = random(len(derivatives), 2, *atoms, seed=1).requires_grad_()
    components = random(2, *shape, seed=2).requires_grad_()

    def spread_(values, fractional):
        return spread(values, fractional, make(fractional), derivatives)

    def gather_(components, fractional):
        return gather(components, fractional, make(fractional), derivatives)

    for function, inputs in ((spread_, (values, fractional)), (gather_, (components, fractional))):
        assert torch.autograd.gradcheck(function, inputs, fast_mode=True)
        assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)
    torch.testing.assert_close(
        (components * spread_(values, fractional)).sum(),
        (values * gather_(components, fractional)).sum(),
    )


def test_a_few_at_a_time(basis, monkeypatch):
    """Blocks that do not divide the number of atoms or of rows change nothing."""
    make, atoms, shape = basis
    fractional, components = random(3, *atoms), random(2, *shape, seed=2)
    values = random(4, 2, *atoms, seed=1)

    def results():
        made = make(fractional)
        return [
            spread(values, fractional, made, DERIVATIVES[1]),
            gather(components, fractional, made, DERIVATIVES[1]),
        ]

    expected = results()
    for pairs, products in ((2 * 6**3, 2 * 24), (1, 3 * 24)):
        monkeypatch.setattr("les.spreading.PAIRS_AT_A_TIME", pairs)
        monkeypatch.setattr("les.waves.PRODUCTS_AT_A_TIME", products)
        for found, target in zip(results(), expected, strict=True):
            torch.testing.assert_close(found, target, rtol=1e-13, atol=1e-13)


def test_vectorised_over_values(basis):
    """All rows of a Hessian at once, by ``torch.vmap``, as MACE does."""
    make, atoms, shape = basis
    fractional, values = random(3, *atoms).requires_grad_(), random(4, 2, *atoms, seed=1)
    made = make(fractional)
    components = spread(values, fractional, made, DERIVATIVES[1]) * random(2, *shape, seed=2)
    energy = (gather(components, fractional, made) ** 2).sum()
    slope = torch.autograd.grad(energy, fractional, create_graph=True)[0]

    def row(vector):
        return torch.autograd.grad(slope, fractional, vector, retain_graph=True)[0]

    vectors = torch.eye(slope.numel(), dtype=slope.dtype).view(-1, *slope.shape)
    expected = torch.stack([row(vector) for vector in vectors])
    torch.testing.assert_close(torch.vmap(row)(vectors), expected)
    with pytest.raises(NotImplementedError, match="several structures as one batch"):
        torch.vmap(lambda places: spread(values, places, made, DERIVATIVES[1]))(
            random(2, 3, *atoms)
        )


def test_splines_against_their_definition():
    """Differences of truncated powers, exact with fractions; one atom on a long axis."""
    order, size, place = 6, 20, Fraction(37, 100)
    x = place * size
    fractional = torch.tensor([[float(place)], [0.0], [0.0]], dtype=torch.float64)
    shape = MeshShape(1, size, 8, 8)
    basis = SplineMesh(fractional, None, shape, order)
    mesh = spread(torch.ones(1, 1, 1).double(), fractional, basis)[0, 0]
    assert mesh.sum().item() == pytest.approx(1.0, rel=1e-14)
    for m in range(size):
        powers = [
            (-1) ** k * math.comb(order, k) * max(x - m - k, Fraction(0)) ** (order - 1)
            for k in range(order + 1)
        ]
        expected = float(sum(powers) / math.factorial(order - 1))
        assert mesh[m].sum().item() == pytest.approx(expected, abs=1e-13)


@pytest.mark.parametrize("kind", ["triclinic", "open"])
@pytest.mark.parametrize("method", ["direct", "mesh"])
def test_rows_of_a_hessian(make_system, monkeypatch, kind, method):
    """Of the whole sum, with charges that depend on the positions."""
    monkeypatch.setattr("les.ewald.FEWEST_OPEN_ATOMS", 2)
    monkeypatch.setattr("les.open_mesh.POINTS_PER_SQUARE", 1e12)
    charges, positions, cell = make_system(kind, 5)
    positions.requires_grad_()
    energy, _ = Ewald(method=method)(charges * torch.cos(positions[:, 0]), positions, cell)
    slope = torch.autograd.grad(energy.sum(), positions, create_graph=True)[0]

    def row(vector):
        return torch.autograd.grad(slope, positions, vector, retain_graph=True)[0]

    vectors = torch.eye(slope.numel(), dtype=slope.dtype).view(-1, *slope.shape)
    expected = torch.stack([row(vector) for vector in vectors])
    torch.testing.assert_close(torch.vmap(row)(vectors), expected)
