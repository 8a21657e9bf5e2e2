"""Splines that spread values over a mesh: their definition and derivatives."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch

from les.spreading import MeshShape, gather, spread

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
