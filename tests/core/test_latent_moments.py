"""Multipoles, induced moments and fields through ``Les``."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch

from les import Les, LESConfig

FLOAT = torch.float64


@pytest.fixture
def molecule(make_system):
    """Positions, and moments and responses that depend on them."""
    charges, positions, _ = make_system("open", 5)
    positions.requires_grad_()
    phase = torch.sin(positions)
    latent = {
        "latent_charges": charges * (1.0 + 0.1 * phase[:, 0]),
        "latent_dipoles": 0.3 * phase,
        "latent_alphas": 0.02 + 0.01 * phase[:, 1] ** 2,
    }
    return positions, latent


def test_born_effective_charges_and_dipoles(molecule):
    """Of molecules derivatives of the dipole, which has dipoles of atoms, induced ones included."""
    positions, latent = molecule
    les = Les(LESConfig(epsilon_factor=1.7, neutrality="none", remove_mean=False))
    out = les(positions, **latent, compute_bec=True, compute_dipole=True)
    assert out["BEC"].shape == (5, 2, 3, 3)
    assert out["latent_dipoles"].shape == (5, 3)
    assert (out["latent_dipoles"] - latent["latent_dipoles"]).abs().max() > 1e-3
    total = out["charges"] @ positions + 1.7**0.5 * out["latent_dipoles"].sum(0)
    torch.testing.assert_close(out["dipole"][0], total)
    rows = [torch.autograd.grad(x, positions, retain_graph=True)[0] for x in total]
    torch.testing.assert_close(out["BEC"].sum(1), torch.stack(rows, dim=1))
    part = les(positions, **latent, compute_bec=True, bec_output_index=1)["BEC"]
    torch.testing.assert_close(part, out["BEC"][:, :, 1])


def test_energies_of_atoms(molecule, make_system):
    positions, latent = molecule
    latent["latent_kappas"] = 0.5 * latent["latent_alphas"]
    for config in (LESConfig(), LESConfig(self_consistent=True, use_induced_dipole=True)):
        out = Les(config)(positions, **latent, compute_atom_energies=True)
        torch.testing.assert_close(out["E_lr_atoms"].sum(), out["E_lr"][0])
    del latent["latent_kappas"], latent["latent_alphas"]
    out = Les()(positions, **latent, compute_atom_energies=True, compute_field=True)
    shares = 0.5 * out["latent_charges"] * out["potential"]
    shares = shares - 0.5 * (latent["latent_dipoles"] * out["field"]).sum(1)
    torch.testing.assert_close(out["E_lr_atoms"], shares)
    torch.testing.assert_close(shares.sum(), out["E_lr"][0])


def test_elements(molecule):
    """Oxidation states and polarisabilities of elements are added to what the host passes."""
    positions, latent = molecule
    numbers = torch.tensor([1, 8, 8, 1, 6])
    plain = Les({})(positions, **latent)
    les = Les({"use_fixed_atomic_charges": True, "use_atomic_alpha": True})
    out = les(positions, **latent, atomic_numbers=numbers)
    states = 0.5 * torch.tensor([1.0, -2.0, -2.0, 1.0, 4.0], dtype=FLOAT)
    torch.testing.assert_close(out["latent_charges"], plain["latent_charges"] + states)
    torch.testing.assert_close(out["latent_alphas"], plain["latent_alphas"] + 0.02)
    out["E_lr"].sum().backward()
    assert les.atomic_alpha.numbers.grad[[1, 6, 8]].abs().min() > 0.0
    others = Les({"use_fixed_atomic_charges": True, "use_atomic_alpha": True})
    others.load_state_dict(les.state_dict())
    with pytest.raises(ValueError, match="is of a model with `use_atomic_alpha` = True"):
        Les({}).load_state_dict(les.state_dict())
    matrices = {**latent, "latent_alphas": torch.diag_embed(positions.detach() ** 2)}
    found = les(positions, **matrices, atomic_numbers=numbers)["latent_alphas"]
    unit = 0.02 * torch.eye(3, dtype=FLOAT)
    torch.testing.assert_close(found, matrices["latent_alphas"] + unit)
    with pytest.raises(ValueError, match="`use_fixed_atomic_charges` needs `atomic_numbers`"):
        les(positions, **latent)
    without = {**latent, "latent_alphas": None}
    with pytest.raises(ValueError, match="`use_atomic_alpha` needs `latent_alphas`"):
        les(positions, **without, atomic_numbers=numbers)
    restored = pickle.loads(pickle.dumps(les))
    again = restored(positions, **latent, atomic_numbers=numbers)["E_lr"]
    assert torch.equal(again, les(positions, **latent, atomic_numbers=numbers)["E_lr"])


@pytest.mark.parametrize(
    ("numbers", "error", "message"),
    [
        (torch.tensor([8]), ValueError, r"must have shape \[n_atoms\] = \[5\], got \[1\]"),
        (torch.tensor([1, 1, 1, 1, -1]), ValueError, r"must lie in 0 ... 118, got -1 ... 1"),
        (torch.tensor([1, 1, 1, 1, 130]), ValueError, r"must lie in 0 ... 118, got 1 ... 130"),
        (torch.ones(5), TypeError, "must be of dtype torch.int64, got torch.float32"),
        ([1] * 5, TypeError, "must be a torch.Tensor, got list"),
    ],
)
def test_atomic_numbers(molecule, numbers, error, message):
    positions, latent = molecule
    charges = latent["latent_charges"]
    les = Les({"use_fixed_atomic_charges": True})
    with pytest.raises(error, match=f"`atomic_numbers` {message}"):
        les(positions, latent_charges=charges, atomic_numbers=numbers)
    whole = [
        les(positions, latent_charges=charges, atomic_numbers=torch.ones(5, dtype=dtype))["E_lr"]
        for dtype in (torch.long, torch.uint8)
    ]
    assert torch.equal(*whole)


def test_what_is_asked_for_is_passed(molecule):
    positions, latent = molecule
    charges = latent["latent_charges"]
    with pytest.raises(ValueError, match="`use_atomic_alpha` needs `latent_alphas`"):
        Les({"use_atomic_alpha": True})(positions, latent_charges=charges)
    settings = {"use_induced_dipole": True, "use_anisotropic_polarizability": True}
    with pytest.raises(ValueError, match=r"`latent_alphas` must have shape \[n_atoms, 3, 3\]"):
        Les(settings)(positions, **latent)


def test_fields_of_charges_alone(molecule):
    """The force on a charge that depends on nothing is the charge times the field."""
    positions, latent = molecule
    charges = latent["latent_charges"].detach()
    out = Les()(positions, latent_charges=charges, compute_field=True)
    (forces,) = torch.autograd.grad(-out["E_lr"].sum(), positions)
    field = out["charges"].unsqueeze(1) * out["field"]
    torch.testing.assert_close(field, forces)
    assert out["potential"].shape == (5,)
    plain = Les()(positions, latent_charges=charges)
    assert plain["field"] is None
    assert plain["potential"] is None
    several = Les({})(positions, latent_charges=charges[:, None].repeat(1, 2), compute_field=True)
    assert several["field"].shape == (5, 2, 3)


def test_oxidation_states_stay_where_they_are(molecule):
    """A state that is loaded changes their factor, and neither their type nor their device."""
    positions, latent = molecule
    les = Les({"use_fixed_atomic_charges": True}).to(torch.float32)
    before = les.fixed_charges.states
    factor = {"fixed_atomic_charges_scaling_factor": 0.25}
    other = Les({"use_fixed_atomic_charges": True, **factor})
    les.load_state_dict(other.state_dict())
    assert les.fixed_charges.states is before
    given = {"latent_charges": latent["latent_charges"], "atomic_numbers": torch.full((5,), 8)}
    states = les(positions, **given)["latent_charges"] - latent["latent_charges"]
    torch.testing.assert_close(states, torch.full_like(states, -0.5))
    les.load_state_dict(Les({}).state_dict())
    assert les.fixed_charges is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"use_anisotropic_polarizability": True}, "needs `use_induced_dipole`"),
        ({"use_induced_charge": True}, "needs `self_consistent` with `neutrality` 'shift'"),
        ({"fixed_atomic_charges_scaling_factor": 0.7}, "has no effect on this model"),
        ({"use_fixed_atomic_charges": True, "charge_equilibration": True}, "must be false with"),
    ],
)
def test_settings_that_contradict_each_other(settings, message):
    with pytest.raises(ValueError, match=f"`{next(iter(settings))}` {message}"):
        LESConfig(**settings)


def test_self_consistent_needs_a_response():
    with pytest.raises(ValueError, match="`self_consistent` needs `use_induced_charge` or"):
        LESConfig(self_consistent=True)


def test_published_field(molecule):
    """In one step a field adds to the induced dipoles, and to the energy their part in it."""
    positions, latent = molecule
    field = torch.tensor([0.2, 0.1, -0.3], dtype=FLOAT)
    les = Les({})
    without, with_field = les(positions, **latent), les(positions, **latent, e_ext=field)
    alphas = latent["latent_alphas"].unsqueeze(1)
    change = with_field["latent_dipoles"] - without["latent_dipoles"]
    torch.testing.assert_close(change, alphas * field)
    permanent = {**latent, "latent_alphas": None}
    own = les(positions, **permanent, compute_field=True)["field"]
    expected = -0.5 * (own * alphas * field).sum()
    torch.testing.assert_close(with_field["E_lr"] - without["E_lr"], expected.view(1))


def test_consistent_field(molecule):
    """The dipole is minus the derivative of the energy by the field."""
    positions, latent = molecule
    field = torch.tensor([[0.2, 0.1, -0.3]], dtype=FLOAT, requires_grad=True)
    les = Les(LESConfig(self_consistent=True, use_induced_dipole=True, epsilon_factor=1.7))
    out = les(positions, **latent, e_ext=field, compute_dipole=True)
    (gradient,) = torch.autograd.grad(out["E_lr"].sum(), field, retain_graph=True)
    torch.testing.assert_close(out["dipole"], -gradient)


def test_batches_and_channels(make_system, join):
    """Whole numbers of any type say which atom belongs where; no cell means open."""
    systems = [make_system("open", n, seed=n, channels=2) for n in (4, 6)]
    charges, positions, cell, batch = join(systems)
    dipoles = torch.randn(10, 2, 3, dtype=FLOAT)
    latent = {"latent_charges": charges, "latent_dipoles": dipoles}
    les = Les({})
    expected = les(positions, cell, **latent, batch=batch)["E_lr"]
    assert torch.equal(les(positions, **latent, batch=batch.int())["E_lr"], expected)
    parts = [
        les(positions[batch == i], **{k: v[batch == i] for k, v in latent.items()})["E_lr"]
        for i in range(2)
    ]
    torch.testing.assert_close(torch.cat(parts), expected)
    with pytest.raises(ValueError, match="need one charge on each atom, got 2 channels"):
        les(positions, **latent, batch=batch, latent_alphas=torch.ones(10, dtype=FLOAT))


def test_what_is_asked_for_has_to_be_there(molecule):
    positions, latent = molecule
    asked = {
        "use_dipole": "latent_dipoles",
        "use_quad": "latent_quads",
        "use_induced_charge": "latent_kappas",
        "use_induced_dipole": "latent_alphas",
    }
    charges = latent["latent_charges"]
    for key, name in asked.items():
        les = Les({key: True})
        file = io.BytesIO()
        torch.save(les, file)
        file.seek(0)
        loaded = Les({})
        loaded.load_state_dict(les.state_dict())
        for model in (les, copy.deepcopy(les), torch.load(file, weights_only=False), loaded):
            with pytest.raises(ValueError, match=f"is asked for, but the model passes no `{name}`"):
                model(positions, latent_charges=charges)


def test_charges_by_place_are_refused(molecule):
    """The third argument of published LES is the external field."""
    positions, latent = molecule
    with pytest.raises(ValueError, match="one of `latent_charges` and `desc` must be given"):
        Les({})(positions, None, latent["latent_charges"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latent_quads": torch.ones(5, 3, 3, dtype=FLOAT)}, "`latent_quads` must be traceless"),
        ({"latent_dipoles": torch.ones(5, 2, dtype=FLOAT)}, "`latent_dipoles` must have shape"),
        ({"latent_alphas": torch.ones(5, 3, dtype=FLOAT)}, "`latent_alphas` must have shape"),
        ({"latent_kappas": torch.ones(4, dtype=FLOAT)}, "`latent_kappas` must have shape"),
        ({"e_ext": torch.ones(5, 3, dtype=FLOAT)}, "`e_ext` must have shape"),
        ({"e_ext": torch.ones(3, dtype=FLOAT), "latent_alphas": None}, "`e_ext` has no effect"),
    ],
)
def test_bad_input(molecule, change, message):
    positions, latent = molecule
    with pytest.raises(ValueError, match=message):
        Les({})(positions, **{**latent, **change})


def test_not_with_equilibrated_charges(molecule):
    positions, latent = molecule
    numbers = torch.ones(5, 2, dtype=FLOAT)
    with pytest.raises(ValueError, match="not supported with `charge_equilibration`"):
        Les(LESConfig(charge_equilibration=True))(
            positions, latent_charges=numbers, latent_dipoles=latent["latent_dipoles"]
        )
