"""How settings travel with a model: state dictionaries, copies, pickles of published LES."""

from __future__ import annotations

import copy
import dataclasses
import io
import pickle

import pytest
import torch
from torch import nn
from torch.package import PackageExporter, PackageImporter

import les.les
from les import Ewald, Les, LESConfig
from les.module.atomwise import Atomwise
from les.module.bec import BEC
from les.module.ewald import Ewald as PublishedEwald
from les.testing.earlier import AS_BEFORE, earlier_pickle, earlier_state
from les.units import NORM_FACTOR

CUSTOM = LESConfig(
    sigma=1.3, dl=1.6, cutoff="sharp", remove_self_interaction=False, norm_factor=90.0474,
    remove_mean=False, neutrality="none", epsilon_factor=1.8, n_hidden=(8, 4),
)  # fmt: skip


def assert_custom(module):
    assert module.config() == CUSTOM
    assert (module.ewald.sigma, module.ewald.dl, module.ewald.cutoff) == (1.3, 1.6, "sharp")
    assert module.ewald.norm_factor == 90.0474
    assert module.ewald.remove_self_interaction is False
    assert (module.remove_mean, module.neutrality) == (False, "none")
    assert module.epsilon_factor == 1.8


def test_settings_travel_with_the_state_dict():
    host, other = nn.ModuleDict({"les": Les(CUSTOM)}), nn.ModuleDict({"les": Les()})
    other.load_state_dict(host.state_dict())
    assert_custom(other["les"])
    assert "les.settings" in other.state_dict()


def test_settings_have_one_length():
    """Tools that copy weights between models skip tensors that differ in shape."""
    assert Les(CUSTOM).settings.shape == Les().settings.shape


def test_settings_of_another_length_load():
    state = Les().state_dict()
    state["settings"] = torch.tensor(list(b'{"sigma": 1.3}'), dtype=torch.uint8)
    other = Les()
    other.load_state_dict(state)
    assert other.config() == LESConfig(sigma=1.3, neutrality="none")
    assert other.ewald.sigma == 1.3


def test_readout_settings_travel_too():
    config = LESConfig(use_atomwise=True, n_features=4, output_scaling_factor=0.5)
    other = Les(dataclasses.replace(config, output_scaling_factor=0.1))
    other.load_state_dict(Les(config).state_dict())
    assert other.atomwise.output_scaling_factor == 0.5
    wider = Les(dataclasses.replace(config, add_linear_nn=False))
    with pytest.raises(ValueError, match="`add_linear_nn` = True, this one was built with False"):
        wider.load_state_dict(Les(config).state_dict())


def test_state_dict_without_settings():
    """Files of older programs have none; what the constructor was told stays."""
    module = Les(CUSTOM)
    state = {}
    assert not any(module.load_state_dict(state))
    assert state == {}
    assert_custom(module)


def test_settings_of_the_future_are_refused():
    state = Les().state_dict()
    state["settings"] = torch.tensor(list(b'{"sigma": 1.0, "wave": 2}'), dtype=torch.uint8)
    with pytest.raises(ValueError, match="unknown key 'wave'"):
        Les().load_state_dict(state)


@pytest.mark.parametrize(
    "change",
    [
        lambda module: module.float(),
        lambda module: module.half(),
        lambda module: module.double(),
        copy.deepcopy,
        lambda module: pickle.loads(pickle.dumps(module)),
        lambda module: module.to("cpu", torch.bfloat16).eval().train(),
    ],
    ids=["float", "half", "double", "deepcopy", "pickle", "to"],
)
def test_settings_survive(change):
    module = change(Les(CUSTOM))
    assert_custom(module)
    fresh = Les()
    fresh.load_state_dict(module.state_dict())
    assert_custom(fresh)


def test_settings_stay_on_the_device():
    on_meta = Les().to("meta")
    on_meta._apply_settings(CUSTOM)
    assert on_meta.settings.device.type == "meta"


def test_weights_only_file(tmp_path):
    torch.save(Les(CUSTOM).state_dict(), tmp_path / "les.pt")
    module = Les()
    module.load_state_dict(torch.load(tmp_path / "les.pt", weights_only=True))
    assert_custom(module)


def published(cls, **attributes):
    """An instance as published LES left it: no ``__init__`` of ours has run."""
    module = cls.__new__(cls)
    nn.Module.__init__(module)
    for name, value in attributes.items():
        setattr(module, name, value)
    return module


def through_old_paths(module):
    """Pickle, and unpickle with the class names that published LES wrote."""
    text = pickle.dumps(module, protocol=2)
    assert b"cles.ewald\nEwald\n" in text
    text = text.replace(b"cles.ewald\nEwald\n", b"cles.module.ewald\nEwald\n")
    return pickle.load(io.BytesIO(text))


def published_les(**changes):
    ewald = published(
        PublishedEwald, dl=1.8, sigma=1.1, sigma_sq_half=0.605, twopi=6.283185307179586,
        twopi_sq=39.47841760435743, remove_self_interaction=False, norm_factor=90.0474,
        k_sq_max=12.184696791468343,
    )  # fmt: skip
    readout = published(
        Atomwise, n_in=None, n_out=1, n_hidden=[32, 16], n_layers=3, add_linear_nn=True,
        output_scaling_factor=0.1, outnet=None,
    )  # fmt: skip
    return published(
        Les, atomwise=readout, ewald=ewald,
        bec=published(BEC, remove_mean=False, epsilon_factor=1.6, normalization_factor=1.26),
        n_layers=3, n_hidden=[32, 16], add_linear_nn=True, output_scaling_factor=0.1, sigma=1.1,
        dl=1.8, remove_mean=False, epsilon_factor=1.6, **changes,
    )  # fmt: skip


@pytest.mark.parametrize("with_flag", [False, True])
def test_published_pickles_keep_their_flags(with_flag):
    changes = {"use_atomwise": False} if with_flag else {}
    module = published_les(**changes).eval()
    if with_flag:
        module.atomwise = published(les.les._DummyAtomwise)
    module = through_old_paths(module)
    assert module.config() == LESConfig(
        sigma=1.1, dl=1.8, cutoff="sharp", remove_self_interaction=False, norm_factor=90.0474,
        remove_mean=False, neutrality="none", epsilon_factor=1.6,
    )  # fmt: skip
    assert module.ewald.cutoff == "sharp"
    assert module.ewald.norm_factor == 90.0474
    assert module.ewald.remove_self_interaction is False
    assert not module.training
    assert module.atomwise is None
    charges, positions = torch.tensor([1.0, -1.0]), torch.tensor([[0.0, 0, 0], [2.0, 0, 0]])
    cell = 7.0 * torch.eye(3).unsqueeze(0)
    expected = Les(module.config())(positions, cell, latent_charges=charges)["E_lr"]
    torch.testing.assert_close(module(positions, cell, latent_charges=charges)["E_lr"], expected)
    torch.jit.script(module)


def test_published_ewald_alone():
    ewald = through_old_paths(published(PublishedEwald, sigma=1.0, dl=2.0))
    assert ewald.cutoff == "sharp"
    assert ewald.remove_self_interaction is True
    assert ewald.norm_factor == NORM_FACTOR


@pytest.mark.parametrize(
    "flag",
    ["use_atomwise", "use_fixed_atomic_charges", "use_atomic_alpha", "use_epsilon_r_scaling"],
)
def test_published_pickles_that_cannot_be_loaded(flag):
    with pytest.raises(ValueError, match=f"`{flag}`"):
        through_old_paths(published_les(**{flag: True}))


@pytest.mark.parametrize(
    "name",
    ["atomicalpha.AtomicAlpha", "atomwise.Atomwise", "bec.BEC", "blocks.Dense", "ewald.Ewald",
     "fixedcharges.FixedCharges"],
)  # fmt: skip
def test_old_import_paths_exist(name):
    module, _, cls = name.partition(".")
    found = getattr(__import__(f"les.module.{module}", fromlist=[cls]), cls)
    assert issubclass(found, nn.Module)


@pytest.mark.parametrize("method", ["direct", "mesh"])
def test_torch_package(make_system, method):
    """Its copies of our modules stand in no list of modules, and have no sources of kernels."""
    ewald, file = Ewald(method=method), io.BytesIO()
    with PackageExporter(file) as exporter:
        exporter.intern("les.**")
        exporter.extern(["torch.**", "numpy.**", "ctypes.**"])
        exporter.save_pickle("model", "ewald.pkl", ewald)
    file.seek(0)
    loaded = PackageImporter(file).load_pickle("model", "ewald.pkl")
    assert type(loaded) is not Ewald
    for kind in ("triclinic", "open"):
        system = make_system(kind)
        torch.testing.assert_close(loaded(*system), ewald(*system))


def test_what_earlier_releases_wrote():
    """Their models read charges from features alone, and shift none."""
    config = LESConfig(use_atomwise=True, n_features=3, **AS_BEFORE)
    older = Les(config)
    state = earlier_state(older.state_dict())
    assert b"neutrality" not in bytes(state["settings"].tolist())
    new = Les(dataclasses.replace(config, neutrality="shift"))
    new.load_state_dict(state)
    for module in (new, pickle.loads(earlier_pickle(older))):
        assert module.config() == config
        desc, positions = torch.rand(4, 3), torch.rand(4, 3)
        found, expected = (each(positions, desc=desc)["latent_charges"] for each in (module, older))
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    with pytest.raises(ValueError, match="`element_charges` = False, this one was built with True"):
        Les(LESConfig.for_features({}, 3)).load_state_dict(state)
