"""Induced charges and dipoles: in one step as published, and those that minimise the energy."""

from __future__ import annotations

import pytest
import torch

from les import Ewald
from les.conjugate_gradients import Convergence
from les.induced import checked_response
from les.multipoles import checked_moments, multipole_energies
from les.response_solver import Dual, Surroundings
from les.self_consistent import polarisabilities, self_consistent_energies

FLOAT = torch.float64

#: All directions at once, and none of the checks of how gradients are passed on.
FAST = {"fast_mode": True, "atol": 1e-4, "check_undefined_grad": False}


@pytest.fixture
def system(make_system):
    """Makes molecules and crystals of atoms that respond, and all leaves of their energy."""

    def make(kind="open", n_atoms=5, anisotropic=False, seed=0):
        charges, positions, cell = make_system(kind, n_atoms, seed=seed)
        generator = torch.Generator().manual_seed(seed + 1)

        def random(*shape):
            return torch.rand(*shape, dtype=FLOAT, generator=generator)

        alphas = 0.02 + 0.02 * random(n_atoms)
        if anisotropic:
            factor = random(n_atoms, 3, 3)
            alphas = 0.02 * factor @ factor.mT
        kappas = 0.01 + 0.02 * random(n_atoms)
        return charges, positions, cell, 0.3 * random(n_atoms, 3), kappas, alphas

    return make


def energies(charges, positions, cell, dipoles, kappas, alphas, field=None, **options):
    settings = Ewald(**{"dl": 3.0, **options}).settings()
    batch = torch.zeros(len(positions), dtype=torch.long)
    moments = checked_moments(charges, positions, dipoles)
    response = checked_response(moments, kappas, alphas)
    external = None if field is None else field.expand(len(positions), 3)
    around = Surroundings(settings, batch, None, 1, Convergence(1e-11))
    return self_consistent_energies(around, moments, response, positions, cell, external)


@pytest.mark.parametrize(("kind", "anisotropic"), [("open", True), ("triclinic", False)])
def test_derivatives(system, check_gradients, kind, anisotropic):
    """Forces, stress, derivatives to moments and responses, and second ones of all of them."""
    inputs = [x.requires_grad_() for x in system(kind, 3, anisotropic)]

    def symmetric(*leaves):
        *others, alphas = leaves
        alphas = 0.5 * (alphas + alphas.mT) if anisotropic else alphas
        return energies(*others, alphas)[0]

    check_gradients(symmetric, inputs, **FAST)


def test_derivatives_in_a_field(system, check_gradients):
    field = torch.tensor([0.3, -0.2, 0.5], dtype=FLOAT)
    inputs = [x.requires_grad_() for x in (*system("open", 3), field)]
    check_gradients(lambda *leaves: energies(*leaves)[0], inputs, **FAST)


def test_induced_moments_have_derivatives(system, check_gradients):
    """So that models can be trained on what follows from them."""
    inputs = [x.requires_grad_() for x in system("open", 3)]

    def dipoles(*leaves):
        return energies(*leaves)[1].dipoles

    check_gradients(dipoles, inputs, **FAST)


@pytest.mark.parametrize("kind", ["open", "cubic"])
def test_it_is_the_minimum(system, kind):
    """Other moments have a larger energy, as far as the charges keep their sum."""
    charges, positions, cell, dipoles, kappas, alphas = system(kind)
    energy, induced = energies(charges, positions, cell, dipoles, kappas, alphas)
    settings = Ewald(dl=3.0).settings()

    def at(more_charges, more_dipoles):
        q, u = induced.charges + more_charges, induced.dipoles + more_dipoles
        moments = checked_moments(charges + q, positions, dipoles + u)
        inner = (q**2 / kappas).sum() + (u**2 / alphas.unsqueeze(1)).sum()
        return multipole_energies(settings, moments, positions, cell)[0] + 0.5 * inner

    nothing = torch.zeros(5, dtype=FLOAT), torch.zeros(5, 3, dtype=FLOAT)
    torch.testing.assert_close(at(*nothing), energy, rtol=1e-12, atol=1e-12)
    assert induced.charges.sum().abs() < 1e-12
    torch.testing.assert_close(induced.atom_energies.sum(), energy[0], rtol=1e-10, atol=1e-10)
    generator = torch.Generator().manual_seed(3)
    for size in (1e-2, 1e-3):
        for _ in range(5):
            q = size * torch.randn(5, dtype=FLOAT, generator=generator)
            u = size * torch.randn(5, 3, dtype=FLOAT, generator=generator)
            more = at(q - q.mean(), u) - energy
            assert 0.0 < more.item() < 1e3 * size**2


def test_a_batch_has_what_its_structures_have(system, join):
    """Molecules and crystals, one of which does not respond at all."""
    systems = [system("open", 4), system("triclinic", 7, seed=2), system("open", 1, seed=3)]
    systems[1] = (*systems[1][:4], 0 * systems[1][4], 0 * systems[1][5])
    charges, positions, cell, batch = join([parts[:3] for parts in systems])
    dipoles, kappas, alphas = (torch.cat([s[i] for s in systems]) for i in (3, 4, 5))
    moments = checked_moments(charges, positions, dipoles)
    around = Surroundings(Ewald(dl=3.0).settings(), batch, None, 3, Convergence(1e-11))
    response = checked_response(moments, kappas, alphas)
    energy, induced = self_consistent_energies(around, moments, response, positions, cell)
    found = [energies(*parts) for parts in systems]
    torch.testing.assert_close(energy, torch.cat([e for e, _ in found]))
    torch.testing.assert_close(induced.dipoles, torch.cat([x.dipoles for _, x in found]))
    permanent, _ = multipole_energies(
        Ewald(dl=3.0).settings(), checked_moments(*systems[1][:2], systems[1][3]), *systems[1][1:3]
    )
    torch.testing.assert_close(energy[1:2], permanent)


def test_two_atoms_enhance_each_other(unit_ewald):
    """Along their axis 2 a / (1 - 2 a / r^3), across it 2 a / (1 + a / r^3)."""
    a, r = 0.4, 12.0
    positions = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, r]], dtype=FLOAT)
    moments = checked_moments(torch.zeros(2, dtype=FLOAT), positions)
    response = checked_response(moments, None, torch.full((2,), a, dtype=FLOAT))
    around = Surroundings(unit_ewald().settings(), torch.zeros(2, dtype=torch.long), None, 1)
    cell = torch.zeros(1, 3, 3, dtype=FLOAT)
    found = polarisabilities(around, response, positions, cell)[0]
    across, along = 2 * a / (1 + a / r**3), 2 * a / (1 - 2 * a / r**3)
    expected = torch.diag(torch.tensor([across, across, along], dtype=FLOAT))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_polarisability_is_the_second_derivative(system):
    charges, positions, cell, dipoles, kappas, alphas = system()
    field = torch.zeros(3, dtype=FLOAT, requires_grad=True)
    energy, _ = energies(charges, positions, cell, dipoles, kappas, alphas, field)
    (dipole,) = torch.autograd.grad(-energy.sum(), field, create_graph=True)
    rows = [torch.autograd.grad(x, field, retain_graph=True)[0] for x in dipole]
    moments = checked_moments(charges, positions, dipoles)
    around = Surroundings(
        Ewald().settings(), torch.zeros(5, dtype=torch.long), None, 1, Convergence(1e-13)
    )
    found = polarisabilities(around, checked_response(moments, kappas, alphas), positions, cell)
    torch.testing.assert_close(found[0], torch.stack(rows), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found[0], found[0].mT, rtol=1e-9, atol=1e-9)
    assert torch.linalg.eigvalsh(found[0]).min() > 0


def test_polarisation_catastrophe(system):
    """Atoms that polarise each other without end; not where the self energy is part of it."""
    charges, positions, cell, dipoles, kappas, alphas = system()
    with pytest.raises(RuntimeError, match="polarisation catastrophe in structure 0"):
        energies(charges, positions, cell, dipoles, kappas, 1e3 * alphas)
    energies(charges, positions, cell, dipoles, None, 1e3 * alphas, remove_self_interaction=False)


@pytest.mark.parametrize("charges", [(1.0, -1.0), (1.0, 1.0), (0.0, 0.0)])
@pytest.mark.parametrize("alpha", [2.0, 5.0])
def test_a_catastrophe_that_symmetry_hides(charges, alpha):
    """Equal charges induce opposite dipoles, which are stable; parallel ones are not."""
    positions = torch.tensor([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0]], dtype=FLOAT)
    q, cell = torch.tensor(charges, dtype=FLOAT), torch.zeros(1, 3, 3, dtype=FLOAT)
    dipoles, alphas = torch.zeros_like(positions), torch.full_like(q, alpha)
    structure = (q, positions, cell, dipoles, None)
    with pytest.raises(RuntimeError, match="polarisation catastrophe in structure 0"):
        energies(*structure, alphas)
    energies(*structure, 0.01 * alphas)


def test_a_drive_that_is_no_number_is_not_converged(system):
    _, positions, cell, _, kappas, alphas = system()
    batch = torch.zeros(len(positions), dtype=torch.long)
    around = Surroundings(Ewald().settings(), batch, None, 1)
    drive = torch.full((len(positions), 4), torch.nan, dtype=FLOAT)
    with pytest.raises(RuntimeError, match="structure 0 feel is no finite number"):
        Dual.apply(drive, kappas, alphas, positions, cell, around)


@pytest.mark.parametrize(
    ("place", "spoilt", "message"),
    [
        (4, lambda x: -x, "`kappas` must not be negative"),
        (5, lambda x: torch.diag_embed(torch.stack([x, x, -x], 1)), "`alphas` must not be negat"),
        (5, lambda x: x[:, None], r"`alphas` must have shape \[5\] or \[5, 3, 3\]"),
        (5, lambda x: x.log() * float("inf"), "`alphas` must be finite"),
        (
            5,
            lambda x: x[:, None, None] * torch.ones(3, 3).triu(),
            "`alphas` must be symmetric, got .* of atom 0",
        ),
    ],
)
def test_bad_responses(system, place, spoilt, message):
    inputs = list(system())
    inputs[place] = spoilt(inputs[place]).to(FLOAT)
    with pytest.raises(ValueError, match=message):
        energies(*inputs)


def test_charges_do_not_flow_through_crystals_in_a_field(system):
    field = torch.ones(3, dtype=FLOAT)
    with pytest.raises(ValueError, match=r"structure 0 is periodic.*`kappas`"):
        energies(*system("cubic"), field)
