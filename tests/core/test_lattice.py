"""Reciprocal vectors, and how far the k-grid reaches."""

from __future__ import annotations

import math

import pytest
import torch

from les.sums.reciprocal.lattice import grid_extent, grid_reach, reciprocal_vectors


def test_against_the_inverse(make_system, cell_kind, dtype, tolerance):
    cell = make_system(cell_kind, dtype=dtype).cell
    expected = torch.linalg.inv(cell.double()).transpose(1, 2)
    volume = torch.linalg.det(cell.double()).abs()
    vectors, found = reciprocal_vectors(cell)
    assert vectors.dtype == found.dtype == dtype
    torch.testing.assert_close(vectors.double(), expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(found.double(), volume, rtol=tolerance, atol=0.0)


def test_derivatives(make_system, check_gradients):
    cells = torch.cat([make_system(kind).cell for kind in ("triclinic", "left_handed")])
    cells.requires_grad_()
    check_gradients(reciprocal_vectors, cells)


def test_singular_cell_gives_no_error(make_system):
    cells = torch.cat([torch.zeros(1, 3, 3).double(), make_system("triclinic").cell])
    vectors, volume = reciprocal_vectors(cells)
    assert volume[0] == 0.0
    assert not torch.isfinite(vectors[0]).any()
    assert torch.isfinite(vectors[1]).all()


def test_extent_reaches_all_points_in_the_sphere(make_system, cell_kind):
    """No point beyond the extent lies in the k-sphere, whatever the shape of the cell."""
    cell, dl = make_system(cell_kind).cell, 1.27
    extent = grid_extent(cell, dl)
    axes = [torch.arange(-2 * n - 2, 2 * n + 3) for n in extent]
    n = torch.cartesian_prod(*axes)
    k = 2.0 * math.pi * n.double() @ reciprocal_vectors(cell)[0][0]
    inside = n[torch.linalg.vector_norm(k, dim=1) <= 2.0 * math.pi / dl].abs()
    assert (inside.amax(dim=0) <= torch.tensor(extent)).all()
    # With points on the axes, the extents are no larger than needed.
    if cell_kind == "cubic":
        assert inside.amax(dim=0).tolist() == extent


def test_extent_is_that_of_the_largest_cell():
    cells = torch.stack([torch.diag(torch.tensor(d)) for d in ([7.0, 3.0, 5.0], [2.0, 9.0, 5.0])])
    assert grid_extent(cells, 2.0) == [3, 4, 2]


@pytest.mark.parametrize("length", [6.0, 6.0 * (1.0 - 1e-12)])
def test_point_on_the_edge_belongs_to_the_grid(length):
    """Rounding of the cell must not decide about a k-point at ``2 pi / dl``."""
    cell = length * torch.eye(3, dtype=torch.float64).unsqueeze(0)
    assert grid_extent(cell, 2.0) == [3, 3, 3]
    assert (grid_reach(cell, 2.0) < 3.1).all()
