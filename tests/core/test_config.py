"""LESConfig, and what Les takes for one."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import yaml

from les import Les, LESConfig
from les.legacy import HOST_KEYS, UNSUPPORTED_KEYS
from les.units import COULOMB_CONSTANT, NORM_FACTOR

#: What a dictionary of published LES means.
PUBLISHED = LESConfig(cutoff="sharp", neutrality="none")

CUSTOM = LESConfig(
    sigma=1.3, dl=1.6, cutoff="sharp", remove_self_interaction=False, norm_factor=90.0474,
    remove_mean=False, neutrality="none", epsilon_factor=1.8, n_hidden=(8, 4),
)  # fmt: skip


def test_units():
    """CODATA 2018: e^2 / (4 pi eps_0) = 14.3996454785 eV A; 1 e A = 4.80320471 D."""
    assert pytest.approx(14.3996454785, rel=1e-6) == COULOMB_CONSTANT


def test_frozen_and_hashable():
    config = LESConfig(n_hidden=[8, 4])
    assert config.n_hidden == (8, 4)
    assert hash(config) == hash(LESConfig(n_hidden=(8, 4)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.sigma = 2.0


@pytest.mark.parametrize("make", [LESConfig.from_dict, LESConfig.from_legacy, Les])
def test_unknown_key_names_the_closest(make):
    with pytest.raises(ValueError, match="unknown key 'sigmaa'; did you mean 'sigma'"):
        make({"sigmaa": 2.0})
    with pytest.raises(ValueError, match=r"unknown key 'qwertz' \(known: .*sigma"):
        make({"qwertz": 1})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in ("sigma", "dl", "epsilon_factor", "norm_factor",
                                     "output_scaling_factor")
          for value in (0.0, -1.0, True, "1", None, float("nan"), float("inf"))),
        *((name, value) for name in ("n_layers", "n_hidden", "n_features")
          for value in (0, -3, True, 2.5, "3")),
        *((name, value) for name in ("remove_self_interaction", "remove_mean", "use_atomwise",
                                     "add_linear_nn", "element_charges")
          for value in (1, 0, "true", None)),
        ("n_hidden", (8, 0)),
        ("method", "mesh!"),
        ("cutoff", "soft"),
    ],
)  # fmt: skip
def test_bad_values_name_the_key(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        LESConfig(**{name: value})


def test_readout_needs_a_number_of_features():
    with pytest.raises(ValueError, match="`n_features` must be given with `use_atomwise`"):
        LESConfig(use_atomwise=True)


def test_settings_for_a_model_with_features():
    config = LESConfig.for_features({"sigma": 1.3, "n_hidden": [8, 4]}, 64)
    common = {"use_atomwise": True, "element_charges": True}
    assert config == LESConfig(sigma=1.3, n_hidden=(8, 4), n_features=64, **common)
    assert config.cutoff == "smooth"
    assert LESConfig.for_features({}, 5) == LESConfig(n_features=5, **common)


def test_charges_of_elements_where_nothing_else_is_said():
    assert LESConfig.for_features({"element_charges": False}, 5).element_charges is False
    assert LESConfig.for_features(LESConfig(), 5).element_charges is False
    assert LESConfig.from_stored({}).element_charges is False
    assert LESConfig.from_legacy({}).element_charges is False


@pytest.mark.parametrize("make", [LESConfig.from_dict, LESConfig.from_legacy, Les])
def test_no_charges_of_elements_without_a_readout(make):
    """Beside latent charges of the host they would have no effect."""
    with pytest.raises(ValueError, match="`element_charges` is of the charge readout"):
        make({"element_charges": True})


@pytest.mark.parametrize(
    ("name", "value", "same"),
    [
        ("n_layers", 2, 3),
        ("n_hidden", [8, 8], [32, 16]),
        ("add_linear_nn", False, True),
        ("output_scaling_factor", 1.0, 0.1),
        ("n_features", 5, None),
    ],
)
def test_settings_of_the_readout_have_no_effect_on_charges_of_the_host(name, value, same):
    kept = LESConfig.for_charges({"sigma": 1.5, name: same})
    assert kept == LESConfig.from_legacy({"sigma": 1.5})
    assert LESConfig.for_charges(LESConfig()) == LESConfig()
    for given in ({name: value}, LESConfig(**{name: value})):
        with pytest.raises(ValueError, match=f"`{name}` has no effect on this model: it must be"):
            LESConfig.for_charges(given)
    values = LESConfig(**{name: value, "sigma": 1.5}).settings_for_charges()
    assert LESConfig.for_charges(values) == LESConfig(sigma=1.5)


def test_settings_of_the_readout_in_a_file(tmp_path):
    path = tmp_path / "les.yaml"
    path.write_text("n_layers: 5\n")
    with pytest.raises(ValueError, match="`n_layers` has no effect on this model: it must be"):
        LESConfig.for_charges(path)


@pytest.mark.parametrize(
    ("key", "value"), [("equilibration_tolerance", 1e-3), ("equilibration_iterations", 5)]
)
def test_settings_of_equilibration_without_it(key, value):
    with pytest.raises(ValueError, match=f"`{key}` has no effect on this model: it must be"):
        LESConfig(**{key: value})
    assert getattr(LESConfig(charge_equilibration=True, **{key: value}), key) == value


def test_a_mean_that_is_kept_needs_charges_that_are_not_shifted():
    with pytest.raises(ValueError, match=r"`remove_mean` must be true .* with `neutrality: none`"):
        LESConfig(remove_mean=False)
    assert LESConfig(remove_mean=False, neutrality="none").remove_mean is False


@pytest.mark.parametrize(("name", "value"), [("use_atomwise", True), ("n_features", 64)])
def test_settings_that_follow_from_the_model(name, value):
    """Also where they agree with the model: nobody should think that they are a choice."""
    with pytest.raises(ValueError, match=f"`{name}` follows from the model and cannot be set"):
        LESConfig.for_features({"sigma": 1.0, name: value}, 64)


def test_bad_settings_for_a_model_with_features():
    with pytest.raises(ValueError, match="unknown key 'sigmaa'; did you mean 'sigma'") as error:
        LESConfig.for_features({"sigmaa": 1.0}, 64)
    assert "n_features" not in str(error.value)  # it is not offered either
    with pytest.raises(ValueError, match="`sigma` must be a positive number, got -1"):
        LESConfig.for_features({"sigma": -1.0}, 64)
    with pytest.raises(ValueError, match="unknown key 'compute_bec'"):  # a key of another host
        LESConfig.for_features({"compute_bec": True}, 64)


def test_channels():
    """Only where the host says that it supports more than one."""
    settings = {"n_channels": 4}
    config = LESConfig.for_features(settings, 8, several_channels=True)
    assert config.n_channels == 4
    assert LESConfig.for_features(config, 8, several_channels=True) == config
    for given in (settings, config):
        with pytest.raises(ValueError, match="`n_channels` has no effect on this model"):
            LESConfig.for_features(given, 8)
    with pytest.raises(ValueError, match="`n_channels` is of the charge readout"):
        LESConfig(n_channels=4)
    torch.manual_seed(1)
    model = Les(config).double()
    positions = torch.rand(3, 3).double()
    out = model(
        positions,
        9.0 * torch.eye(3).double()[None],
        desc=torch.rand(3, 8).double(),
        atomic_numbers=torch.tensor([8, 1, 1]),
    )
    assert out["latent_charges"].shape == (3, 4)
    assert out["E_lr_atoms"] is None
    energies = [
        model(positions, 9.0 * torch.eye(3).double()[None], latent_charges=q)["E_lr"]
        for q in out["latent_charges"].T
    ]
    torch.testing.assert_close(out["E_lr"], sum(energies))


def test_keys_of_the_host_beside_settings():
    settings = {"sigma": 1.3, "r_max": 5.0}
    config = LESConfig.for_features(settings, 8, also=["r_max", "layers"])
    assert config == LESConfig(sigma=1.3, use_atomwise=True, element_charges=True, n_features=8)
    assert settings == {"sigma": 1.3, "r_max": 5.0}
    with pytest.raises(ValueError, match="unknown key 'layer'; did you mean 'layers'"):
        LESConfig.for_features({"layer": 2}, 8, also=["r_max", "layers"])


@pytest.mark.parametrize("config", [LESConfig(), CUSTOM])
def test_yaml_round_trip(config, tmp_path):
    path = tmp_path / "les.yaml"
    path.write_text(yaml.safe_dump(config.to_dict()))
    assert LESConfig.from_yaml(path) == config
    assert LESConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sigmaa: 1.0", "did you mean 'sigma'"),
        ("sigma: -1.0", "`sigma` must be a positive number, got -1.0"),
        ("- sigma", "must hold a mapping of keys to values, got list"),
        ("sigma: [1.0", "not valid YAML"),
    ],
)
@pytest.mark.parametrize("read", [LESConfig.from_yaml, Les, lambda path: Les(str(path))])
def test_bad_yaml_names_the_file(text, message, read, tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read(path)
    assert "settings.yaml" in str(error.value)


def test_files(tmp_path):
    empty = tmp_path / "empty.yaml"
    empty.write_text("# nothing\n")
    assert LESConfig.from_yaml(empty) == LESConfig()
    assert Les(empty).config() == PUBLISHED
    with pytest.raises(FileNotFoundError, match=r"missing\.yaml"):
        Les(tmp_path / "missing.yaml")


def test_published_defaults():
    """Missing keys of a dictionary mean what they mean in published LES."""
    config = LESConfig.from_legacy({})
    assert config.cutoff == "sharp"
    published = {
        "sigma": 1.0, "dl": 2.0, "remove_self_interaction": True, "remove_mean": True,
        "epsilon_factor": 1.0, "use_atomwise": False, "n_layers": 3, "n_hidden": (32, 16),
        "add_linear_nn": True, "output_scaling_factor": 0.1, "neutrality": "none",
        "element_charges": False,
    }  # fmt: skip
    for name, value in published.items():
        assert getattr(config, name) == value
    assert config.norm_factor == NORM_FACTOR
    assert LESConfig().cutoff == "smooth"
    assert LESConfig.from_legacy({"cutoff": "smooth"}).cutoff == "smooth"


def test_host_keys_are_left_to_the_host(caplog):
    caplog.set_level("DEBUG", logger="les")
    values = dict.fromkeys(HOST_KEYS, True) | {"sigma": 1.5}
    assert LESConfig.from_legacy(values) == dataclasses.replace(PUBLISHED, sigma=1.5)
    assert "make_alpha_positive" in caplog.text


def test_multipoles_of_hosts():
    """What a published host asks for is kept, and what contradicts it is refused."""
    keys = {"use_dipole": True, "use_quad": True, "use_induced_dipole": True}
    config = LESConfig.from_legacy(keys)
    assert config.use_dipole and config.use_quadrupole and config.use_induced_dipole
    assert not config.use_induced_charge
    with pytest.raises(ValueError, match="`use_quad` and `use_quadrupole` contradict"):
        LESConfig.from_legacy({"use_quad": True, "use_quadrupole": False})
    with pytest.raises(ValueError, match="`use_dipole` must be true or false, got 1"):
        LESConfig.from_legacy({"use_dipole": 1})
    with pytest.raises(ValueError, match="`use_dipole` must be false with `charge_equilibration`"):
        LESConfig(use_dipole=True, charge_equilibration=True)
    for settings in (
        lambda: LESConfig.for_charges(keys),
        lambda: LESConfig.for_features({"use_dipole": True}, 3),
    ):
        with pytest.raises(ValueError, match="`use_dipole` has no effect on this model"):
            settings()


@pytest.mark.parametrize(
    "published",
    [
        {"fixed_atomic_charges_scaling_factor": None},
        {"use_fixed_atomic_charges": False, "fixed_atomic_charges_scaling_factor": 0.3},
        {"use_anisotropic_polarizability": True},
        {"use_atomic_alpha": None},
    ],
)
def test_published_settings_without_their_switch(published):
    assert LESConfig.from_legacy(published) == PUBLISHED


@pytest.mark.parametrize(
    ("name", "default", "other"),
    [
        ("fixed_atomic_charges_scaling_factor", 0.5, 0.3),
        ("use_anisotropic_polarizability", False, True),
    ],
)
def test_defaults_without_their_switch_are_not_worth_a_word(name, default, other, caplog):
    """Hosts and stored models have them, although nobody has set them."""
    caplog.set_level("INFO", logger="les")
    LESConfig.from_legacy({name: default})
    assert caplog.messages == []
    LESConfig.from_legacy({name: other})
    assert len(caplog.messages) == 1 and caplog.messages[0].startswith(f"`{name}` has no effect")


@pytest.mark.parametrize(
    "name", sorted(set(UNSUPPORTED_KEYS) - {"fixed_atomic_charges_scaling_factor"})
)
def test_unsupported_keys(name):
    with pytest.raises(ValueError, match=f"`{name}` = True is not supported yet"):
        LESConfig.from_legacy({name: True})
    assert LESConfig.from_legacy({name: UNSUPPORTED_KEYS[name]}) == PUBLISHED


def test_what_les_accepts(tmp_path):
    path = tmp_path / "les.yaml"
    path.write_text("sigma: 1.5\ncompute_bec: true\n")
    assert Les().config() == Les(None).config() == LESConfig()
    assert Les(CUSTOM).config() == CUSTOM
    expected = dataclasses.replace(PUBLISHED, sigma=1.5)
    for given in ({"sigma": 1.5}, path, str(path)):
        assert Les(given).config() == expected
    with pytest.raises(TypeError, match=r"must be a LESConfig, a mapping, the path .* got int"):
        Les(5)
