"""LES added to trained short-range models."""

from __future__ import annotations

import copy

import pytest
import torch

from les.testing.structures import crystal, dimer
from les_nequip import LES, AddLES

pytestmark = pytest.mark.usefixtures("nequip_state")


@pytest.fixture(params=["nequip", "allegro"])
def kind(request):
    return request.param


@pytest.fixture
def trained(kind, nequip_model):
    """A short-range model; tests must not change it."""
    model = nequip_model(kind)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter += 0.05 * noise
    return model


def les_of(model):
    return next(module for module in model.modules() if isinstance(module, LES))


def outputs(model, data):
    keys = ("total_energy", "atomic_energy", "forces")
    return {key: model(dict(data))[key].detach() for key in keys}


def test_without_charges_nothing_changes(trained, nequip_data):
    batch = nequip_data(dimer(), crystal())
    before = outputs(trained, batch)
    model = AddLES(copy.deepcopy(trained))
    les_of(model).readout.output_scaling_factor = 0.0
    for key, value in outputs(model, batch).items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)


def test_charges_add_their_energy(trained, nequip_data):
    """Small, but not zero, and with all that LES gives."""
    batch = nequip_data(dimer(), crystal())
    before = outputs(trained, batch)
    model = AddLES(copy.deepcopy(trained), {"sigma": 1.2, "compute_bec": True})
    assert les_of(model).config.sigma == 1.2
    out = model(dict(batch))
    change = out["total_energy"] - before["total_energy"]
    torch.testing.assert_close(change, out["les_energy"], rtol=0, atol=1e-10)
    assert 1e-7 < change.abs().min() < change.abs().max() < 0.6
    assert out["charges"].abs().max() > 1e-4
    assert out["born_effective_charges"].shape == (12, 3, 3)
    for key in ("charges", "les_energy", "born_effective_charges"):
        assert key in model.irreps_out


def test_boundary_of_a_molecule_in_a_box(trained, nequip_data):
    """The model passes ``pbc`` on, which short-range models drop."""
    model = AddLES(copy.deepcopy(trained))
    boxed = dimer()
    boxed.set_cell([30.0, 30.0, 30.0])
    expected = model(nequip_data(dimer()))["les_energy"]
    torch.testing.assert_close(model(nequip_data(boxed))["les_energy"], expected)


def test_gradients_reach_all_weights(trained, nequip_data):
    model = AddLES(copy.deepcopy(trained)).train()
    model(nequip_data(dimer()))["les_energy"].sum().backward()
    for name, parameter in les_of(model).named_parameters():
        assert parameter.grad.abs().max() > 1e-7, name
    assert sum(parameter.grad is not None for parameter in model.parameters()) > 10


def test_from_a_checkpoint(kind, trained, nequip_section, nequip_checkpoint, nequip_data, tmp_path):
    path = nequip_checkpoint(tmp_path / "model.ckpt", nequip_section(kind), trained)
    section = {"_target_": "nequip.model.ModelFromCheckpoint", "checkpoint_path": str(path)}
    given = {"type_names": ["H", "O"], "model_dtype": "float64", "compile_mode": "eager"}
    loaded = AddLES(section, seed=5, **given)["sole_model"]
    expected = AddLES(copy.deepcopy(trained), seed=5)
    for key, value in expected.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key
    batch = nequip_data(dimer(), crystal())
    for key, value in outputs(expected, batch).items():
        torch.testing.assert_close(outputs(loaded, batch)[key], value, rtol=0, atol=1e-12)
    assert "_target_" in section  # the caller's


def test_seed(trained):
    first, same, other = (AddLES(copy.deepcopy(trained), seed=seed) for seed in (1, 1, 2))
    weights = [les_of(model).readout.linear.weight for model in (first, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_random_numbers_of_the_run_are_left(trained):
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    AddLES(copy.deepcopy(trained))
    assert torch.equal(torch.rand(1), expected)


def test_single_precision(nequip_model, nequip_data):
    model = AddLES(nequip_model(dtype="float32"))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model(nequip_data(crystal()))["les_energy"].dtype == torch.float64


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"type_names": ["O", "H"]}, r"knows the types \['H', 'O'\], got \['O', 'H'\]"),
        ({"model_dtype": "float32"}, "has the precision torch.float64, got 'float32'"),
        ({"les": {"simga": 1.0}}, "unknown key 'simga'; did you mean 'sigma'"),
    ],
)
def test_bad_arguments(nequip_model, arguments, message):
    with pytest.raises(ValueError, match=message):
        AddLES(nequip_model(), **arguments)


def test_models_that_cannot_have_les(nequip_model):
    with pytest.raises(ValueError, match="`model` has LES already; train it as it is"):
        AddLES(nequip_model(les={}))
    with pytest.raises(ValueError, match="`model` has LES already"):
        AddLES(AddLES(nequip_model()))
    model = nequip_model()
    del model.model.func.total_energy_sum
    with pytest.raises(ValueError, match=r"must be a NequIP or Allegro model .* got GraphModel"):
        AddLES(model)
