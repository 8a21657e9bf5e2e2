"""Total charge and spin as a part of features: the embedding, its settings, and its inputs."""

from __future__ import annotations

import pytest
import torch
from ase import Atoms

from les import Les, LESConfig
from les.charge_states import ChargeStateEmbedding
from les.cli.doctor import examine_model
from les.data.spin import spin_multiplicity
from les.data.total_charge import total_charge

BATCH = torch.tensor([0, 0, 1, 2])
CHARGES = torch.tensor([0.0, 1.0, -1.0], dtype=torch.float64)
SPINS = torch.tensor([1.0, 2.0, 2.0], dtype=torch.float64)


def embedding(**inputs):
    torch.manual_seed(1)
    module = ChargeStateEmbedding(5, **inputs).double()
    torch.nn.init.normal_(module.output.weight)
    return module


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_before_training(dtype):
    module = ChargeStateEmbedding(5, True, True).to(dtype)
    added = module(BATCH, CHARGES, SPINS)
    assert added.shape == (4, 5)
    assert added.dtype == dtype
    assert not added.any()
    added.sum().backward()
    assert module.output.weight.grad.abs().max() > 1e-3  # so that it can begin to learn


def test_nothing_for_neutral_singlets():
    added = embedding(total_charge=True, spin=True)(BATCH, CHARGES, SPINS)
    assert not added[:2].any()
    assert added[2:].abs().max() > 1e-2


def test_the_same_for_all_atoms_of_a_structure():
    added = embedding()(torch.tensor([0, 0, 0, 1]), torch.tensor([1.0, -1.0]))
    torch.testing.assert_close(added[0], added[2], rtol=0, atol=0)
    assert (added[3] - added[0]).abs().max() > 1e-2


def test_any_function_of_the_charge():
    """Cations and anions need not be opposites, nor their differences proportional to charge."""
    charges = torch.arange(-2.0, 3.0, dtype=torch.float64)
    values = embedding()(torch.arange(5), charges)
    odd = values - values.flip(0)
    even = values + values.flip(0)
    assert (odd[4] - 2.0 * odd[3]).abs().max() > 1e-3
    assert even[3].abs().max() > 1e-3


def test_fractions_lie_between():
    module = embedding()
    steps = torch.linspace(0.0, 1.0, 11, dtype=torch.float64)
    values = module(torch.arange(11), steps)
    assert values.diff(dim=0).abs().max() < 0.2 * (values[-1] - values[0]).abs().max()


def test_only_what_is_embedded_counts():
    module = embedding(total_charge=False, spin=True)
    torch.testing.assert_close(module(BATCH, CHARGES, SPINS), module(BATCH, None, SPINS))


def test_scripted():
    module = embedding(total_charge=True, spin=True)
    scripted = torch.jit.script(module)
    expected = module(BATCH, CHARGES, SPINS)
    torch.testing.assert_close(scripted(BATCH, CHARGES, SPINS), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("charges", "spins", "message"),
    [
        (None, SPINS, "`total_charge` must be given: the model embeds it"),
        (CHARGES, None, "`spin` must be given: the model embeds it"),
        (CHARGES[:2], SPINS, r"`total_charge` must have shape \[3\], one number for each"),
        (CHARGES[:, None], SPINS, r"`total_charge` must have shape \[n_structures\]"),
        (CHARGES * torch.nan, SPINS, "`total_charge` must be finite, got nan"),
        (CHARGES, SPINS - 1.0, "`spin` must hold multiplicities, of at least 1, got 0"),
    ],
)
def test_bad_inputs(charges, spins, message):
    with pytest.raises(ValueError, match=message):
        embedding(total_charge=True, spin=True)(BATCH, charges, spins)


def test_nothing_to_embed():
    with pytest.raises(ValueError, match="one of `total_charge` and `spin` must be true"):
        ChargeStateEmbedding(5, False, False)
    assert ChargeStateEmbedding.of(LESConfig(), 5) is None
    assert ChargeStateEmbedding.of(None, 5) is None


# --- settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"neutrality": "none", "embed_total_charge": True},
            "`embed_total_charge` needs charges that sum to the total charge, .* got 'none'",
        ),
        (
            {"embed_total_charge": True, "use_atomwise": True, "n_features": 3, "n_channels": 2},
            "`embed_total_charge` needs one charge on each atom",
        ),
        ({"embed_spin": 1}, "`embed_spin` must be true or false, got 1"),
        ({"embed_charge": True}, "unknown key 'embed_charge'; did you mean"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        LESConfig.from_dict(settings)


def test_what_is_embedded():
    assert LESConfig().embedded == ()
    assert LESConfig(neutrality="none", embed_spin=True).embedded == ("spin",)
    config = LESConfig(embed_total_charge=True, embed_spin=True)
    assert config.embedded == ("total_charge", "spin")
    assert LESConfig.from_stored(config.to_dict()) == config
    assert "features know the total charge and the spin of a structure" in examine_model(config)
    assert "features know" not in examine_model(LESConfig())


def test_hosts_that_embed_nothing():
    """For them the setting would have no effect."""
    config = LESConfig(embed_total_charge=True)
    with pytest.raises(ValueError, match="`embed_total_charge` has no effect: this model embeds"):
        Les(config)
    assert Les(config, host_embeds=True).config() == config


# --- entries of structures


def test_charges_and_spins_that_are_needed():
    atoms = Atoms("H")
    assert total_charge(atoms) == 0.0
    with pytest.raises(ValueError, match=r"has no total charge .* charge=0 for a neutral"):
        total_charge(atoms, needed=True)
    with pytest.raises(ValueError, match=r"has no spin .* spin=1 for a singlet"):
        spin_multiplicity(atoms)
    atoms.info.update(charge=0, total_spin=2)
    assert total_charge(atoms, needed=True) == 0.0
    assert spin_multiplicity(atoms) == 2.0


@pytest.mark.parametrize("value", [0, -1, 0.5, "two", True, [1], float("inf")])
def test_bad_spins(value):
    atoms = Atoms("H")
    atoms.info["spin"] = value
    with pytest.raises(ValueError, match=r"^spin must be"):
        spin_multiplicity(atoms)
