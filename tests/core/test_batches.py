"""Batches: structures of any kind and size at once give what each gives alone."""

from __future__ import annotations

import math

import pytest
import torch

from les import Ewald, Les
from les.sums.cpu import library as native
from les.sums.cpu.survey import look_at as compiled_look_at
from les.sums.survey import look_at
from les.sums.system import Given

MIXTURES = {
    "periodic": [("triclinic", 7), ("cubic", 3), ("left_handed", 12)],
    "open": [("open", 4), ("open", 9), ("open", 1)],
    "mixed": [("open", 5), ("triclinic", 8), ("open", 1), ("cubic", 2), ("rotated", 6)],
    "unequal": [("open", 2), ("cubic", 60), ("open", 50), ("triclinic", 1), ("open", 3)],
    "empty": [("triclinic", 0), ("open", 5), ("cubic", 4), ("open", 0), ("cubic", 0)],
    "one": [("cubic", 6)],
}


@pytest.mark.parametrize("channels", [None, 1, 3])
@pytest.mark.parametrize("mixture", MIXTURES)
@pytest.mark.parametrize("self_interaction", [True, False])
def test_batch_is_each_alone(make_system, join, dtype, mixture, channels, self_interaction):
    systems = [
        make_system(kind, n_atoms, dtype, channels, total=0.5 * i, seed=i)
        for i, (kind, n_atoms) in enumerate(MIXTURES[mixture])
    ]
    ewald = Ewald(remove_self_interaction=not self_interaction)
    arguments = join(systems)
    energy, potential = ewald(*arguments, compute_potential=True)
    assert energy.shape == (len(systems),)
    assert potential.shape == arguments.charges.shape
    alone = [ewald(*system, compute_potential=True) for system in systems]
    tolerance = 1e-11 if dtype == torch.float64 else 2e-5
    expected = torch.cat([phi for _, phi in alone])
    torch.testing.assert_close(
        energy, torch.cat([e for e, _ in alone]), rtol=tolerance, atol=100 * tolerance
    )
    torch.testing.assert_close(
        potential, expected, rtol=0.0, atol=tolerance * expected.abs().max().item()
    )


def test_structures_without_atoms(make_system, join):
    systems = [make_system("open", 0), make_system("cubic", 0)]
    energy, potential = Ewald()(*join(systems), compute_potential=True)
    assert energy.tolist() == [0.0, 0.0]
    assert potential.shape == (0,)
    for system in systems:
        assert Ewald()(*system)[0].tolist() == [0.0]


@pytest.mark.parametrize("kind", ["open", "cubic"])
def test_structures_without_atoms_allow_backward(make_system, kind):
    charges, positions, cell = make_system(kind, 0)
    leaf = positions.requires_grad_()
    energy, _ = Ewald()(charges.requires_grad_(), leaf, cell)
    gradient = torch.autograd.grad(energy.sum() + leaf.sum(), leaf)[0]
    assert gradient.shape == (0, 3)


def test_pbc_per_structure(make_system, join):
    """The argument pbc chooses the boundary condition of each, whatever the cells."""
    systems = [make_system("cubic", 4, seed=seed) for seed in range(3)]
    pbc = torch.tensor([[True] * 3, [False] * 3, [True] * 3])
    energy, _ = Ewald()(*join(systems), pbc)
    for i, (charges, positions, cell) in enumerate(systems):
        alone, _ = Ewald()(charges, positions, cell * pbc[i].all())
        torch.testing.assert_close(energy[i : i + 1], alone)


def test_one_atom_has_no_open_energy(make_system):
    energy, potential = Ewald()(*make_system("open", 1, total=1.0), compute_potential=True)
    assert energy.tolist() == [0.0]
    assert potential.tolist() == [0.0]


def test_inputs_stay_as_they_are(make_system, join):
    arguments = join([make_system(kind, 5, channels=2) for kind in ("open", "triclinic")])
    before = [value.clone() for value in arguments]
    Ewald()(*arguments, compute_potential=True)
    charges, positions, cell, batch = arguments
    given = {"latent_charges": charges[:, :1], "batch": batch}
    Les().eval()(positions.requires_grad_(), cell, **given, compute_bec=True)
    for value, copy in zip(arguments, before, strict=True):
        assert torch.equal(value.detach(), copy)
        assert value.grad is None


def test_les_returns_what_was_asked_for(make_system, join):
    charges, positions, cell, batch = join([make_system(k, 5) for k in ("open", "cubic")])
    les = Les()
    everything = les(
        positions.requires_grad_(),
        cell,
        latent_charges=charges,
        batch=batch,
        compute_bec=True,
        compute_atom_energies=True,
    )
    assert everything["E_lr"].shape == (2,)
    assert everything["BEC"].shape == (10, 3, 3)
    assert everything["raw_charges"] is charges
    neutral = charges.view(2, 5) - charges.view(2, 5).mean(dim=1, keepdim=True)
    torch.testing.assert_close(everything["latent_charges"], neutral.flatten())
    sums = torch.zeros(2).double().index_add(0, batch, everything["E_lr_atoms"])
    torch.testing.assert_close(sums, everything["E_lr"])
    assert everything["latent_dipoles"] is everything["latent_quads"] is None
    plain = les(positions, cell, latent_charges=charges, batch=batch)
    assert plain["E_lr_atoms"] is plain["BEC"] is plain["latent_alphas"] is None
    nothing = les(positions, cell, latent_charges=charges, batch=batch, compute_energy=False)
    assert nothing["E_lr"] is None
    one = les(
        positions, cell, latent_charges=charges, batch=batch, compute_bec=True, bec_output_index=1
    )
    torch.testing.assert_close(one["BEC"], everything["BEC"][:, 1])
    channels = charges.view(5, 2).repeat(2, 1)
    shares = les(positions, cell, latent_charges=channels, batch=batch, compute_atom_energies=True)[
        "E_lr_atoms"
    ]
    assert shares.shape == (10,)


def test_strided_batch(make_system, join):
    """A column of a table, for instance."""
    charges, positions, cell, batch = join([make_system(n_atoms=4), make_system(n_atoms=3)])
    column = torch.stack([batch, batch], dim=1)[:, 0]
    found, expected = (Ewald()(charges, positions, cell, index)[0] for index in (column, batch))
    torch.testing.assert_close(found, expected)


@pytest.mark.cpu_only("compiled kernels")
@pytest.mark.parametrize("with_pbc", [False, True])
def test_look(compiled, make_system, join, with_pbc, dtype):
    """At a batch of all kinds, whatever its strides; at a flat cell, and at what is broken."""
    kinds = ("cubic", "open", "left_handed", "cubic", "triclinic")
    systems = [make_system(kind, n, dtype, 2, seed=n) for n, kind in enumerate(kinds)]
    flat = [[3333.3, 1111.1, 0.0], [6666.6, 2222.2, 0.0], [0.0, 0.0, 5000.0]]
    systems.append(systems[-1]._replace(cell=torch.tensor([flat], dtype=torch.float64).to(dtype)))
    charges, positions, cell, owner = join(systems)
    axes = torch.tensor([[1, 1, 1], [0, 0, 0], [1, 0, 1], [1, 0, 0], [1, 1, 1], [1, 1, 0]])
    pbc = axes.bool() if with_pbc else None
    kernels = native.library(torch.device("cpu"), dtype)

    def compare(*arguments):
        found = compiled_look_at(kernels, Given(*arguments, pbc), 2.0)
        exact = [value.double() if value.is_floating_point() else value for value in arguments]
        target = look_at(Given(*exact, pbc), 2.0)
        for value, expected in zip(found[:3], target[:3], strict=True):
            assert torch.equal(value, expected)
        mistakes, *counts = found[3][:6]
        assert [bool(mistakes), *counts] == [bool(target[3][0]), *target[3][1:6]]
        largest, expected = found[3][6:9], target[3][6:9]
        finite = [math.isfinite(value) for value in largest]
        assert finite == [math.isfinite(value) for value in expected]
        if all(finite):
            assert largest == pytest.approx(expected, rel=1e-6)
            assert found[3][9:] == pytest.approx(target[3][9:], rel=1e-6)
        return bool(mistakes), all(finite)

    strided = [value.mT.contiguous().mT for value in (charges, positions, cell)]
    owners = torch.stack([owner, owner], dim=1)[:, 0]
    assert not owners.is_contiguous()
    assert compare(*strided, owners) == (with_pbc, True)
    for place in range(3):
        bad = [value.clone() for value in strided]
        bad[place][(-1,) * bad[place].dim()] = math.nan
        assert not compare(*bad, owner)[1]
    # Counts mean nothing then.
    for wrong in (owner.flip(0), owner - 2, owner + 1, owner + 2**62):
        assert compiled_look_at(kernels, Given(*strided, wrong, None), 2.0)[3][0] > 0.0
