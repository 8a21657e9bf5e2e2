"""The sum for graph capture gives what ``les.Ewald`` gives, and can be captured."""

from __future__ import annotations

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from les import Ewald
from les.sums.packing import first_rows
from les.sums.plain import ROW_WIDTH, Bounds, traceable_potential
from les.sums.reciprocal.lattice import grid_extent

#: Rows of 64: structures that need none, one, exactly one, and several of them.
SIZES = [1, 64, 65, 200, 7]
KINDS = {
    "periodic": ["triclinic", "cubic", "left_handed", "cubic", "triclinic"],
    "open": ["open"] * 5,
    "mixed": ["triclinic", "open", "cubic", "open", "open"],
}
DL = 2.2

asynchronous = pytest.mark.cpu_only("an assertion that fails on a GPU leaves it unusable")


@pytest.fixture
def make_batch(make_system, join):
    """Makes ragged batches."""

    def make(boundary, dtype=torch.float64, sizes=SIZES):
        systems = [
            make_system(kind, n_atoms, dtype, total=0.3, seed=n_atoms)
            for kind, n_atoms in zip(KINDS[boundary], sizes)
        ]
        return join(systems)

    return make


def extent_of(cell):
    # Larger than needed: the cutoff decides, not the grid.
    return [n + 1 for n in grid_extent(cell, DL)]


def both(ewald, boundary, charges, positions, cell, batch):
    """Potentials of ``les.Ewald`` and of the form for graphs."""
    _, expected = ewald(charges, positions, cell, batch, None, True)
    actual = traceable_potential(
        ewald.settings(),
        charges,
        positions,
        cell,
        batch,
        Bounds(boundary, extent_of(cell.detach())),
    )
    return expected, actual


@pytest.mark.parametrize("self_interaction", [True, False])
@pytest.mark.parametrize("boundary", KINDS)
def test_potential(make_batch, boundary, dtype, tolerance, cutoff, self_interaction):
    ewald = Ewald(0.9, DL, cutoff=cutoff, remove_self_interaction=not self_interaction)
    expected, actual = both(ewald, boundary, *make_batch(boundary, dtype))
    assert actual.dtype == dtype
    scale = expected.abs().max().item()
    torch.testing.assert_close(actual, expected, rtol=0.0, atol=tolerance * scale)


@pytest.mark.parametrize("n_atoms", [1, 2, 64, 65])
@pytest.mark.parametrize("kind", ["open", "triclinic"])
@pytest.mark.parametrize("given", [True, False])
def test_one_structure(make_system, kind, n_atoms, given):
    """Also without ``batch``, and with charges ``mixed`` has to sort out."""
    charges, positions, cell = make_system(kind, n_atoms, total=1.0)
    batch = torch.zeros(n_atoms, dtype=torch.long) if given else None
    for boundary in ("open" if kind == "open" else "periodic", "mixed"):
        expected, actual = both(Ewald(dl=DL), boundary, charges, positions, cell, batch)
        torch.testing.assert_close(actual, expected, rtol=0.0, atol=1e-11)


@pytest.mark.parametrize("boundary", KINDS)
def test_structures_without_atoms(make_batch, boundary):
    expected, actual = both(Ewald(dl=DL), boundary, *make_batch(boundary, sizes=[0, 3, 0, 2, 0]))
    torch.testing.assert_close(actual, expected, rtol=0.0, atol=1e-11)


@pytest.mark.parametrize("n_atoms", [1, 64, 65, 128])
def test_rows_suffice(n_atoms):
    """As many rows as the number of atoms tells are enough, however they are distributed."""
    counts = torch.tensor([n_atoms, 1, ROW_WIDTH, n_atoms])
    needed = int(first_rows(counts, ROW_WIDTH)[-1]) + -(-n_atoms // ROW_WIDTH)
    assert needed <= int(counts.sum()) // ROW_WIDTH + len(counts)


@pytest.mark.parametrize("boundary", KINDS)
def test_first_and_second_derivatives(make_batch, boundary):
    """Gradients with respect to all input, and of a loss on forces and stress."""
    charges, positions, cell, batch = make_batch(boundary, sizes=[1, 5, 4, 70, 3])
    found = []
    for which in (0, 1):
        leaves = [value.clone().requires_grad_() for value in (charges, positions, cell)]
        potential = both(Ewald(0.9, DL), boundary, *leaves, batch)[which]
        energy = 0.5 * (leaves[0] * potential).sum()
        first = torch.autograd.grad(energy, leaves, create_graph=True, materialize_grads=True)
        loss = sum((value**2).sum() for value in first)
        second = torch.autograd.grad(loss, leaves, materialize_grads=True)
        found.append([*first, *second])
    for expected, actual in zip(*found, strict=True):
        assert torch.isfinite(actual).all()
        scale = expected.abs().max().item()
        torch.testing.assert_close(actual, expected, rtol=0.0, atol=1e-9 * max(1.0, scale))
    assert found[0][1].abs().max() > 1e-2
    assert boundary == "open" or found[0][5].abs().max() > 1e-3


def test_same_place_in_different_structures(make_system, join):
    """Such pairs are masked: no infinity enters the derivatives, not even the second ones."""
    first = make_system("open", 4)
    charges, positions, cell, batch = join([first, first, first])
    positions.requires_grad_()
    potential = traceable_potential(
        Ewald().settings(), charges, positions, cell, batch, Bounds("open", [])
    )
    gradient = torch.autograd.grad((charges * potential).sum(), positions, create_graph=True)[0]
    second = torch.autograd.grad(gradient.square().sum(), positions)[0]
    alone = Ewald()(*first, compute_potential=True)[1]
    torch.testing.assert_close(potential.view(3, 4), alone.expand(3, 4))
    for value in (gradient, second):
        assert torch.isfinite(value).all()
        assert value.abs().max() > 0.1
        torch.testing.assert_close(value.view(3, 4, 3)[1], value.view(3, 4, 3)[0])


def test_periodic_is_the_callers_choice(make_system, join):
    """A molecule in a box: its cell has a volume, and is not used."""
    open_system, crystal = make_system("open", 6), make_system("cubic", 6)
    boxed = open_system._replace(cell=20.0 * torch.eye(3).double().unsqueeze(0))
    expected = Ewald(dl=DL)(*join([open_system, crystal]), compute_potential=True)[1]
    charges, positions, cell, batch = join([boxed, crystal])
    periodic = torch.tensor([False, True])
    arguments, extent = (charges, positions, cell, batch), extent_of(cell)
    actual = traceable_potential(
        Ewald(dl=DL).settings(), *arguments, Bounds("mixed", extent, periodic)
    )
    torch.testing.assert_close(actual, expected, rtol=0.0, atol=1e-11)
    by_volume = traceable_potential(Ewald(dl=DL).settings(), *arguments, Bounds("mixed", extent))
    assert (by_volume - expected)[:6].abs().max() > 1e-2


# --- what is refused


@asynchronous
@pytest.mark.parametrize("boundary", ["periodic", "mixed"])
def test_grid_too_small(make_batch, boundary):
    batch = make_batch(boundary)
    needed = grid_extent(batch.cell, DL)
    traceable_potential(Ewald(dl=DL).settings(), *batch, Bounds(boundary, needed))
    for axis in range(3):
        extent = list(needed)
        extent[axis] -= 1
        with pytest.raises(RuntimeError, match=r"too large for the k-grid.*larger `max_cell`"):
            traceable_potential(Ewald(dl=DL).settings(), *batch, Bounds(boundary, extent))


def test_boxes_of_open_structures_need_no_grid(make_system, join):
    boxed = make_system("open", 6)._replace(cell=200.0 * torch.eye(3).double().unsqueeze(0))
    charges, positions, cell, batch = join([make_system("cubic", 6), boxed])
    extent = grid_extent(cell[:1], DL)
    periodic = torch.tensor([True, False])
    traceable_potential(
        Ewald(dl=DL).settings(), charges, positions, cell, batch, Bounds("mixed", extent, periodic)
    )
    traceable_potential(
        Ewald(dl=DL).settings(), charges, positions, cell, batch, Bounds("open", [])
    )


@asynchronous
def test_periodic_without_a_cell(make_batch):
    batch = make_batch("mixed")
    extent = extent_of(batch.cell)
    with pytest.raises(RuntimeError, match="a periodic structure has no cell"):
        traceable_potential(Ewald(dl=DL).settings(), *batch, Bounds("periodic", extent))
    periodic = torch.ones(5, dtype=torch.bool)
    with pytest.raises(RuntimeError, match="a periodic structure has no cell"):
        traceable_potential(Ewald(dl=DL).settings(), *batch, Bounds("mixed", extent, periodic))


@asynchronous
@pytest.mark.parametrize("boundary", KINDS)
def test_atoms_in_disorder(make_batch, boundary):
    batch = make_batch(boundary)
    batch = batch._replace(batch=batch.batch.flip(0))
    with pytest.raises(RuntimeError, match="`batch` must be in ascending order"):
        traceable_potential(
            Ewald(dl=DL).settings(), *batch, Bounds(boundary, extent_of(batch.cell))
        )


def test_unknown_boundary(make_batch):
    with pytest.raises(ValueError, match=r"`boundary` must be one of .*'mixed'.*, got 'slab'"):
        traceable_potential(Ewald().settings(), *make_batch("open"), Bounds("slab", []))


# --- capture


def capture(function, arguments):
    """The graph of ``function`` for all sizes, as nequip captures it."""
    return make_fx(
        function,
        tracing_mode="symbolic",
        _allow_non_fake_inputs=True,
        _error_on_data_dependent_ops=True,
    )(*arguments)


@pytest.mark.parametrize("boundary", KINDS)
def test_graph_of_a_loss_works_for_other_sizes(make_batch, boundary):
    """Energy, forces, and the gradient of a loss on the forces in one graph."""
    small = make_batch(boundary, sizes=[3, 5, 2, 4, 6])
    extent = extent_of(small.cell)
    ewald = Ewald(0.9, DL)

    def evaluate(charges, positions, cell, batch):
        charges, positions = charges.requires_grad_(), positions.requires_grad_()
        potential = traceable_potential(
            ewald.settings(), charges, positions, cell, batch, Bounds(boundary, extent)
        )
        energy = 0.5 * (charges * potential).sum()
        forces = -torch.autograd.grad(energy, positions, create_graph=True)[0]
        return energy, forces, torch.autograd.grad(forces.square().sum(), charges)[0]

    graph = capture(evaluate, small)
    for other in (small, make_batch(boundary), make_batch(boundary, sizes=[70, 2])):
        clones = [value.clone() for value in other]
        expected = evaluate(*clones)
        for actual, value in zip(graph(*other), expected, strict=True):
            scale = max(1.0, value.abs().max().item())
            torch.testing.assert_close(actual, value, rtol=0.0, atol=1e-11 * scale)
    assert expected[2].abs().max() > 1e-3


def test_graph_of_one_structure(make_system):
    """Without ``batch``, as in deployed models."""
    ewald, first = Ewald(0.9, DL), make_system("triclinic", 5)
    extent = extent_of(first.cell)

    def evaluate(charges, positions, cell):
        return traceable_potential(
            ewald.settings(), charges, positions, cell, None, Bounds("periodic", extent)
        )

    graph = capture(evaluate, first)
    other = make_system("left_handed", 130)
    expected = ewald(*other, compute_potential=True)[1]
    torch.testing.assert_close(graph(*other), expected, rtol=0.0, atol=1e-10)


@asynchronous
def test_graph_keeps_its_assertions(make_batch):
    batch = make_batch("mixed")
    extent = extent_of(batch.cell)

    def evaluate(charges, positions, cell, batch, periodic):
        return traceable_potential(
            Ewald(dl=DL).settings(),
            charges,
            positions,
            cell,
            batch,
            Bounds("mixed", extent, periodic),
        )

    periodic = torch.tensor([True, False, True, False, False])
    graph = capture(evaluate, (*batch, periodic))
    graph(*batch, periodic)
    with pytest.raises(RuntimeError, match="no cell"):
        graph(*batch, ~periodic)
    with pytest.raises(RuntimeError, match="ascending"):
        graph(*batch._replace(batch=batch.batch.flip(0)), periodic)
    with pytest.raises(RuntimeError, match="larger `max_cell`"):
        graph(*batch._replace(cell=1.5 * batch.cell), periodic)
