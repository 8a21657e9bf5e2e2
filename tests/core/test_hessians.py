"""Second derivatives by all ways that torch has, of all boundary conditions and methods."""

from __future__ import annotations

import pytest
import torch

from les import Ewald
from les.sums.crossover import WORTH_A_MESH

PBC = {"open": [False] * 3, "slab": [True, True, False], "crystal": [True] * 3}
N_ATOMS = 4


@pytest.fixture(params=["kernels", "torch"])
def _kernels(request, monkeypatch):
    monkeypatch.setenv("LES_NATIVE", "1" if request.param == "kernels" else "0")


@pytest.fixture
def energy(make_system, monkeypatch):
    """Makes energies as functions of positions, and positions; charges depend on positions."""

    def make(kind, method="direct", evaluate=None):
        if kind == "open" and method == "mesh":
            for native in (True, False):
                monkeypatch.setitem(WORTH_A_MESH, native, (2, 1e12))
        charges, positions, cell = make_system("triclinic", N_ATOMS)
        pbc = torch.tensor([PBC[kind]])
        module = evaluate or Ewald(method=method if kind != "open" else "auto", dl=2.5)

        def function(positions, cell=cell):
            q = charges * (1.0 + 0.1 * torch.sin(positions[:, 0]))
            return module(q, positions, cell, None, pbc)[0].sum()

        return function, positions, cell

    return make


def finite_differences(function, positions, step=1e-4):
    """The Hessian, from gradients."""

    def gradient(r):
        leaf = r.clone().requires_grad_()
        return torch.autograd.grad(function(leaf), leaf)[0]

    rows = [
        (gradient(positions + step * row) - gradient(positions - step * row)) / (2.0 * step)
        for row in identity()
    ]
    return torch.stack(rows)


def identity():
    return torch.eye(3 * N_ATOMS).double().view(-1, N_ATOMS, 3)


def slope_at(function, positions):
    leaf = positions.clone().requires_grad_()
    return torch.autograd.grad(function(leaf), leaf, create_graph=True)[0], leaf


def batched(function, positions):
    """As of codes that compute Hessians row by row, all at once."""
    slope, leaf = slope_at(function, positions)
    return torch.autograd.grad(slope, leaf, identity(), is_grads_batched=True)[0]


def vectorised(function, positions):
    slope, leaf = slope_at(function, positions)
    rows = torch.vmap(lambda row: torch.autograd.grad(slope, leaf, row, retain_graph=True)[0])
    return rows(identity())


def flattened(function, positions):
    """As of MACE, which flattens what must be contiguous for it."""
    slope, leaf = slope_at(function, positions)
    flat = slope.view(-1)
    rows = torch.vmap(lambda row: torch.autograd.grad(flat, leaf, row, retain_graph=True)[0])
    return rows(torch.eye(3 * N_ATOMS).double())


def forward_mode(function, positions):
    slope = torch.func.grad(function)
    return torch.stack([torch.func.jvp(slope, (positions,), (row,))[1] for row in identity()])


WAYS = {
    "functional": torch.autograd.functional.hessian,
    "batched": batched,
    "vectorised": vectorised,
    "flattened": flattened,
    "torch.func": lambda function, positions: torch.func.hessian(function)(positions),
    "reverse twice": lambda f, positions: torch.func.jacrev(torch.func.grad(f))(positions),
    "forward": forward_mode,
}


@pytest.mark.usefixtures("_kernels")
@pytest.mark.parametrize("method", ["direct", "mesh"])
@pytest.mark.parametrize("kind", PBC)
def test_hessians(energy, kind, method):
    function, positions, _ = energy(kind, method)
    expected = finite_differences(function, positions)
    for way, hessian in WAYS.items():
        found = hessian(function, positions).view_as(expected)
        message = f"{way}: {{}}".format
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6, msg=message)


@pytest.mark.usefixtures("_kernels", "forget_tables")
@pytest.mark.parametrize("method", ["direct", "mesh"])
@pytest.mark.parametrize("kind", PBC)
@pytest.mark.parametrize("way", ["torch.func", "reverse twice", "forward"])
def test_hessians_in_a_new_process(energy, kind, method, way):
    """What the first call keeps for later ones must not be of the transform that it ran in."""
    function, positions, _ = energy(kind, method)
    first = WAYS[way](function, positions)
    torch.testing.assert_close(WAYS[way](function, positions), first)
    expected = WAYS["functional"](function, positions).view_as(first)
    torch.testing.assert_close(first, expected)


@pytest.mark.parametrize("kind", PBC)
@pytest.mark.parametrize("form", ["scripted", "operator"])
def test_hessians_of_other_forms(energy, kind, form):
    module = Ewald(dl=2.5)
    expected = WAYS["functional"](*energy(kind, evaluate=module)[:2]).view(-1, N_ATOMS, 3)
    scripted = torch.jit.script(module)

    def operator(*arguments):
        return module.by_operator(*arguments, False)

    function, positions, _ = energy(kind, evaluate=scripted if form == "scripted" else operator)
    for _ in range(3):  # the second and third call run what the profiler of TorchScript made of it
        for way in ("batched", "vectorised", "flattened"):
            torch.testing.assert_close(WAYS[way](function, positions), expected)


@pytest.mark.usefixtures("_kernels")
@pytest.mark.parametrize("kind", ["slab", "crystal"])
@pytest.mark.parametrize("method", ["direct", "mesh"])
def test_forward_mode_in_cells(energy, kind, method):
    """Also where no cell requires gradients."""
    function, positions, cell = energy(kind, method)
    leaf = cell.clone().requires_grad_()
    (expected,) = torch.autograd.grad(function(positions, leaf), leaf)
    found = torch.func.jacfwd(lambda cell: function(positions, cell))(cell)
    torch.testing.assert_close(found, expected)
    direction = torch.cos(cell)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(cell, direction)
        tangent = torch.autograd.forward_ad.unpack_dual(function(positions, dual)).tangent
    torch.testing.assert_close(tangent, (expected * direction).sum())


@pytest.mark.usefixtures("_kernels")
@pytest.mark.parametrize("method", ["direct", "mesh"])
@pytest.mark.parametrize("kind", PBC)
def test_forward_mode_of_potentials(make_system, monkeypatch, kind, method):
    """And of gradients that are differentiated again."""
    charges, positions, cell = make_system("triclinic", N_ATOMS)
    pbc = torch.tensor([PBC[kind]])
    module = Ewald(method=method if kind != "open" else "auto", dl=2.5)

    def function(charges, positions):
        return module(charges, positions, cell, None, pbc, True)[1].square().sum()

    both = charges, positions
    expected = torch.func.grad(function, (0, 1))(*both)
    found = torch.func.jacfwd(function, (0, 1))(*both)
    torch.testing.assert_close(found, expected)
    expected = torch.func.jacrev(torch.func.grad(function, 1), 1)(*both)
    found = torch.func.jacfwd(torch.func.grad(function, 1), 1)(*both)
    torch.testing.assert_close(found, expected)


@pytest.mark.usefixtures("_kernels")
@pytest.mark.parametrize("kind", ["open", "slab", "crystal", "mixed"])
@pytest.mark.parametrize("method", ["direct", "mesh"])
@pytest.mark.parametrize("sizes", [(5,), (4, 4), (4, 7), (3, 4, 60)])
def test_forces_are_contiguous(make_system, join, kind, method, sizes):
    kinds = ["open", "crystal", "slab"] if kind == "mixed" else [kind] * 3
    systems = [make_system("triclinic", n, seed=n) for n in sizes]
    charges, positions, cell, batch = join(systems)
    pbc = torch.tensor([PBC[name] for name in kinds[: len(sizes)]])
    positions.requires_grad_()
    energy = Ewald(method=method, dl=2.5)(charges, positions, cell, batch, pbc)[0]
    for create_graph in (False, True):
        options = {"retain_graph": True, "create_graph": create_graph}
        assert torch.autograd.grad(energy.sum(), positions, **options)[0].is_contiguous()


@pytest.mark.usefixtures("_kernels")
@pytest.mark.parametrize("kind", PBC)
@pytest.mark.parametrize("name", ["charges", "positions", "cell"])
def test_vectorised_arguments_are_refused(make_system, kind, name):
    """In words that say what to do instead."""
    system, pbc = make_system("triclinic", N_ATOMS)._asdict(), torch.tensor([PBC[kind]])
    module = Ewald(dl=2.5)

    def function(value):
        return module(**{**system, name: value}, pbc=pbc)[0]

    for transformed in (function, torch.func.grad(lambda value: function(value).sum())):
        with pytest.raises(NotImplementedError, match=f"over `{name}` .* as one `batch`"):
            torch.vmap(transformed)(torch.stack([system[name]] * 2))


def test_vectorised_arguments_of_the_operator_are_refused(make_system):
    charges, positions, cell = make_system("triclinic", N_ATOMS)
    module = Ewald(dl=2.5)
    with pytest.raises(NotImplementedError, match="give several structures as one `batch`"):
        torch.vmap(lambda r: module.by_operator(charges, r, cell, None, None, False)[0])(
            torch.stack([positions] * 2)
        )
