"""Model files: the own format, published models, and upstream's tools."""

from __future__ import annotations

import copy
import importlib
import pickle
import re
from pathlib import Path

import mace  # noqa: F401  (before e3nn)
import numpy as np
import pytest
import torch
from ase import Atoms
from mace.modules import ScaleShiftMACE, extensions
from mace.tools.scripts_utils import extract_config_mace_model, extract_model, remove_pt_head
from mace.tools.torch_tools import default_dtype

from les import Les, LESConfig
from les.backends.model_files import PickleRefusedError
from les.testing.earlier import earlier_pickle, earlier_settings, earlier_state
from les.testing.structures import crystal, dimer
from les_mace import MACELES, LESCalculator, load_model, save_model

DATA = Path(__file__).parent / "data"
SETTINGS = {"sigma": 1.3, "dl": 1.7, "cutoff": "smooth", "epsilon_factor": 1.5}


@pytest.fixture(scope="module")
def model(mace_arguments):
    """A model with settings that differ from all defaults."""
    torch.manual_seed(3)
    with default_dtype(torch.float64):
        return MACELES(les_arguments=SETTINGS, **mace_arguments)


def assert_same_model(actual, expected, mace_batch):
    """Same settings, same numbers."""
    assert isinstance(actual, MACELES)
    assert actual.les.config() == expected.les.config()
    assert (actual.les.ewald.sigma, actual.les.ewald.dl) == (1.3, 1.7)
    structures = [dimer(), crystal("left-handed")]
    ours, theirs = actual(mace_batch(structures)), expected(mace_batch(structures))
    for key in ("energy", "les_energy", "forces", "dipole"):
        torch.testing.assert_close(ours[key], theirs[key], rtol=0, atol=1e-12)


# --- upstream's tools


def test_rebuilt_from_upstreams_configuration(model, mace_batch):
    """``les_arguments`` are not in upstream's configuration; the weights carry them."""
    config = extract_config_mace_model(model)
    assert "les_arguments" not in config
    with default_dtype(torch.float64):
        rebuilt = MACELES(**config)
    assert rebuilt.les.config().sigma != 1.3
    rebuilt.load_state_dict(model.state_dict())
    assert_same_model(rebuilt, model, mace_batch)


@pytest.mark.parametrize("tool", ["convert_e3nn_cueq", "convert_cueq_e3nn"])
def test_conversion_keeps_settings(tool, model, monkeypatch):
    """Upstream copies what has the same shape; its kernels need a GPU and stay out of this."""
    converter = importlib.import_module(f"mace.cli.{tool}")
    monkeypatch.setattr(converter, "transfer_symmetric_contractions", lambda *arguments: None)
    with default_dtype(torch.float64):
        target = MACELES(**extract_config_mace_model(model))
    converter.transfer_weights(model, target, 1, 2, 2, False, False)
    assert target.les.config() == model.les.config()
    assert (target.les.ewald.sigma, target.les.ewald.dl) == (1.3, 1.7)


def test_extract_model(model, mace_batch):
    with default_dtype(torch.float64):
        assert_same_model(extract_model(model), model, mace_batch)


def test_state_dict_without_settings(model, mace_arguments):
    """What upstream's class wrote with the published package has no settings."""
    state = {key: value for key, value in model.state_dict().items() if key != "les.settings"}
    with default_dtype(torch.float64):
        other = MACELES(les_arguments={"sigma": 0.9}, **mace_arguments)
    other.load_state_dict(state, strict=True)
    assert other.les.config().sigma == 0.9


def test_change_of_precision_keeps_settings(model):
    config = model.les.config()
    assert copy.deepcopy(model).float().les.config() == config
    assert copy.deepcopy(model).float().double().les.config() == config


# --- our files and upstream's pickles


def test_own_format(model, mace_batch, tmp_path):
    save_model(model, tmp_path / "model.pt")
    assert_same_model(load_model(tmp_path / "model.pt"), model, mace_batch)


def test_pickle(model, mace_batch, tmp_path):
    torch.save(model, tmp_path / "model.model")
    with pytest.raises(PickleRefusedError, match=r"model\.model is a pickle.*allow_pickle=True"):
        load_model(tmp_path / "model.model")
    assert_same_model(load_model(tmp_path / "model.model", allow_pickle=True), model, mace_batch)


def test_what_earlier_releases_wrote(model, mace_arguments, mace_batch, tmp_path):
    """In files, pickles and state dictionaries; it has charges that keep their mean."""
    assert model.les.config().neutrality == "none"
    path = tmp_path / "earlier.pt"
    save_model(model, path)
    content = torch.load(path, weights_only=True)
    content["format"] = "les_mace.MACELES/1"
    content["les_arguments"] = earlier_settings(content["les_arguments"])
    content["state_dict"] = earlier_state(content["state_dict"])
    torch.save(content, path)
    with default_dtype(torch.float64):
        new = MACELES(les_arguments=LESConfig(), **mace_arguments)
    assert new.les.config().neutrality == "shift"
    new.load_state_dict(content["state_dict"])
    for loaded in (load_model(path), pickle.loads(earlier_pickle(model)), new):
        assert_same_model(loaded, model, mace_batch)


def test_a_file_of_release_0_1_0(tmp_path):
    """Its results are those that this release gave, and so are those of a file made of it."""
    expected = np.load(DATA / "mace_0_1_0.npz")
    model = load_model(DATA / "mace_0_1_0.pt")
    assert model.les.config().neutrality == "none"
    save_model(model, tmp_path / "new.pt")
    assert torch.load(tmp_path / "new.pt", weights_only=True)["format"].endswith("/2")
    for path in (DATA / "mace_0_1_0.pt", tmp_path / "new.pt"):
        calculator = LESCalculator(path, bec=True)
        for name in ("open", "crystal"):
            parts = ("numbers", "positions", "cell", "pbc")
            atoms = Atoms(**{part: expected[f"{name}/{part}"] for part in parts})
            calculator.calculate(atoms)
            assert abs(calculator.results["charges"].sum()) > 0.1  # not shifted
            for key in ("energy", "forces", "les_energy", "charges", "dipole"):
                np.testing.assert_allclose(
                    calculator.results[key], expected[f"{name}/{key}"], rtol=0, atol=1e-9
                )


def test_pickle_of_upstreams_own_class(mace_arguments, mace_batch, tmp_path):
    with default_dtype(torch.float64):
        theirs = extensions.MACELES(les_arguments=SETTINGS, **mace_arguments)
    torch.save(theirs, tmp_path / "theirs.model")
    ours = load_model(tmp_path / "theirs.model", allow_pickle=True)
    assert type(ours) is MACELES
    structures = [dimer(), crystal()]
    expected, actual = theirs(mace_batch(structures)), ours(mace_batch(structures))
    for key in ("energy", "forces"):
        torch.testing.assert_close(actual[key], expected[key], rtol=0, atol=1e-12)
    # ... and it can be saved as ours.
    save_model(ours, tmp_path / "ours.pt")
    assert_same_model(load_model(tmp_path / "ours.pt"), ours, mace_batch)


def test_output_options_are_saved(mace_arguments, mace_batch, tmp_path):
    arguments = {"compute_bec": True, "bec_output_index": 2}
    with default_dtype(torch.float64):
        save_model(MACELES(les_arguments=arguments, **mace_arguments), tmp_path / "model.pt")
    loaded = load_model(tmp_path / "model.pt")
    assert (loaded.compute_bec, loaded.bec_output_index) == (True, 2)
    assert loaded(mace_batch([dimer()]))["BEC"] is not None


def test_files_with_settings_without_effect(model, mace_batch, tmp_path):
    """Earlier releases took them; they stand among the settings and in the state."""
    path = tmp_path / "model.pt"
    old = copy.deepcopy(model)
    unused = {"n_layers": 2, "n_hidden": 8, "output_scaling_factor": 1.0}
    old.les = Les(LESConfig(**{**SETTINGS, "neutrality": "none"}, **unused))
    save_model(old, path)
    content = torch.load(path, weights_only=True)
    torch.save({**content, "les_arguments": old.les.config().to_dict()}, path)
    assert_same_model(load_model(path), old, mace_batch)
    save_model(load_model(path), path)
    assert not set(unused) & set(torch.load(path, weights_only=True)["les_arguments"])


def test_single_precision_file(model, tmp_path):
    save_model(copy.deepcopy(model).float(), tmp_path / "model.pt")
    loaded = load_model(tmp_path / "model.pt")
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}


def test_not_a_model(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no MACE model file .*missing\.pt"):
        load_model(tmp_path / "missing.pt")
    path = tmp_path / "other.pt"
    torch.save({"weights": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match=r"other\.pt is no MACE model: it lacks 'format'"):
        load_model(path)
    torch.save({"format": "les_mace.MACE/1"}, path)
    with pytest.raises(ValueError, match=r"its format is .*/1', not 'les_mace\.MACELES/2' or"):
        load_model(path)
    torch.save({"format": "les_mace.MACELES/9"}, path)
    with pytest.raises(ValueError, match="version 9, and this release of les reads versions 1 to"):
        load_model(path)
    torch.save(torch.nn.Linear(1, 1), path)
    with pytest.raises(ValueError, match=r"must hold a ScaleShiftMACE model, got Linear"):
        load_model(path, allow_pickle=True)
    for content in (b"", b"not a model", b"PK\x03\x04 truncated"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=re.escape(str(path))):
            load_model(path)


def test_truncated_file(model, tmp_path):
    path = tmp_path / "model.pt"
    save_model(model, path)
    path.write_bytes(path.read_bytes()[:5000])
    for allow_pickle in (False, True):
        with pytest.raises(ValueError, match=re.escape(str(path))):
            load_model(path, allow_pickle=allow_pickle)


def test_file_that_lacks_weights(model, tmp_path):
    path = tmp_path / "model.pt"
    save_model(model, path)
    content = torch.load(path, weights_only=True)
    del content["state_dict"]["les_readouts.0.linear.weight"]
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"does not fit.*lacks .*les_readouts\.0\.linear\.weight"):
        load_model(path)


@pytest.mark.parametrize("part", ["config", "state_dict", "les_arguments"])
def test_file_that_lacks_a_part(model, tmp_path, part):
    path = tmp_path / "model.pt"
    save_model(model, path)
    content = torch.load(path, weights_only=True)
    del content[part]
    torch.save(content, path)
    with pytest.raises(ValueError, match=rf"model\.pt is no MACE model: it lacks '{part}'"):
        load_model(path)


def test_file_whose_configuration_is_of_something_else(model, tmp_path):
    path = tmp_path / "model.pt"
    save_model(model, path)
    content = torch.load(path, weights_only=True)
    del content["config"]["r_max"]
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"model\.pt cannot be rebuilt with this mace-torch"):
        load_model(path)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"num_interactions": -1}, "IndexError"),
        ({"hidden_irreps": "8xx"}, "ValueError"),
        ({"num_bessel": -1}, "RuntimeError"),
    ],
)
def test_settings_that_make_no_model(changes, kind, short_range_model, tmp_path):
    path = tmp_path / "model.pt"
    save_model(short_range_model, path)
    content = torch.load(path, weights_only=True)
    content["config"].update(changes)
    torch.save(content, path)
    with pytest.raises(ValueError, match=rf"model\.pt cannot be rebuilt with .*: {kind}"):
        load_model(path)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"pair_repulsion": True, "distance_transform": "Agnesi"},
        {
            "heads": ["pbe", "scan"],
            "atomic_energies": np.array([[-1.0, -2.0], [-3.0, -4.0]]),
            "atomic_inter_scale": [1.0, 2.0],
            "atomic_inter_shift": [0.0, 0.1],
        },
    ],
    ids=["plain", "repulsion", "heads"],
)
def test_short_range_model(mace_arguments, mace_batch, tmp_path, changes):
    with default_dtype(torch.float64):
        model = ScaleShiftMACE(**{**mace_arguments, **changes})
    save_model(model, tmp_path / "sr.pt")
    loaded = load_model(tmp_path / "sr.pt")
    assert type(loaded) is ScaleShiftMACE
    batches = [mace_batch([dimer(), crystal("left-handed")]) for _ in range(2)]
    for batch in batches:
        batch["head"] = torch.tensor([len(changes.get("heads", [0])) - 1, 0])
    expected, actual = model(batches[0]), loaded(batches[1])
    for key in ("energy", "forces"):
        torch.testing.assert_close(actual[key], expected[key], rtol=0, atol=1e-12)


def test_other_models_have_no_plain_file(mace_arguments, tmp_path):
    with pytest.raises(ValueError, match="mace-torch does not tell how this model is made"):
        save_model(ScaleShiftMACE(**{**mace_arguments, "radial_type": "gaussian"}), tmp_path / "m")
    with pytest.raises(TypeError, match="must be a MACELES or ScaleShiftMACE, got Linear"):
        save_model(torch.nn.Linear(1, 1), tmp_path / "model.pt")
    assert not list(tmp_path.iterdir())


# --- a published model: norm_factor of its time, self-interaction kept

PUBLISHED = "mace_les_dipeptides_r4_l0"


@pytest.fixture(scope="module")
def published_path(reference_dir):
    return reference_dir / "checkpoints" / f"{PUBLISHED}.model"


@pytest.fixture(scope="module")
def published(published_path):
    return load_model(published_path, allow_pickle=True)


@pytest.fixture(scope="module")
def published_results(reference_dir):
    """Structures with what the published code gives for them, float64."""
    with np.load(reference_dir / "checkpoints" / f"{PUBLISHED}.npz") as file:
        return [
            {key.split("/")[1]: file[key] for key in file.files if key.startswith(f"{index}/")}
            for index in range(4)
        ]


def assert_published_numbers(model, references, **options):
    calculator = LESCalculator(model, default_dtype="float64", bec=True, **options)
    for reference in references:
        atoms = Atoms(
            reference["numbers"],
            reference["positions"],
            cell=reference["cell"],
            pbc=reference["pbc"],
        )
        calculator.calculate(atoms)
        results = calculator.results
        assert results["energy"] == pytest.approx(reference["energy"].item(), rel=0, abs=1e-9)
        assert results["les_energy"] == pytest.approx(
            reference["les_energy"].item(), rel=0, abs=1e-9
        )
        np.testing.assert_allclose(results["forces"], reference["forces"], rtol=0, atol=1e-9)
        # We fix the common sign of charges, the published code does not.
        sign = np.sign(results["charges"] @ reference["latent_charges"])
        for key, value in (
            ("charges", reference["latent_charges"]),
            ("born_effective_charges", reference["BEC"].reshape(len(atoms), 9)),
        ):
            np.testing.assert_allclose(sign * results[key], value, rtol=0, atol=1e-9)
        assert results["energies"].sum() == pytest.approx(results["energy"], rel=1e-12)


def test_published_model_needs_opt_in(published_path):
    with pytest.raises(ValueError, match="allow_pickle=True"):
        load_model(published_path)
    with pytest.raises(ValueError, match="allow_pickle=True"):
        LESCalculator(published_path)


def test_published_model(published_path, published_results):
    assert_published_numbers(published_path, published_results, allow_pickle=True)


def test_published_settings(published):
    config = published.les.config()
    assert config.norm_factor == 90.0474
    assert config.remove_self_interaction is False
    assert (config.sigma, config.dl, config.cutoff) == (1.0, 2.0, "sharp")
    assert published.les.ewald.norm_factor == 90.0474
    assert published.les.ewald.remove_self_interaction is False


def test_published_model_after_upstreams_tools(published, published_results, tmp_path):
    with default_dtype(next(published.parameters()).dtype):
        extracted = extract_model(published)
        rebuilt = MACELES(**extract_config_mace_model(published))
    # As upstream's tools do: this model is older than some of upstream's constant buffers.
    rebuilt.load_state_dict(published.state_dict(), strict=False)
    torch.save(rebuilt, tmp_path / "again.model")
    again = load_model(tmp_path / "again.model", allow_pickle=True)
    for model in (extracted, rebuilt, again):
        assert model.les.config() == published.les.config()
        assert_published_numbers(model, published_results)


def test_published_model_in_our_format(published, published_results, tmp_path):
    save_model(published, tmp_path / "published.pt")
    loaded = load_model(tmp_path / "published.pt")
    assert loaded.les.config() == published.les.config()
    assert_published_numbers(loaded, published_results)


def test_removing_a_head(mace_arguments, mace_batch):
    """Upstream's tool for models of several heads also cuts the charge readouts."""
    arguments = {
        **mace_arguments,
        "heads": ["pt_head", "Default"],
        "atomic_energies": np.array([[-1.0, -2.0], [-3.0, -4.0]]),
        "atomic_inter_scale": [1.0, 1.0],
        "atomic_inter_shift": [0.0, 0.0],
    }
    with default_dtype(torch.float64):
        model = MACELES(les_arguments=SETTINGS, **arguments)
        single = remove_pt_head(model)
    batch, batch_of_head = mace_batch([dimer()]), mace_batch([dimer()])
    batch_of_head["head"] = torch.tensor([1])
    expected, actual = model(batch_of_head), single(batch)
    assert single.les.config() == model.les.config()
    for key in ("energy", "les_energy", "forces"):
        torch.testing.assert_close(actual[key], expected[key])


def test_short_range_pickle_stays_short_range(mace_arguments, tmp_path):
    torch.save(ScaleShiftMACE(**mace_arguments), tmp_path / "sr.model")
    assert type(load_model(tmp_path / "sr.model", allow_pickle=True)) is ScaleShiftMACE
