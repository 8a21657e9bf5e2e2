"""Dipoles and quadrupoles as sources of the sum: against small charges, and derivatives."""

from __future__ import annotations

import math

import pytest
import torch

from les import Ewald
from les.sums import plan

KINDS = ("cubic", "triclinic", "left_handed", "open", "slab")


def moments_of(n_atoms, channels=None, seed=1, dtype=torch.float64):
    """Random dipoles and traceless quadrupoles."""
    generator = torch.Generator().manual_seed(seed)
    shape = (n_atoms,) if channels is None else (n_atoms, channels)
    dipoles = torch.randn(*shape, 3, dtype=torch.float64, generator=generator)
    q = torch.randn(*shape, 3, 3, dtype=torch.float64, generator=generator)
    q = 0.3 * traceless(q + q.transpose(-1, -2))
    return (0.5 * dipoles).to(dtype), q.to(dtype)


def traceless(values):
    """Without the trace of the last two dimensions, which nothing depends on."""
    trace = values.diagonal(dim1=-2, dim2=-1).mean(-1)
    return values - trace[..., None, None] * torch.eye(3, dtype=values.dtype)


@pytest.fixture
def system(make_system):
    """Makes structures with multipoles and their periodic axes."""

    def make(kind, n_atoms=6, channels=None, dtype=torch.float64, seed=0):
        name = "cubic" if kind == "slab" else kind
        charges, positions, cell = make_system(name, n_atoms, dtype, channels, seed=seed)
        axes = {"open": [False] * 3, "slab": [True, True, False]}.get(kind, [True] * 3)
        dipoles, quadrupoles = moments_of(n_atoms, channels, seed + 1, dtype)
        return charges, positions, cell, torch.tensor([axes]), dipoles, quadrupoles

    return make


@pytest.mark.parametrize("method", ["direct", "mesh"])
@pytest.mark.parametrize("kind", KINDS)
def test_they_are_clusters_of_charges(system, kind, method):
    """A multipole is the limit of charges close to one another, along whose axes it is."""
    charges, positions, cell, pbc, dipoles, quadrupoles = system(kind)
    ewald = Ewald(method=method, remove_self_interaction=False)
    energy, _ = ewald.multipoles(
        charges, positions, cell, None, pbc, dipoles=dipoles, quadrupoles=quadrupoles
    )
    h = 1e-2  # errors are of second order, and rounding of minus fourth
    values, axes = torch.linalg.eigh(quadrupoles)
    steps = torch.eye(3) * h
    places, amounts = [positions], [charges - values.sum(1) / h**2]
    for axis in range(3):
        for sign in (1.0, -1.0):
            places.append(positions + sign * steps[axis])
            amounts.append(sign * dipoles[:, axis] / (2.0 * h))
            places.append(positions + sign * h * axes[:, :, axis])
            amounts.append(0.5 * values[:, axis] / h**2)
    expected, _ = ewald(torch.cat(amounts), torch.cat(places), cell, None, pbc)
    assert energy.item() == pytest.approx(expected.item(), rel=2e-4)


@pytest.mark.parametrize("method", ["direct", "mesh"])
@pytest.mark.parametrize("with_quadrupoles", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_derivatives(system, check_gradients, kind, with_quadrupoles, method):
    """Forces, cells, moments, and second derivatives, which training on forces needs."""
    charges, positions, cell, pbc, dipoles, quadrupoles = system(kind, 4)
    inputs = [charges, positions, cell, dipoles] + [quadrupoles] * with_quadrupoles
    ewald = Ewald(method=method, dl=3.0)

    def energy(q, r, a, u, *rest):
        q2 = None
        if rest:  # only what is traceless and symmetric is a quadrupole
            q2 = traceless(0.5 * (rest[0] + rest[0].transpose(1, 2)))
        return ewald.multipoles(q, r, a, None, pbc, dipoles=u, quadrupoles=q2)[0]

    leaves = [value.clone().requires_grad_() for value in inputs]
    # Splines of order 8 have three continuous derivatives beyond these.
    check_gradients(energy, leaves, fast_mode=True, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_fields_are_derivatives(system, kind, tolerance, dtype):
    charges, positions, cell, pbc, dipoles, quadrupoles = system(kind, dtype=dtype)
    leaves = [value.requires_grad_() for value in (charges, dipoles, quadrupoles)]
    energy, fields = Ewald().multipoles(
        charges,
        positions,
        cell,
        None,
        pbc,
        dipoles=dipoles,
        quadrupoles=quadrupoles,
        compute_fields=True,
    )
    found = torch.autograd.grad(energy.sum(), leaves)
    found = (*found[:2], traceless(found[2]))
    expected = (fields.potential[:, 0], fields.gradient[:, 0], 0.5 * fields.second[:, 0])
    for value, other in zip(found, expected, strict=True):
        scale = other.detach().abs().max().item()
        torch.testing.assert_close(value, other, rtol=0.0, atol=10.0 * tolerance * scale)


@pytest.mark.parametrize("kind", KINDS)
def test_charges_alone(system, kind):
    """Moments of zero change nothing."""
    charges, positions, cell, pbc, dipoles, quadrupoles = system(kind)
    expected, _ = Ewald()(charges, positions, cell, None, pbc)
    found, _ = Ewald().multipoles(
        charges, positions, cell, None, pbc, dipoles=0 * dipoles, quadrupoles=0 * quadrupoles
    )
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    found, _ = Ewald().multipoles(charges, positions, cell, None, pbc)
    torch.testing.assert_close(found, expected, rtol=0.0, atol=0.0)


@pytest.mark.parametrize("method", ["auto", "mesh"])
def test_batches(system, join, method):
    """Crystals, slabs and molecules of all sizes in one batch, with three channels."""
    systems = [
        system(kind, n_atoms, 3, seed=seed)
        for seed, (kind, n_atoms) in enumerate(
            [("open", 3), ("triclinic", 11), ("slab", 5), ("open", 0), ("open", 40), ("cubic", 1)]
        )
    ]
    ewald = Ewald(method=method)
    charges, positions, cell, batch = join([parts[:3] for parts in systems])
    pbc, dipoles, quadrupoles = (torch.cat([s[i] for s in systems]) for i in (3, 4, 5))
    energy, fields = ewald.multipoles(
        charges,
        positions,
        cell,
        batch,
        pbc,
        dipoles=dipoles,
        quadrupoles=quadrupoles,
        compute_fields=True,
    )
    start = 0
    for structure, (q, r, a, axes, u, q2) in enumerate(systems):
        if len(q) == 0:
            assert energy[structure] == 0.0
            continue
        alone, felt = ewald.multipoles(
            q, r, a, None, axes, dipoles=u, quadrupoles=q2, compute_fields=True
        )
        torch.testing.assert_close(energy[structure], alone[0], rtol=1e-10, atol=1e-10)
        for value, own in zip(fields, felt, strict=True):
            torch.testing.assert_close(value[start : start + len(q)], own, rtol=1e-9, atol=1e-9)
        start += len(q)


@pytest.mark.parametrize("kind", KINDS)
def test_float32(system, kind):
    arguments = system(kind, 20)
    energies = []
    for dtype in (torch.float32, torch.float64):
        q, r, a, pbc, u, q2 = (x.to(dtype) if x.is_floating_point() else x for x in arguments)
        energies.append(Ewald().multipoles(q, r, a, None, pbc, dipoles=u, quadrupoles=q2)[0])
    assert energies[0].item() == pytest.approx(energies[1].item(), rel=2e-5)


def test_open_mesh(random_box, monkeypatch, deviation):
    """The mesh of large molecules has what the pairs of multipoles have."""
    charges, positions, _ = random_box(100)
    dipoles, quadrupoles = moments_of(100)
    found = []
    for method in ("direct", "auto"):
        leaves = [x.clone().requires_grad_() for x in (positions, dipoles, quadrupoles)]
        energy, fields = Ewald(method=method).multipoles(
            charges, leaves[0], dipoles=leaves[1], quadrupoles=leaves[2], compute_fields=True
        )
        *others, of_quadrupoles = torch.autograd.grad(energy.sum(), leaves)
        found.append([energy, fields.second, *others, traceless(of_quadrupoles)])
        monkeypatch.setattr(plan, "WORTH_A_MESH", {True: (0, 1e9), False: (0, 1e9)})
    for value, expected in zip(*reversed(found), strict=True):
        assert 1e-12 < deviation(value, expected) < 1e-4


def test_energies_turn_with_a_structure(system, rotation):
    charges, positions, cell, pbc, dipoles, quadrupoles = system("triclinic")
    ewald, turn = Ewald(), rotation()
    energy, _ = ewald.multipoles(
        charges, positions, cell, None, pbc, dipoles=dipoles, quadrupoles=quadrupoles
    )
    again, _ = ewald.multipoles(
        charges,
        positions @ turn,
        cell @ turn,
        None,
        pbc,
        dipoles=dipoles @ turn,
        quadrupoles=turn.T @ quadrupoles @ turn,
    )
    torch.testing.assert_close(energy, again, rtol=1e-11, atol=1e-11)


def test_two_dipoles_far_apart(unit_ewald):
    """Two dipoles on a line: -2 u1 u2 / r^3; a quadrupole and a charge: q Q_zz / (2 r^3)."""
    positions = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 30.0]], dtype=torch.float64)
    none = torch.zeros(2, dtype=torch.float64)
    dipoles = torch.zeros(2, 3, dtype=torch.float64)
    dipoles[:, 2] = torch.tensor([0.5, 0.7])
    energy, _ = unit_ewald().multipoles(none, positions, dipoles=dipoles)
    assert energy.item() == pytest.approx(-2.0 * 0.35 / 30.0**3, rel=1e-12)
    quadrupoles = torch.zeros(2, 3, 3, dtype=torch.float64)
    quadrupoles[0] = torch.diag(torch.tensor([-0.5, -0.5, 1.0]))
    charges = torch.tensor([0.0, 2.0], dtype=torch.float64)
    energy, _ = unit_ewald().multipoles(charges, positions, quadrupoles=quadrupoles)
    # Of the potential q / r the second derivative along the line is 2 q / r^3, across -q / r^3.
    expected = 2.0 * 0.5 * (1.0 * 2.0 + 0.5 * 1.0 * 2.0) / 30.0**3
    assert energy.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kind", ["dipoles", "quadrupoles"])
def test_two_atoms_at_the_same_place(kind):
    positions = torch.tensor([[0.0, 0.0, 1.0], [2.0, 0.0, 0.0], [0.0, 0.0, 1.0]]).double()
    charges = torch.tensor([1.0, -1.0, 0.5]).double()
    shape = (3, 3) if kind == "dipoles" else (3, 3, 3)
    with pytest.raises(ValueError, match="`positions` must differ, got atoms 0 and 2 of an open"):
        Ewald().multipoles(charges, positions, **{kind: torch.zeros(shape).double()})


def test_itself(unit_ewald):
    """What a dipole and a quadrupole do to themselves, of one atom in vacuum."""
    nothing, position = torch.zeros(1, dtype=torch.float64), torch.zeros(1, 3, dtype=torch.float64)
    dipoles, quadrupoles = moments_of(1)
    sigma = 1.3
    ewald = unit_ewald(sigma=sigma, remove_self_interaction=False)
    energy, _ = ewald.multipoles(nothing, position, dipoles=dipoles)
    unit = math.sqrt(2.0 * math.pi)
    assert energy.item() == pytest.approx(dipoles.square().sum().item() / (3 * sigma**3 * unit))
    energy, _ = ewald.multipoles(nothing, position, quadrupoles=quadrupoles)
    expected = quadrupoles.square().sum().item() / (10 * sigma**5 * unit)
    assert energy.item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "spoilt", "message"),
    [
        ("quadrupoles", lambda q: q + torch.eye(3), "traceless"),
        ("quadrupoles", lambda q: q + torch.tensor([[0, 1.0, 0], [0] * 3, [0] * 3]), "symmetric"),
        ("quadrupoles", lambda q: q[:, 0], r"shape \[6, 3, 3\]"),
        ("dipoles", lambda u: u[:-1], r"shape \[6, 3\]"),
        ("dipoles", lambda u: u * math.nan, "must be finite"),
        ("dipoles", lambda u: u.float(), "dtype"),
    ],
)
def test_bad_moments(system, name, spoilt, message):
    charges, positions, cell, pbc, dipoles, quadrupoles = system("cubic")
    moments = {"dipoles": dipoles, "quadrupoles": quadrupoles}
    moments[name] = spoilt(moments[name])
    with pytest.raises((ValueError, TypeError), match=f"`{name}`.*{message}"):
        Ewald().multipoles(charges, positions, cell, None, pbc, **moments)
