"""Charges and dipoles in an external field that is an input of a model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms

from les import Les, LESConfig
from les.data.external_field import ExternalFields, external_field, has_energy
from les.data.requirements import ChargeStates, Requirements
from les.in_field import field_on_crystals, pulled
from les.structures import Structures

FLOAT = torch.float64
FIELD = torch.tensor([[0.1, 0.2, -0.3], [0.0, 0.1, 0.05]], dtype=FLOAT)

VARIANTS = {
    "charges": {},
    "dipoles": {"use_dipole": True},
    "polarisable": {"use_dipole": True, "use_induced_dipole": True, "self_consistent": True},
    "responding": {"use_induced_charge": True, "self_consistent": True},
    "equilibrated": {"charge_equilibration": True},
}
#: Those whose charges respond.
FLOWING = ("responding", "equilibrated")


@pytest.fixture
def structures() -> Structures:
    """A molecule, and a crystal."""
    torch.manual_seed(0)
    positions = 2.0 * torch.randn(6, 3, dtype=FLOAT)
    cell = torch.stack([torch.zeros(3, 3), 6.0 * torch.eye(3)]).to(FLOAT)
    pbc = torch.tensor([[False] * 3, [True] * 3])
    return Structures(positions, cell, torch.tensor([0, 0, 0, 1, 1, 1]), pbc)


def evaluated(name: str, structures: Structures, field: torch.Tensor) -> dict:
    """Energies of charges and moments that depend on positions."""
    places = structures.positions
    les = Les(LESConfig(external_field=True, epsilon_factor=1.7, **VARIANTS[name]))
    charges = torch.sin(places.sum(dim=1))
    latent = {"latent_charges": charges}
    if name == "equilibrated":
        latent = {"latent_charges": torch.stack([charges, 2.0 + 0.0 * charges], dim=1)}
    if "use_dipole" in VARIANTS[name]:
        latent["latent_dipoles"] = 0.2 * torch.sin(places.flip(1))
    responses = 0.02 * torch.cos(places[:, 0]).abs()
    if name == "polarisable":
        latent["latent_alphas"] = responses
    if name == "responding":
        latent["latent_kappas"] = responses
    return les(
        **structures._asdict(),
        **latent,
        e_ext=field,
        compute_atom_energies=True,
        compute_dipole=True,
    )


@pytest.mark.parametrize("name", VARIANTS)
def test_energies(name, structures):
    """The dipole is minus the derivative with respect to the field; shares sum to the energy."""
    field = FIELD.clone()
    if name in FLOWING:
        with pytest.raises(ValueError, match="structure 1 is periodic and in an external field"):
            evaluated(name, structures, field)
        field[1] = 0.0
    field.requires_grad_()
    out = evaluated(name, structures, field)
    (slope,) = torch.autograd.grad(out["E_lr"].sum(), field)
    torch.testing.assert_close(-slope[0], out["dipole"][0], rtol=0, atol=1e-9)
    shares = torch.zeros(2, dtype=FLOAT).index_add(0, structures.batch, out["E_lr_atoms"])
    torch.testing.assert_close(shares, out["E_lr"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", [x for x in VARIANTS if x not in FLOWING])
def test_crystals_have_the_energy_of_dipoles_alone(name, structures):
    """It does not depend on the images that atoms are in."""
    energy = evaluated(name, structures, FIELD)["E_lr"]
    without = evaluated(name, structures, torch.zeros_like(FIELD))["E_lr"]
    assert abs(float(energy[0] - without[0])) > 1e-3
    change = abs(float(energy[1] - without[1]))
    assert change == 0.0 if name == "charges" else change > 1e-3
    torch.manual_seed(1)
    charges, dipoles = torch.randn(6, dtype=FLOAT), torch.randn(6, 3, dtype=FLOAT)
    les = Les(LESConfig(external_field=True, use_dipole=True))
    moved = structures.positions.clone()
    moved[4, 0] += 6.0
    found = [
        les(
            **structures._replace(positions=places)._asdict(),
            latent_charges=charges,
            latent_dipoles=dipoles,
            e_ext=FIELD,
        )["E_lr"][1]
        for places in (structures.positions, moved)
    ]
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-9)


def test_pull(structures):
    """It has no energy, and forces that are trained on."""
    places = structures.positions.requires_grad_()
    on_crystals = field_on_crystals(FIELD, structures, charges_respond=False)
    assert (on_crystals[:3] == 0.0).all()
    assert (on_crystals[3:] == FIELD[1]).all()
    born = torch.randn(6, 3, 3, dtype=FLOAT, requires_grad=True)
    charges = torch.randn(6, dtype=FLOAT)
    energies = pulled(structures, on_crystals, born, charges)
    assert (energies == 0.0).all()
    (slope,) = torch.autograd.grad(energies.sum(), places, create_graph=True)
    pull = FIELD[1] @ born[3:]
    total = charges[3:].sum() * FIELD[1]
    expected = torch.cat([torch.zeros(3, 3, dtype=FLOAT), pull - (pull.sum(dim=0) - total) / 3])
    torch.testing.assert_close(-slope, expected)
    torch.testing.assert_close(-slope.sum(dim=0), total)
    (trained,) = torch.autograd.grad(slope.square().sum(), born)
    (wanted,) = torch.autograd.grad(expected.square().sum(), born)
    torch.testing.assert_close(trained, wanted)
    none = torch.tensor([[0.1, 0.2, 0.3], [0.0, 0.0, 0.0]], dtype=FLOAT)
    assert field_on_crystals(none, structures, charges_respond=True) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"neutrality": "none"}, "`neutrality` must be 'shift' with `external_field`"),
        ({"use_induced_dipole": True}, "`self_consistent` must be true with `external_field`"),
        (
            {"use_atomwise": True, "n_features": 4, "n_channels": 2},
            "`n_channels` must be 1 with `external_field`",
        ),
    ],
)
def test_contradictions(settings, message):
    with pytest.raises(ValueError, match=message):
        LESConfig(external_field=True, **settings)


def test_the_setting_is_named(structures):
    """Without it a field on charges is refused with the remedy."""
    with pytest.raises(ValueError, match=r"with the setting `external_field: true`"):
        Les(LESConfig())(
            **structures._asdict(), latent_charges=torch.ones(6, dtype=FLOAT), e_ext=FIELD
        )


def test_backends_that_take_none():
    with pytest.raises(ValueError, match="external_field"):
        LESConfig.for_features({"external_field": True}, 4)


def test_fields_of_structures(caplog):
    caplog.set_level("INFO", logger="les")
    atoms = Atoms("H", [[0, 0, 0]], info={"electric_field": [0, 0, 1]})
    assert external_field(atoms).tolist() == [0.0, 0.0, 1.0]
    assert external_field(Atoms("H")).tolist() == [0.0, 0.0, 0.0]
    atoms.info["external_field"] = np.array([0.0, 0.0, 2.0])
    with pytest.raises(ValueError, match="external_field and electric_field are two names of the"):
        external_field(atoms)
    for value in ([1.0, 2.0], "strong", [0.0, 0.0, np.inf], [[0.0, 0.0, 1.0]]):
        with pytest.raises(ValueError, match="efield must be three finite numbers, a field in V/A"):
            external_field(Atoms("H", info={"efield": value}), "efield")
    crystal = Atoms("H", cell=[3, 3, 3], pbc=True, info={"efield": [0.0, 0.0, 0.5]})
    assert not has_energy(crystal, np.ones(3))
    assert has_energy(crystal, np.zeros(3))
    states = ChargeStates(Requirements(external_field=True), external_field="efield")
    assert states.read(crystal, "here")["external_field"].tolist() == [0.0, 0.0, 0.5]
    assert states.has_field
    states.tell("a.xyz")
    assert "1 of 1 structures of a.xyz are in an external field, of up to 0.5 V/A" in caplog.text
    assert "their energy depends on the branch of the polarisation and is left out" in caplog.text
    assert not ExternalFields().strengths
