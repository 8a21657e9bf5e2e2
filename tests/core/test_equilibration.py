"""Charges that minimise the energy of their structure."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest
import torch

from les import Ewald, Les, LESConfig, born_effective_charges
from les.conjugate_gradients import Convergence
from les.equilibration import equilibrate
from les.long_range import CaptureLimits, captured_long_range, long_range
from les.structures import ChargeSums, Structures
from les.testing.derivatives import derivative
from les.units import NORM_FACTOR

K_E = NORM_FACTOR / (2.0 * math.pi)
KINDS = {
    "open": ([False] * 3, "direct"),
    "crystal": ([True] * 3, "direct"),
    "mesh": ([True] * 3, "mesh"),
    "slab": ([True, True, False], "direct"),
}
#: Of one atom with itself, beyond its hardness [eV/e^2].
SELF = 2.0 * K_E / math.sqrt(2.0 * math.pi)


def structure(kind, n=7, dtype=torch.float64, seed=3):
    """Electronegativities, hardnesses and places of the atoms of one structure."""
    generator = torch.Generator(device="cpu").manual_seed(seed)

    def random(*shape):
        return torch.rand(*shape, dtype=torch.float64, generator=generator).to(dtype)

    pbc = KINDS[kind][0]
    cell = torch.tensor([[6.0, 0.3, -0.7], [1.1, 6.4, 0.3], [-1.4, 0.9, 7.1]], dtype=dtype)
    positions = random(n, 3) @ cell
    batch = torch.zeros(n, dtype=torch.long)
    chi, eta = 20.0 * (random(n) - 0.5), 1.0 + 9.0 * random(n)
    return chi, eta, Structures(positions, cell[None], batch, torch.tensor([pbc]))


def settings(kind="open", **options):
    return Ewald(method=KINDS[kind][1], **options).settings()


def joined(parts):
    """Several structures as one batch."""
    sizes = torch.tensor([len(chi) for chi, *_ in parts])
    batch = torch.repeat_interleave(torch.arange(len(parts)), sizes)
    columns = zip(*([chi, eta, *structures] for chi, eta, structures in parts), strict=True)
    chi, eta, positions, cell, _, pbc = (torch.cat(values) for values in columns)
    return chi, eta, Structures(positions, cell, batch, pbc)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("total", [None, 1.5])
def test_dense_solution(kind, total, dtype):
    """The matrix of the sum, made column by column, and a dense solver."""
    chi, eta, structures = structure(kind, dtype=dtype)
    charge = None if total is None else torch.tensor([total])
    found = equilibrate(chi, eta, structures, settings(kind), ChargeSums(charge))
    n = len(chi)
    with_self = Ewald(method=KINDS[kind][1], remove_self_interaction=False)
    columns = [with_self(unit, *structures, True)[1] for unit in torch.eye(n).to(chi)]
    interaction = torch.stack(columns).double().cpu().numpy()
    chi, eta = chi.double().cpu().numpy(), eta.double().cpu().numpy()
    matrix = np.block(
        [[interaction + np.diag(eta), -np.ones((n, 1))], [np.ones((1, n)), np.zeros((1, 1))]]
    )
    q = np.linalg.solve(matrix, [*-chi, total or 0.0])[:n]
    rounding = 1e-7 if dtype == torch.float64 else 2e-5
    np.testing.assert_allclose(found.charges.cpu(), q, rtol=0, atol=rounding)
    energies = chi * q + 0.5 * eta * q**2 + 0.5 * q * (interaction @ q)
    assert float(found.atom_energies.sum()) == pytest.approx(energies.sum(), rel=10 * rounding)
    assert found.charges.sum().item() == pytest.approx(total or 0.0, abs=0.1 * rounding)
    assert found.charges.dtype == dtype
    assert 1 < int(found.iterations) <= n
    assert float(found.residual) <= 1e-8


@pytest.mark.parametrize("kind", KINDS)
def test_interaction_is_positive(kind):
    """On charges that sum to zero, with the self-interaction; without it, not."""
    structures = structure(kind, n=9)[2]
    lowest = []
    for removed in (False, True):
        ewald = Ewald(method=KINDS[kind][1], remove_self_interaction=removed)
        unit = torch.eye(9).to(structures.positions)
        rows = [ewald(one, *structures, True)[1] for one in unit]
        projector = unit - 1.0 / 9.0
        lowest.append(torch.linalg.eigvalsh(projector @ torch.stack(rows) @ projector)[0].item())
    assert lowest[0] > -1e-6
    assert lowest[1] < -1.0


def test_two_atoms():
    """Charges are -(chi_1 - chi_2) / (eta_1 + eta_2 + 2 (self - interaction))."""
    distance = 2.3
    chi, eta = torch.tensor([3.0, -1.0]).double(), torch.tensor([5.0, 8.0]).double()
    positions = torch.tensor([[0.0, 0.0, 0.0], [0.0, distance, 0.0]], dtype=torch.float64)
    nowhere, one = torch.zeros(1, 3, 3).double(), torch.zeros(2, dtype=torch.long)
    found = equilibrate(chi, eta, Structures(positions, nowhere, one, None), settings())
    between = K_E * math.erf(distance / math.sqrt(2.0)) / distance
    hardness = 5.0 + 8.0 + 2.0 * (SELF - between)
    expected = -4.0 / hardness
    torch.testing.assert_close(found.charges, torch.tensor([expected, -expected]).double())
    assert found.atom_energies.sum().item() == pytest.approx(-0.5 * 16.0 / hardness, rel=1e-12)


def test_hard_atoms():
    """Where hardness is large it alone decides, about the mean electronegativity."""
    chi, _, structures = structure("crystal")
    eta = torch.linspace(1e6, 3e6, 7, dtype=torch.float64)
    found = equilibrate(chi, eta, structures, settings())
    mean = (chi / eta).sum() / (1.0 / eta).sum()
    torch.testing.assert_close(found.charges, (mean - chi) / eta, rtol=0, atol=1e-9)


def test_nothing_to_equilibrate():
    """A single atom has its total charge; equal ones share it; no atoms, no charges."""
    single = structure("open", n=1)
    found = equilibrate(*single, settings(), ChargeSums(torch.tensor([-1.0])))
    assert found.charges.tolist() == [-1.0]
    expected = -single[0] + 0.5 * (single[1] + SELF)
    torch.testing.assert_close(found.atom_energies, expected)
    nothing = equilibrate(*structure("open", n=0), settings())
    assert nothing.charges.shape == (0,)
    chi, eta, structures = structure("crystal", n=2)
    alike = equilibrate(chi * 0.0 + 4.0, eta * 0.0 + 2.0, structures, settings())
    assert alike.charges.abs().max() < 1e-12


def test_a_batch_is_each_alone():
    kinds = ("open", "slab", "crystal", "open")
    parts = [structure(kind, n, seed=n) for kind, n in zip(kinds, (9, 5, 12, 1), strict=True)]
    totals = torch.tensor([0.0, 1.0, -0.5, 2.0])
    together = equilibrate(*joined(parts), settings(), ChargeSums(totals))
    assert together.iterations.unique().numel() > 1
    start = 0
    for place, part in enumerate(parts):
        alone = equilibrate(*part, settings(), ChargeSums(totals[place : place + 1]))
        atoms = slice(start, start + len(part[0]))
        start = atoms.stop
        assert together.iterations[place] == alone.iterations[0]
        torch.testing.assert_close(together.charges[atoms], alone.charges, rtol=0, atol=1e-12)
        torch.testing.assert_close(
            together.atom_energies[atoms], alone.atom_energies, rtol=0, atol=1e-11
        )


@pytest.mark.parametrize("kind", ["open", "crystal", "slab"])
def test_energy_is_the_lowest(kind):
    """Any other charges of the same sum have a higher one."""
    chi, eta, structures = structure(kind)
    found = equilibrate(chi, eta, structures, settings(), ChargeSums(torch.tensor([1.0])))

    def energy(q):
        with_self = Ewald(remove_self_interaction=False)(q, *structures)[0][0]
        return (chi * q + 0.5 * eta * q * q).sum() + with_self

    lowest = energy(found.charges)
    torch.testing.assert_close(found.atom_energies.sum(), lowest, rtol=1e-12, atol=0)
    for seed in range(4):
        change = torch.randn(7, generator=torch.Generator(device="cpu").manual_seed(seed)).to(chi)
        change = 0.01 * (change - change.mean())
        assert energy(found.charges + change) > lowest


@pytest.mark.parametrize("kind", ["open", "crystal", "slab"])
def test_first_and_second_derivatives(kind):
    """Of charges, of the energy, and of the shares of atoms, by everything."""
    chi, eta, (positions, cell, batch, pbc) = structure(kind, n=3)
    leaves = [chi, eta, positions, cell] if kind != "open" else [chi, eta, positions]
    leaves = [value.clone().requires_grad_() for value in leaves]

    def results(chi, eta, positions, cell=cell):
        structures, sums = Structures(positions, cell, batch, pbc), ChargeSums(torch.tensor([1.0]))
        found = equilibrate(
            chi, eta, structures, settings(dl=3.0), sums, Convergence(tolerance=1e-13)
        )
        return found.charges[:2], found.atom_energies[0], found.atom_energies.sum()

    assert torch.autograd.gradcheck(results, leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(results, leaves, fast_mode=True)


def test_forces_take_no_further_solution(monkeypatch):
    """The energy does not change with the charges: no response is computed for forces."""
    chi, eta, structures = structure("crystal")
    positions = structures.positions.requires_grad_()
    found = equilibrate(chi, eta, structures, settings())
    monkeypatch.setattr("les.minimum.conjugate_gradients", None)
    weights = torch.full_like(chi, 0.7)
    torch.autograd.grad(found.atom_energies, positions, weights, retain_graph=True)
    with pytest.raises(TypeError):
        torch.autograd.grad(found.charges.square().sum(), positions)


@pytest.mark.parametrize("pbc", [[False] * 3, [True] * 3])
def test_training_on_forces_and_dipoles(pbc):
    """Gradients of such a loss by the weights of the readout are derivatives."""
    torch.manual_seed(2)
    config = LESConfig.for_features({"charge_equilibration": True, "n_hidden": 4, "n_layers": 2}, 3)
    les = Les(config).double()
    features = torch.randn(5, 3).double()
    positions, cell, *_ = structure("open", n=5)[2]
    positions.requires_grad_()
    weight = les.atomwise.network[-1].weight

    def loss():
        seen = features * torch.cos(positions)
        numbers = torch.tensor([8, 1, 1, 8, 1])
        out = les(
            positions,
            cell,
            desc=seen,
            pbc=torch.tensor([pbc]),
            atomic_numbers=numbers,
            compute_dipole=True,
        )
        forces = torch.autograd.grad(out["E_lr"].sum(), positions, create_graph=True)[0]
        return forces.square().sum() + 10.0 * out["dipole"].square().sum()

    gradient = torch.autograd.grad(loss(), weight)[0]
    for index in ((0, 1), (1, 2)):

        def shifted(amount, index=index):
            with torch.no_grad():
                weight[index] += amount
            value = loss().item()
            with torch.no_grad():
                weight[index] -= amount
            return value

        assert gradient[index].item() == pytest.approx(derivative(shifted), rel=1e-5)


def numbers_from(positions):
    """Electronegativities and hardnesses that depend on positions."""
    distances = (positions.unsqueeze(0) - positions.unsqueeze(1)).square().sum(-1)
    seen = torch.exp(-0.2 * distances).sum(1)
    scale = torch.linspace(-9.0, 9.0, len(positions), dtype=positions.dtype)
    return torch.stack([scale * seen, 4.0 + seen], dim=1)


@pytest.mark.parametrize("epsilon", [1.0, 1.8])
def test_born_effective_charges_of_a_molecule(epsilon):
    """They have the response of all charges, and those of an ion sum to its charge."""
    les = Les(LESConfig(charge_equilibration=True, epsilon_factor=epsilon))
    total = torch.tensor([-1.0]).double()
    positions = structure("open", n=5)[2].positions.requires_grad_()

    def evaluated(r, **options):
        return les(
            r,
            None,
            latent_charges=numbers_from(r),
            total_charge=total,
            compute_dipole=True,
            **options,
        )

    bec = evaluated(positions, compute_bec=True)["BEC"]
    torch.testing.assert_close(bec.sum(dim=0), -torch.eye(3).double(), rtol=0, atol=1e-6)
    for atom, axis in ((0, 0), (3, 2)):

        def dipole(shift, atom=atom, axis=axis):
            r = positions.detach().clone()
            r[atom, axis] += shift
            return evaluated(r)["dipole"][0].detach().cpu().numpy()

        expected = torch.tensor(derivative(dipole)).to(bec)
        torch.testing.assert_close(bec[atom, :, axis], expected, rtol=0, atol=1e-6)


def test_energy_of_a_charged_supercell():
    """It is that of its cells, each with its background and its part of the total charge."""
    chi, eta, (positions, cell, _, pbc) = structure("crystal")
    les, parameters = Les(LESConfig(charge_equilibration=True)), torch.stack([chi, eta], dim=1)
    one = les(positions, cell, latent_charges=parameters, pbc=pbc, total_charge=torch.tensor([1.0]))
    larger = cell * torch.tensor([2.0, 1.0, 1.0]).to(cell).view(1, 3, 1)
    both = torch.cat([positions, positions + cell[0, 0]])
    twice = parameters.repeat(2, 1)
    two = les(both, larger, latent_charges=twice, pbc=pbc, total_charge=torch.tensor([2.0]))
    torch.testing.assert_close(two["E_lr"] / 2.0, one["E_lr"], rtol=1e-6, atol=0)
    torch.testing.assert_close(two["charges"][7:], one["charges"], rtol=0, atol=1e-5)
    neutral = les(positions, cell, latent_charges=parameters, pbc=pbc)
    assert abs(neutral["charges"].sum().item()) < 1e-12
    assert abs(neutral["E_lr"].item() - one["E_lr"].item()) > 1e-2


def test_crystals_screen_whatever_moves():
    """So they have no Born effective charges: those of nearest images vanish in large cells."""
    lattice = torch.cartesian_prod(*[torch.arange(2)] * 3).double()
    species = lattice.sum(1) % 2
    sizes = []
    for repeats in (2, 3):
        shifts = 2 * torch.cartesian_prod(*[torch.arange(repeats)] * 3).double()
        positions = 2.8 * (lattice + shifts[:, None]).reshape(-1, 3)
        chi = (16.0 * species - 8.0).repeat(repeats**3)
        length = 5.6 * repeats
        cell = length * torch.eye(3).double()[None]
        batch, pbc = torch.zeros(len(chi), dtype=torch.long), torch.tensor([[True] * 3])
        positions.requires_grad_()
        structures = Structures(positions, cell, batch, pbc)
        q = equilibrate(chi, torch.full_like(chi, 10.0), structures, settings(dl=1.5)).charges
        arm = (positions - positions[0]).detach()[:, 0] / length
        arm = torch.where((arm.abs() - 0.5).abs() < 1e-9, 0.0, arm - torch.round(arm)) * length
        response = torch.autograd.grad((arm * q).sum(), positions)[0][0, 0]
        assert q[0].item() > 0.5
        sizes.append(abs((q[0] + response).item()))
    assert sizes[1] < 0.01
    assert sizes[1] < 0.1 * sizes[0]
    les = Les(LESConfig(charge_equilibration=True))
    parameters = torch.stack([chi, torch.ones_like(chi)], dim=1)
    with pytest.raises(ValueError, match="structure 0 is periodic: equilibrated charges flow"):
        les(positions, cell, latent_charges=parameters, compute_bec=True)


def test_les_and_long_range_agree():
    chi, eta, structures = joined([structure("slab"), structure("open", 4)])
    positions, cell, batch, pbc = structures
    config = LESConfig(charge_equilibration=True, epsilon_factor=2.25)
    parameters, total = torch.stack([chi, eta], dim=1), torch.tensor([1.0, -2.0])
    ewald = Ewald(**config.sum_settings())
    one = long_range(ewald, config, parameters, structures, ChargeSums(total))
    options = {"compute_atom_energies": True, "compute_dipole": True, "total_charge": total}
    out = Les(config)(positions, cell, latent_charges=parameters, batch=batch, pbc=pbc, **options)
    torch.testing.assert_close(out["E_lr"], one.energy)
    torch.testing.assert_close(out["E_lr_atoms"], one.atom_energies)
    torch.testing.assert_close(out["charges"], one.charges)
    torch.testing.assert_close(out["dipole"], one.dipole)
    sums = torch.zeros(2).double().index_add(0, batch, one.charges)
    torch.testing.assert_close(sums, total.double(), rtol=0, atol=1e-12)
    # Far apart ions of a medium interact as their charges divided by the square root.
    torch.testing.assert_close(one.charges, 1.5 * one.latent_charges)
    torch.testing.assert_close(
        torch.zeros(2).double().index_add(0, batch, one.atom_energies), one.energy
    )


def test_progress_is_told(caplog):
    with caplog.at_level(logging.DEBUG, logger="les"):
        equilibrate(*structure("open"), settings())
    assert "charge equilibration took" in caplog.text


def test_refusals():
    chi, eta, structures = joined([structure("open"), structure("crystal", 4)])

    def run(chi=chi, eta=eta, total=None, **options):
        return equilibrate(
            chi, eta, structures, settings(), ChargeSums(total), Convergence(**options)
        )

    for bad in (0.0, -2.0):
        wrong = eta.clone()
        wrong[8] = bad
        with pytest.raises(
            ValueError, match=rf"`hardness` must be positive, got -?{abs(bad)} .* atom 8"
        ):
            run(eta=wrong)
    wrong = chi.clone()
    wrong[3] = torch.nan
    with pytest.raises(ValueError, match=r"`electronegativity` must be finite, got nan at .*\[3\]"):
        run(chi=wrong)
    with pytest.raises(
        ValueError, match=r"`hardness` must have shape \[n_atoms\] = \[11\], got \[3\]"
    ):
        run(eta=eta[:3])
    with pytest.raises(TypeError, match="`hardness` must have the dtype of `positions`"):
        run(eta=eta.float())
    for total in (torch.tensor(0.5), torch.tensor([0.5, 0.0, 9.0])):
        with pytest.raises(ValueError, match=r"`total_charge` must have shape .* = \[2\]"):
            run(total=total)
    with pytest.raises(ValueError, match="`total_charge` must not require gradients"):
        run(total=torch.zeros(2, requires_grad=True))
    with pytest.raises(
        RuntimeError, match=r"structure 0 did not converge in 2 iterations: .*1e-08"
    ):
        run(iterations=2)


def test_refusals_of_les():
    chi, eta, structures = structure("crystal")
    positions, cell, batch, pbc = structures
    config = LESConfig(charge_equilibration=True)
    les, parameters = Les(config), torch.stack([chi, eta], dim=1)
    with pytest.raises(
        ValueError, match=r"electronegativities and hardnesses, of shape \[n_atoms, 2\]"
    ):
        les(positions, cell, latent_charges=chi)
    with pytest.raises(ValueError, match=r"`total_charge` must be finite, got inf"):
        les(positions, cell, latent_charges=parameters, total_charge=torch.tensor([torch.inf]))
    with pytest.raises(
        ValueError, match=r"`total_charge` must have shape \[n_structures\] = \[1\]"
    ):
        les(positions, cell, latent_charges=parameters, total_charge=torch.zeros(2))
    limits = CaptureLimits("periodic", [3] * 3, slabs=False)
    with pytest.raises(ValueError, match="can be neither compiled nor exported"):
        captured_long_range(Ewald(), config, parameters, structures, limits)
    with pytest.raises(torch.jit.Error, match="can be neither compiled nor exported"):
        torch.jit.script(les)(positions, cell, latent_charges=parameters)
    with pytest.raises(ValueError, match="exact Born effective charges of a periodic structure"):
        born_effective_charges(chi, positions.requires_grad_(), cell, batch, pbc)


def test_settings():
    config = LESConfig(charge_equilibration=True)
    assert config.remove_self_interaction is False
    assert LESConfig.from_dict(config.to_dict()) == config
    readout = LESConfig.for_features({"charge_equilibration": True}, 4)
    assert Les(readout).atomwise(torch.rand(3, 4), torch.tensor([1, 1, 8])).shape == (3, 2)
    for values, message in (
        ({"neutrality": "none"}, "`neutrality` must be 'shift' with `charge_equilibration`"),
        ({"n_channels": 2, "use_atomwise": True, "n_features": 3}, "`n_channels` must be 1"),
        ({"remove_self_interaction": True}, "`remove_self_interaction` must be false"),
        ({"equilibration_iterations": 0}, "`equilibration_iterations` must be a positive integer"),
        ({"equilibration_tolerance": 0.0}, "`equilibration_tolerance` must be a positive number"),
        ({"equilibration_tolerance": 0.5}, "`equilibration_tolerance` must be between"),
        ({"charge_equilibration": 1}, "`charge_equilibration` must be true or false, got 1"),
        (
            {"charge_equilibration": False, "equilibration_iterations": 50},
            "`equilibration_iterations` has no effect",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            LESConfig.from_dict({"charge_equilibration": True, **values})
    with pytest.raises(ValueError, match="built with False"):
        Les(LESConfig.for_features({}, 4)).load_state_dict(Les(readout).state_dict())


def test_readout():
    """Hardness is positive, about the unit at the start; the sign is that of electronegativity."""
    torch.manual_seed(1)
    les = Les(LESConfig.for_features({"charge_equilibration": True}, 4)).double()
    features, elements = torch.randn(6, 4).double(), torch.tensor([1, 8, 1, 6, 8, 1])
    with torch.no_grad():
        les.atomwise.of_elements.charges[8] = torch.tensor([-0.3, -40.0])
    eta = les.atomwise(features, elements)[:, 1]
    assert (eta > 0).all()
    torch.testing.assert_close(
        eta[elements != 8], torch.full((4,), 10.0).double(), rtol=0.2, atol=0
    )
    assert (eta[elements == 8] < 1e-12).all()
    before = les.atomwise(features, elements)
    les.atomwise.negate()
    factors = torch.tensor([-1.0, 1.0]).double()
    torch.testing.assert_close(les.atomwise(features, elements), factors * before)
