"""Charges that sum to the total charge of their structure."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from les import Les, LESConfig, born_effective_charges, dipole_moments
from les.neutrality import shifted_charges
from les.testing.derivatives import derivative

SHIFT = LESConfig(neutrality="shift")


@pytest.fixture
def structures():
    """Charges, positions, cell, batch and pbc of an open structure, a slab and a crystal."""
    generator = torch.Generator(device="cpu").manual_seed(4)
    sizes = torch.tensor([4, 7, 5])
    positions = 6.0 * torch.rand(16, 3, dtype=torch.float64, generator=generator)
    charges = torch.randn(16, dtype=torch.float64, generator=generator) + 0.4
    cell = torch.diag_embed(torch.tensor([[6.0, 7.0, 6.5]] * 3, dtype=torch.float64))
    pbc = torch.tensor([[False] * 3, [True, True, False], [True] * 3])
    batch = torch.repeat_interleave(sizes)
    return charges, positions, cell, batch, pbc


def charges_from(positions):
    """Smooth charges that depend on all distances, and do not sum to anything."""
    distances = (positions.unsqueeze(0) - positions.unsqueeze(1)).square().sum(-1)
    scale = torch.linspace(-1.0, 1.0, len(positions), dtype=positions.dtype)
    return (torch.exp(-0.3 * distances) * torch.outer(scale, scale + 0.3)).sum(1)


def sums(charges, batch, n=3):
    return charges.new_zeros(n, *charges.shape[1:]).index_add(0, batch, charges)


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_charges_sum_to_the_total_charge(structures, precision):
    charges, positions, cell, batch, pbc = structures
    total = torch.tensor([1.0, -2.0, 0.5])
    out = Les(SHIFT)(
        positions.to(precision), cell.to(precision), latent_charges=charges.to(precision),
        batch=batch, pbc=pbc, total_charge=total, compute_atom_energies=True,
    )  # fmt: skip
    q = out["latent_charges"]
    assert q.dtype == precision
    rounding = 8 * torch.finfo(precision).eps
    torch.testing.assert_close(sums(q, batch), total.to(precision), rtol=0, atol=rounding)
    # Differences within a structure are those of the charges given.
    given = charges.to(precision)
    torch.testing.assert_close(q[1:4] - q[:3], given[1:4] - given[:3], rtol=0, atol=rounding)
    torch.testing.assert_close(out["raw_charges"], given, rtol=0, atol=0)
    torch.testing.assert_close(sums(out["E_lr_atoms"], batch), out["E_lr"])


def test_energy_is_that_of_the_shifted_charges(structures):
    charges, positions, cell, batch, pbc = structures
    total = torch.tensor([1.0, -2.0, 0.5]).double()
    out = Les(SHIFT)(
        positions, cell, latent_charges=charges, batch=batch, pbc=pbc, total_charge=total
    )
    plain = Les(LESConfig(neutrality="none"))
    same = plain(positions, cell, latent_charges=out["latent_charges"], batch=batch, pbc=pbc)
    torch.testing.assert_close(out["E_lr"], same["E_lr"], rtol=0, atol=0)
    other = plain(positions, cell, latent_charges=charges, batch=batch, pbc=pbc)
    assert (out["E_lr"] - other["E_lr"]).abs().min() > 1e-3


def test_scaled_charges_sum_to_the_total_charge(structures):
    """With a dielectric constant: it is they that dipoles are made of."""
    charges, positions, cell, batch, pbc = structures
    total = torch.tensor([1.0, -2.0, 0.5]).double()
    les = Les(LESConfig(neutrality="shift", epsilon_factor=1.78))
    arguments = {"batch": batch, "pbc": pbc, "total_charge": total, "compute_dipole": True}
    out = les(positions, cell, latent_charges=charges, **arguments)
    torch.testing.assert_close(sums(out["charges"], batch), total, rtol=0, atol=1e-12)
    dipole = sums(out["charges"].unsqueeze(1) * positions, batch)
    torch.testing.assert_close(out["dipole"], dipole, rtol=0, atol=1e-12)


def test_zero_is_the_default(structures):
    charges, positions, cell, batch, pbc = structures
    les = Les(SHIFT)
    given = les(
        positions, cell, latent_charges=charges, batch=batch, pbc=pbc, total_charge=torch.zeros(3)
    )
    absent = les(positions, cell, latent_charges=charges, batch=batch, pbc=pbc)
    torch.testing.assert_close(given["E_lr"], absent["E_lr"], rtol=0, atol=0)


def test_one_structure_without_batch_or_cell(structures):
    charges, positions, *_ = structures
    q = Les(SHIFT)(positions, latent_charges=charges, total_charge=torch.tensor([3]))
    assert q["latent_charges"].sum().item() == pytest.approx(3.0, abs=1e-12)


def test_channels_are_each_neutral(structures):
    charges, positions, cell, batch, pbc = structures
    several = torch.stack([charges, 1.0 - charges.square()], dim=1)
    les = Les(SHIFT)
    out = les(
        positions, cell, latent_charges=several, batch=batch, pbc=pbc, total_charge=torch.zeros(3)
    )
    torch.testing.assert_close(
        sums(out["latent_charges"], batch), torch.zeros(3, 2).double(), rtol=0, atol=1e-12
    )
    with pytest.raises(ValueError, match=r"`total_charge` must be 0 for 2 channels .* got -1.0"):
        les(
            positions,
            cell,
            latent_charges=several,
            batch=batch,
            pbc=pbc,
            total_charge=torch.tensor([0, -1, 0]),
        )


def test_second_derivatives(structures):
    charges, _, _, batch, _ = structures
    total = torch.tensor([1.0, -2.0, 0.5]).double().requires_grad_()

    def squares(q, total):
        return shifted_charges(q, total, batch, 3).pow(3).sum()

    arguments = (charges.requires_grad_(), total)
    assert torch.autograd.gradcheck(squares, arguments)
    assert torch.autograd.gradgradcheck(squares, arguments)


def test_energy_of_a_supercell(structures):
    """Per cell it is that of the cell: the mean of the supercell is that of the cell."""
    charges, positions, cell, batch, _ = structures
    inside = batch == 2
    q, r, box = charges[inside], positions[inside], cell[2:]
    repeats = (2, 1, 3)
    shifts = torch.cartesian_prod(*map(torch.arange, repeats)).double() @ box[0]
    many = (r.unsqueeze(0) + shifts.unsqueeze(1)).reshape(-1, 3)
    larger = box * torch.tensor(repeats).double().view(1, 3, 1)
    les = Les(SHIFT)
    one = les(r, box, latent_charges=q, total_charge=torch.tensor([1.0]))["E_lr"]
    all_of_them = les(many, larger, latent_charges=q.repeat(6), total_charge=torch.tensor([6.0]))[
        "E_lr"
    ]
    torch.testing.assert_close(all_of_them / 6, one)


@pytest.mark.parametrize("total", [0.0, 1.0, -0.5])
@pytest.mark.parametrize("method", ["exact", "phase"])
def test_born_effective_charges_of_a_molecule(structures, total, method):
    """They are derivatives of the dipole of the shifted charges, and sum to the total charge."""
    positions = structures[1][:6].clone().requires_grad_()
    total = torch.tensor([total]).double()
    one = torch.zeros(6, dtype=torch.long)

    def dipole(r):
        q = shifted_charges(charges_from(r), total, one, 1, epsilon_factor=1.8)
        return dipole_moments(q, r, one, 1, remove_mean=False, epsilon_factor=1.8)[0]

    bec = born_effective_charges(
        charges_from(positions), positions, epsilon_factor=1.8, method=method, total_charge=total
    )
    for atom, axis in ((0, 0), (2, 1), (5, 2)):

        def moved(shift, atom=atom, axis=axis):
            r = positions.detach().clone()
            r[atom, axis] += shift
            return dipole(r).cpu().numpy()

        expected = torch.tensor(derivative(moved))
        torch.testing.assert_close(bec[atom, :, axis], expected, rtol=0, atol=1e-9)
    expected = total * torch.eye(3).double()
    torch.testing.assert_close(bec.sum(dim=0), expected, rtol=0, atol=1e-11)


def test_scripted(structures):
    charges, positions, cell, batch, pbc = structures
    total = torch.tensor([1.0, -2.0, 0.5]).double()
    les = Les(SHIFT)
    arguments = {"batch": batch, "pbc": pbc, "total_charge": total}
    scripted = torch.jit.script(les)(positions, cell, latent_charges=charges, **arguments)
    torch.testing.assert_close(
        scripted["E_lr"], les(positions, cell, latent_charges=charges, **arguments)["E_lr"]
    )


def test_captured(structures):
    """One graph for batches of any size, with second derivatives."""
    charges, _, _, batch, _ = structures

    def gradient(q, total, batch):
        q = q.detach().requires_grad_()
        power = shifted_charges(q, total, batch, total.shape[0]).pow(4).sum()
        (first,) = torch.autograd.grad(power, q, create_graph=True)
        return torch.autograd.grad(first.square().sum(), q)[0]

    total = torch.tensor([1.0, -2.0, 0.5]).double()
    graph = make_fx(gradient, tracing_mode="symbolic")(charges, total, batch)
    fewer = charges[:11], total[:2], batch[:11]
    for arguments in ((charges, total, batch), fewer):
        torch.testing.assert_close(graph(*arguments), gradient(*arguments))


def test_refusals(structures):
    charges, positions, cell, batch, pbc = structures

    def run(config=SHIFT, **options):
        return Les(config)(positions, cell, latent_charges=charges, batch=batch, pbc=pbc, **options)

    with pytest.raises(
        ValueError, match=r"`total_charge` must have shape \[n_structures\] = \[3\]"
    ):
        run(total_charge=torch.zeros(2))
    with pytest.raises(ValueError, match="`total_charge` must be finite, got nan"):
        run(total_charge=torch.tensor([0.0, torch.nan, 0.0]))
    with pytest.raises(TypeError, match=r"`total_charge` must be a torch\.Tensor, got float"):
        run(total_charge=1.0)
    with pytest.raises(TypeError, match=r"must hold real numbers, got torch\.bool"):
        run(total_charge=torch.tensor([True, False, False]))
    with pytest.raises(ValueError, match="`total_charge` has no effect with `neutrality` 'none'"):
        run(LESConfig(neutrality="none"), total_charge=torch.zeros(3))
    with pytest.raises(ValueError, match=r"`neutrality` must be one of .*, got 'even'"):
        LESConfig(neutrality="even")
    with pytest.raises(ValueError, match="`remove_mean` must be true with `neutrality` 'shift'"):
        LESConfig(neutrality="shift", remove_mean=False)
    with pytest.raises(ValueError, match="`total_charge` needs `remove_mean`"):
        born_effective_charges(
            charges, positions, cell, batch, pbc, remove_mean=False, total_charge=torch.zeros(3)
        )


def test_what_earlier_releases_wrote_has_no_sum():
    """Also where new models are made to keep it."""
    assert LESConfig.from_legacy({}).neutrality == "none"
    assert LESConfig.from_legacy({"neutrality": "shift"}).neutrality == "shift"
    assert LESConfig.from_stored({"sigma": 1.2}).neutrality == "none"
    assert LESConfig.from_stored(SHIFT.to_dict()) == SHIFT
    older = LESConfig(sigma=1.2)
    newer = ("neutrality", "element_charges")
    state = {name: value for name, value in vars(older).items() if name not in newer}
    loaded = LESConfig.__new__(LESConfig)
    loaded.__setstate__(state)
    assert (loaded.neutrality, loaded.element_charges) == ("none", False)


def test_the_state_carries_it():
    other = Les(LESConfig(neutrality="none"))
    other.load_state_dict(Les(SHIFT).state_dict())
    assert other.config() == SHIFT
    assert other.neutrality == "shift"
    whole = Les(SHIFT)
    del whole.neutrality
    assert pickle.loads(pickle.dumps(whole)).neutrality == "none"
    assert pickle.loads(pickle.dumps(SHIFT)) == SHIFT
