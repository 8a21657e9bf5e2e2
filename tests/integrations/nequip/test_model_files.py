"""Model files: plain values that build nothing but models, and what is wrong with others."""

from __future__ import annotations

import io
import pickle
import zipfile

import numpy as np
import pytest
import torch

from les.backends import backend_of, get_backend
from les.backends.model_files import PickleRefusedError
from les.testing.adapter import results_of
from les.testing.earlier import AS_BEFORE, earlier_settings
from les.testing.structures import crystal, dimer
from les_nequip import AddLES, LESCalculator, load_model, save_model

pytestmark = pytest.mark.usefixtures("nequip_state")

LES = {"output_scaling_factor": 3.0}
ZBL = {
    "_target_": "nequip.nn.pair_potential.ZBL",
    "_partial_": True,
    "units": "metal",
    "chemical_species": ["H", "O"],
}
CHAIN = {
    "_target_": "les_nequip.PairPotentials",
    "potentials": [ZBL, {"_target_": "les_nequip.LES", "_partial_": True}],
}
MODELS = {
    "nequip": {"les": LES},
    "allegro": {"kind": "allegro", "les": LES},
    "short-range": {},
    "chain": {"pair_potential": CHAIN},
    "compiled": {"les": LES, "compile_mode": "compile"},
}


@pytest.fixture(scope="module")
def model_file(nequip_model, nequip_section, tmp_path_factory):
    """A function that writes a model, and returns it and its file."""

    def make(name="nequip", dtype="float64"):
        settings = {**MODELS[name], "dtype": dtype}
        model = nequip_model(**{**settings, "compile_mode": "eager"})
        path = tmp_path_factory.mktemp("model") / "model.nequip.pt"
        save_model(model, path, nequip_section(**settings))
        return model, path

    return make


def test_its_ending_tells_the_backend():
    assert backend_of("water.nequip.pt") == "nequip"  # not MACE, which has .pt
    assert backend_of("best.ckpt") == "nequip"


@pytest.mark.parametrize("name", MODELS)
def test_saved_and_loaded(name, model_file, nequip_transforms):
    model, path = model_file(name)
    expected = LESCalculator(model, transforms=nequip_transforms)
    for actual in (LESCalculator(path), LESCalculator.from_file(str(path))):
        for atoms in (dimer(), crystal()):
            results = results_of(actual, atoms)
            for key, value in results_of(expected, atoms).items():
                np.testing.assert_allclose(results[key], value, rtol=0, atol=1e-12, err_msg=key)
    assert not actual.model.is_compile_graph_model
    save_model(actual.model, path.with_name("again.nequip.pt"))
    again = load_model(path.with_name("again.nequip.pt")).state_dict()
    assert all(torch.equal(again[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("suffix", ["nequip.pt", "ckpt"])
def test_what_earlier_releases_wrote(
    suffix, nequip_model, nequip_section, nequip_checkpoint, nequip_transforms, tmp_path
):
    """Charges keep their mean, and elements have none of their own."""
    settings = {**LES, **AS_BEFORE}
    model, section = nequip_model(les=settings), nequip_section(les=settings)
    section["pair_potential"] = earlier_settings(section["pair_potential"])
    path = tmp_path / f"earlier.{suffix}"
    if suffix == "ckpt":
        nequip_checkpoint(path, section, model)
    else:
        save_model(model, path, section)
    expected = results_of(LESCalculator(model, transforms=nequip_transforms), dimer())
    loaded = LESCalculator(path, allow_pickle=suffix == "ckpt")
    config = loaded.les_config
    assert (config.neutrality, config.element_charges) == ("none", False)
    assert loaded.les_modules[0].readout.of_elements is None
    found = results_of(loaded, dimer())
    assert abs(found["charges"].sum()) > 1e-3
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=0, atol=1e-12, err_msg=key)


def test_model_with_les_added(model_file, tmp_path):
    """It is written as what it is now, not as what it was made from."""
    model = AddLES(load_model(model_file("short-range")[1]), {"sigma": 1.2}).eval()
    save_model(model, tmp_path / "added.nequip.pt")
    calculator = LESCalculator(tmp_path / "added.nequip.pt")
    assert calculator.les_config.sigma == 1.2
    expected = results_of(LESCalculator(model), dimer())
    np.testing.assert_allclose(results_of(calculator, dimer())["charges"], expected["charges"])


@pytest.mark.parametrize("own", ["float32", "float64"])
def test_precision(own, model_file):
    path = model_file(dtype=own)[1]
    single, double = (LESCalculator(path, dtype=name) for name in ("float32", "float64"))
    assert {parameter.dtype for parameter in single.model.parameters()} == {torch.float32}
    assert {parameter.dtype for parameter in double.model.parameters()} == {torch.float64}
    assert LESCalculator(path).precision == own
    assert get_backend("nequip").calculator(path, dtype="float32").precision == "float32"
    first, second = results_of(single, crystal()), results_of(double, crystal())
    np.testing.assert_allclose(first["forces"], second["forces"], rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match="`dtype` must be one of float32, float64, got 'half'"):
        LESCalculator(path, dtype="half")
    other = {"float32": "float64", "float64": "float32"}[own]
    with pytest.raises(ValueError, match=f"`dtype` is {other}, but this model is built already"):
        LESCalculator(load_model(path), dtype=other)


def test_device(model_file):
    path = model_file()[1]
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert LESCalculator(path, device="auto").device.type == expected
    with pytest.raises(ValueError, match="`device` is cuda:99, but torch sees"):
        LESCalculator(path, device="cuda:99")


def test_head(model_file):
    with pytest.raises(ValueError, match="for models of nequip, which have no heads, got 'pbe'"):
        get_backend("nequip").calculator(model_file()[1], head="pbe")


# --- what is refused to be written


def test_what_cannot_be_written(nequip_model, nequip_section, tmp_path):
    model, section = nequip_model(), nequip_section()
    with pytest.raises(ValueError, match=r"must end with \.nequip\.pt"):
        save_model(model, tmp_path / "model.pt", section)
    with pytest.raises(ValueError, match="`section` must be given"):
        save_model(model, tmp_path / "model.nequip.pt")
    with pytest.raises(ValueError, match=r"says that os\.getcwd is to be called"):
        save_model(model, tmp_path / "model.nequip.pt", {"_target_": "os.getcwd"})
    with pytest.raises(ValueError, match="holds a Tensor where plain values are expected"):
        save_model(model, tmp_path / "model.nequip.pt", {**section, "r_max": torch.ones(1)})
    assert not list(tmp_path.iterdir())


# --- files that would run code


class Trap:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('the trap ran')",))


def changed(path, edit):
    content = torch.load(path, weights_only=True)
    edit(content)
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    "place",
    [
        lambda content: content.update(section={"_target_": "os.system", "command": "false"}),
        lambda content: content["section"].update(pair_potential={"_target_": "os.abort"}),
        lambda content: content["section"].update(x=[{"y": {"_target_": "torch.load"}}]),
        lambda content: content["section"].update(_target_="nequip.model.modify_utils.torch.load"),
        lambda content: content["section"].update(seed="${oc.env:HOME}"),
        lambda content: content.update(trap=Trap()),
    ],
    ids=["builder", "slot", "nested", "by way of a module", "interpolation", "pickle"],
)
def test_traps(place, model_file):
    path = changed(model_file()[1], place)
    with pytest.raises(PickleRefusedError, match=r"model.nequip.pt .*--allow-pickle"):
        LESCalculator(path)


def test_unknown_format(model_file):
    path = changed(model_file()[1], lambda content: content.update(format="les_nequip.state/2"))
    with pytest.raises(ValueError, match="no NequIP model: its format is 'les_nequip"):
        load_model(path)


# --- files that are damaged, or something else


@pytest.mark.parametrize("part", ["section", "state_dict", "format"])
def test_missing_parts(part, model_file):
    path = changed(model_file()[1], lambda content: content.pop(part))
    with pytest.raises(ValueError, match=f"model.nequip.pt is no NequIP model: it lacks '{part}'"):
        load_model(path)


def test_weights_of_another_model(model_file):
    path = changed(model_file()[1], lambda content: content["section"].update(num_features=5))
    with pytest.raises(ValueError, match=r"model.nequip.pt does not fit nequip 0"):
        load_model(path)


def test_section_that_builds_nothing(model_file):
    path = changed(model_file()[1], lambda content: content["section"].update(num_layer=5))
    with pytest.raises(ValueError, match=r"model.nequip.pt does not fit nequip .*num_layer"):
        load_model(path)


def holding_itself():
    section = {}
    section["model"] = [section]
    return section


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"seed": 1}, "the section names no builder of a model as `_target_`, got None"),
        ({"_target_": ["a"]}, "_target_|is to be called"),
        (holding_itself(), "holds a section that is nested more than"),
    ],
    ids=["no builder", "list", "holds itself"],
)
@pytest.mark.parametrize("suffix", [".nequip.pt", ".ckpt"])
def test_crafted_sections(section, message, suffix, trust, tmp_path):
    path = tmp_path / f"crafted{suffix}"
    module = {"training_module": {"_target_": "nequip.train.NequIPLightningModule"}}
    state = {"model.sole_model.x": torch.ones(1)}
    content = {"format": "les_nequip.model/1", "section": section, "state_dict": state}
    if suffix == ".ckpt":
        content["hyper_parameters"] = {"model": section, "info_dict": module}
    torch.save(content, path)
    with pytest.raises(ValueError, match=rf"crafted.*({message})"):
        load_model(path, allow_pickle=trust)


def test_a_file_of_a_newer_release(model_file):
    path = changed(model_file()[1], lambda content: content.update(format="les_nequip.model/3"))
    with pytest.raises(ValueError, match=r"model\.nequip\.pt has the format version 3, and this"):
        load_model(path)


@pytest.mark.parametrize("state", [{1: torch.ones(1)}, [], {"readout": 1}], ids=str)
def test_crafted_weights(state, model_file):
    path = changed(model_file()[1], lambda content: content.update(state_dict=state))
    with pytest.raises(ValueError, match=r"model.nequip.pt (is no NequIP model|does not fit)"):
        load_model(path)


@pytest.mark.parametrize(
    ("averages", "message"),
    [
        ({"ema.ema_weight_0": torch.ones(77)}, "does not fit nequip"),
        ({"ema.ema_weight_0": "text"}, "does not fit nequip"),
        ({"ema.ema_weight_x": torch.ones(1)}, "holds averages of weights without a number"),
    ],
)
def test_crafted_averages(averages, message, nequip_section, nequip_model, tmp_path):
    weights = {f"model.sole_model.{key}": x for key, x in nequip_model().state_dict().items()}
    module = {"training_module": {"_target_": "nequip.train.EMALightningModule"}}
    content = {
        "hyper_parameters": {"model": nequip_section(), "info_dict": module},
        "state_dict": {**weights, "ema._extra_state": {}, **averages},
    }
    torch.save(content, tmp_path / "crafted.ckpt")
    with pytest.raises(ValueError, match=f"crafted.ckpt {message}"):
        load_model(tmp_path / "crafted.ckpt")


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"_target_": "les_nequip.TrainedModel"}, "has les_nequip.TrainedModel without the file"),
        ({"_target_": "les_nequip.TrainedModel", "model_file": "crafted.ckpt"}, "names itself"),
    ],
)
def test_checkpoint_of_a_model_in_no_other_file(section, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = {"training_module": {"_target_": "nequip.train.NequIPLightningModule"}}
    content = {
        "hyper_parameters": {"model": section, "info_dict": module},
        "state_dict": {"model.sole_model.x": torch.ones(1)},
    }
    torch.save(content, "crafted.ckpt")
    with pytest.raises(ValueError, match=f"crafted.ckpt {message}"):
        load_model(tmp_path / "crafted.ckpt")


def test_consent_that_is_asked_for_is_enough(model_file):
    """A model file that needs `allow_pickle` is read with it."""
    model, path = model_file()
    content = torch.load(path, weights_only=True)
    torch.save({**content, "note": LESCalculator}, path)  # a class, which only a pickle names
    with pytest.raises(PickleRefusedError, match=r"model.nequip.pt is a pickle.*--allow-pickle"):
        load_model(path)
    loaded = load_model(path, allow_pickle=True).state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in model.state_dict().items())


def archive():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a/data.txt", "something else")
    return buffer.getvalue()


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("suffix", [".nequip.pt", ".ckpt", ".nequip.zip", ".nequip.pt2"])
@pytest.mark.parametrize(
    "content",
    [b"", b"text", archive(), archive()[:40], pickle.dumps({"a": 1}), "tensor", "checkpoint"],
    ids=["empty", "text", "archive", "half", "pickle", "tensor", "checkpoint"],
)
def test_foreign_files(content, suffix, trust, tmp_path):
    path = tmp_path / f"model{suffix}"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save({"tensor": torch.ones(3), "checkpoint": {"hyper_parameters": {}}}[content], path)
    with pytest.raises(ValueError, match=str(path)) as caught:
        LESCalculator(path, allow_pickle=trust)
    told = isinstance(caught.value, PickleRefusedError)
    # Whole archives may be packages or compiled models; nothing else may advise to trust.
    assert not told or (not trust and suffix in (".nequip.zip", ".nequip.pt2"))


@pytest.mark.parametrize("suffix", [".nequip.pt", ".ckpt", ".nequip.zip", ".nequip.pt2", ".pt"])
def test_files_that_are_not_there(suffix, tmp_path):
    with pytest.raises((FileNotFoundError, ValueError), match=f"nowhere{suffix}"):
        LESCalculator(tmp_path / f"nowhere{suffix}", allow_pickle=True)
    (tmp_path / f"folder{suffix}").mkdir()
    with pytest.raises((OSError, ValueError), match=f"folder{suffix}"):
        LESCalculator(tmp_path / f"folder{suffix}", allow_pickle=True)
