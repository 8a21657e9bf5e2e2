"""Compiled kernels of dipoles and quadrupoles give the results of torch."""

from __future__ import annotations

import math

import mpmath
import pytest
import torch

from les import Ewald
from les.sums.cpu import library as native
from les.sums.method import Cells
from les.sums.plan import engine_for
from les.sums.reciprocal.cutoff import GreensFunction, cutoff_ends

pytestmark = pytest.mark.cpu_only("compiled kernels")

AXES = {"open": [False] * 3, "slab": [True, True, False], "crystal": [True] * 3}


def random(*shape, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)


def quadrupole(values):
    """What is symmetric and traceless of matrices."""
    values = 0.5 * (values + values.mT)
    trace = values.diagonal(dim1=-2, dim2=-1).mean(-1)
    return values - trace[..., None, None] * torch.eye(3, dtype=values.dtype)


def batch_of(kind, sizes=(1, 12, 21), channels=2):
    """Charges, positions, cells, dipoles and matrices, and batch index and periodic axes."""
    n_atoms, n = sum(sizes), len(sizes)
    cell = torch.diag(torch.tensor([6.0, 4.0, 9.0])).double() + random(n, 3, 3, scale=0.4)
    positions = random(n_atoms, 3, seed=1, scale=4.0)
    arguments = (
        random(n_atoms, channels, seed=2),
        positions * (0.25 if kind == "slab" else 1.0),
        cell * (0.0 if kind == "open" else 1.0),
        random(n_atoms, channels, 3, seed=3, scale=0.5),
        random(n_atoms, channels, 3, 3, seed=4, scale=0.3),
    )
    owner = torch.arange(n).repeat_interleave(torch.tensor(sizes))
    return arguments, owner, torch.tensor([AXES[kind]]).repeat(n, 1)


def evaluate(ewald, arguments, batch, pbc, with_quadrupoles):
    """Energies and what atoms feel, as functions of all arguments."""
    q, r, a, u, *rest = arguments
    quadrupoles = quadrupole(rest[0]) if with_quadrupoles else None
    energy, fields = ewald.multipoles(
        q, r, a, batch, pbc, dipoles=u, quadrupoles=quadrupoles, compute_fields=True
    )
    return [energy, *(value for value in fields if value is not None)]


def derivatives_of(ewald, arguments, batch, pbc, with_quadrupoles):
    """Energies, what atoms feel, and first and second derivatives of both."""
    leaves = [value.clone().requires_grad_() for value in arguments[: 4 + with_quadrupoles]]
    found = evaluate(ewald, leaves, batch, pbc, with_quadrupoles)
    unused = {"allow_unused": True, "materialize_grads": True}  # cells of open structures
    first = torch.autograd.grad(found[0].square().sum(), leaves, create_graph=True, **unused)
    loss = sum(value.square().sum() for value in (*first, *found[1:]))
    return [*found, *first, *torch.autograd.grad(loss, leaves, **unused)]


@pytest.mark.parametrize("remove_self_interaction", [True, False])
@pytest.mark.parametrize("with_quadrupoles", [False, True])
@pytest.mark.parametrize("kind", AXES)
def test_all_derivatives(
    compiled, monkeypatch, kind, with_quadrupoles, remove_self_interaction, dtype
):
    """Structures of different size, with channels, in cells of any shape."""
    exact, batch, pbc = batch_of(kind)
    ewald = Ewald(
        sigma=1.1,
        dl=2.1,
        method="direct",
        remove_self_interaction=remove_self_interaction,
    )
    arguments = [value.to(dtype) for value in exact]
    found = derivatives_of(ewald, arguments, batch, pbc, with_quadrupoles)
    monkeypatch.setenv(native.SWITCH, "0")
    # Torch in float64 also tells what float32 loses.
    exact = [value.double() for value in arguments]
    expected = derivatives_of(ewald, exact, batch, pbc, with_quadrupoles)
    rounding = 1e-11 if dtype == torch.float64 else 1e-4
    for value, target in zip(found, expected, strict=True):
        assert value.dtype == dtype and value.shape == target.shape
        assert (value - target).abs().max() <= rounding * target.abs().max()


@pytest.mark.parametrize("with_quadrupoles", [False, True])
@pytest.mark.parametrize("kind", AXES)
def test_third_derivatives(compiled, kind, with_quadrupoles):
    """Torch has those beyond what kernels have."""
    arguments, _, pbc = batch_of(kind, sizes=(3,), channels=1)
    ewald = Ewald(sigma=1.1, dl=3.5, method="direct")
    leaves = [value.requires_grad_() for value in arguments[: 4 + with_quadrupoles]]
    moving = leaves if kind != "open" else [leaves[0], leaves[1], *leaves[3:]]

    def first(*leaves):
        all_ = leaves if kind != "open" else (*leaves[:2], arguments[2], *leaves[2:])
        found = evaluate(ewald, all_, None, pbc, with_quadrupoles)
        return *found, *torch.autograd.grad(found[0].sum(), leaves, create_graph=True)

    assert torch.autograd.gradcheck(first, moving, fast_mode=True)
    assert torch.autograd.gradgradcheck(first, moving, fast_mode=True)


@pytest.mark.parametrize("kind", AXES)
def test_a_batch_is_its_structures(compiled, kind):
    """Also where there are more threads than structures, or structures than threads."""
    arguments, batch, pbc = batch_of(kind)
    ewald, start = Ewald(method="direct"), 0
    together = evaluate(ewald, arguments, batch, pbc, True)
    for structure, size in enumerate(torch.bincount(batch).tolist()):
        atoms = slice(start, start + size)
        own = [
            value[structure : structure + 1] if i == 2 else value[atoms]
            for i, value in enumerate(arguments)
        ]
        alone = evaluate(ewald, own, None, pbc[:1], True)
        torch.testing.assert_close(together[0][structure], alone[0][0], rtol=1e-12, atol=1e-11)
        for value, expected in zip(together[1:], alone[1:], strict=True):
            torch.testing.assert_close(value[atoms], expected, rtol=1e-11, atol=1e-11)
        start += size


@pytest.mark.parametrize("kind", ["open", "crystal"])
def test_threads(compiled, monkeypatch, kind):
    ewald = Ewald(method="direct")
    cases = [batch_of(kind, sizes) for sizes in ((30,), (4,) * 17)]
    expected = [derivatives_of(ewald, *case, True) for case in cases]
    monkeypatch.setattr("les.sums.cpu.threads.WORK_OF_A_THREAD", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    for case, targets in zip(cases, expected, strict=True):
        for value, target in zip(derivatives_of(ewald, *case, True), targets, strict=True):
            scale = target.abs().max().item()
            torch.testing.assert_close(value, target, rtol=0.0, atol=1e-12 * scale)


def test_interactions_at_all_distances(compiled, unit_ewald):
    """Two quadrupoles along a line feel the fourth derivative of the interaction, to all digits."""
    distances = torch.cat([torch.logspace(-2, 2, 60), torch.linspace(0.5, 4.0, 60)]).double()
    n = len(distances)
    positions = torch.zeros(n, 2, 3, dtype=torch.float64)
    positions[:, 1, 2] = distances
    axial = torch.diag(torch.tensor([-1.0, -1.0, 2.0])).double() / 3.0
    energy, _ = unit_ewald(sigma=math.sqrt(0.5)).multipoles(
        torch.zeros(2 * n, dtype=torch.float64),
        positions.flatten(0, 1),
        batch=torch.arange(n).repeat_interleave(2),
        quadrupoles=axial.repeat(2 * n, 1, 1),
    )
    with mpmath.workdps(60):
        exact = []
        for x in distances.tolist():
            r2 = mpmath.mpf(x) ** 2
            # g_n = (1/r d/dr)^n erf(r)/r by incomplete gamma functions.
            boys = [
                mpmath.gammainc(n + mpmath.mpf(1) / 2, 0, r2) / (2 * r2 ** (n + mpmath.mpf(1) / 2))
                for n in range(5)
            ]
            g = [2 / mpmath.sqrt(mpmath.pi) * (-2) ** n * value for n, value in enumerate(boys)]
            # A quarter of Q:dd Q:dd, with Q.d = 2/3 d and d.Q.d = 2/3 r^2, Q:Q = 2/3.
            third = mpmath.mpf(2) / 3
            exact.append(
                float((2 * third * g[2] + 4 * third**2 * r2 * g[3] + third**2 * r2**2 * g[4]) / 4)
            )
    expected = torch.tensor(exact, dtype=torch.float64)
    # The three terms cancel.
    assert ((energy - expected) / expected).abs().max() < 1e-11


def test_waves_of_sources(compiled, monkeypatch):
    """Without a cell: sums over waves with weights, as slabs have them."""
    from les.sums.direct import sum_over_cells

    arguments, _, _ = batch_of("crystal", (5,), 1)
    q, r, a = arguments[0].t().unsqueeze(0), arguments[1].unsqueeze(0), arguments[2]
    sources = torch.cat([q, random(1, 9, 5, seed=7)], dim=1)
    greens = GreensFunction(1.0, *cutoff_ends(3.0, True))
    cells = Cells(sources, r, a, None, (3, 2, 4), 10)
    found = sum_over_cells(cells, greens, engine_for(r.device, r.dtype), True)
    monkeypatch.setenv(native.SWITCH, "0")
    expected = sum_over_cells(cells, greens, engine_for(r.device, r.dtype), True)
    for value, target in zip(found, expected, strict=True):
        torch.testing.assert_close(value, target, rtol=1e-11, atol=1e-11)
