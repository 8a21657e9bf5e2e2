"""What training starts from: weights, charges, reference energies, pretrained models."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from ase.io import read, write
from chgnet.model import CHGNet

from les.backends import get_backend
from les.testing.adapter import results_of
from les.testing.structures import dimer
from les_chgnet import CHGNetLES, LESCalculator, load_model, save_model
from les_chgnet.trainer import ResumableTrainer
from les_chgnet.weights import PRETRAINED, load_pretrained


class _Started(ValueError):
    """Upstream's Trainer was about to start."""


@pytest.fixture
def start(les_command, monkeypatch):
    """A function for the model, the trainer and the order of frames that a run starts with."""

    def run(*arguments):
        seen = {}

        def capture(self, train_loader, val_loader, **options):
            order = [
                [graph.atom_frac_coord.sum().item() for graph in graphs]
                for _ in range(2)
                for graphs, _ in train_loader
            ]
            seen.update(trainer=self, model=self.model, order=order, options=options)
            raise _Started

        with monkeypatch.context() as patch:
            patch.setattr(ResumableTrainer, "train", capture)
            assert les_command("train", "chgnet", *arguments) == 1
        return seen

    return run


def assert_equal(state, expected):
    """Bit for bit."""
    assert list(state) == list(expected)
    for key, value in expected.items():
        assert torch.equal(state[key], value), key


# --- weights


def test_same_start_with_and_without_les(start, arguments, tmp_path):
    """Weights of the backbone, and the order of frames."""
    options = arguments(tmp_path, atomic_energies="keep")
    short_range, long_range = start("--no-les", *options), start("--les", *options)
    assert type(short_range["model"]) is CHGNet
    added = long_range["model"].state_dict()
    shared = {key: added.pop(key) for key in short_range["model"].state_dict()}
    assert_equal(shared, short_range["model"].state_dict())
    assert added
    assert all(key.startswith("les.") for key in added)
    assert len(short_range["order"]) == 6
    assert short_range["order"] == long_range["order"]
    assert short_range["order"][:3] != short_range["order"][3:]
    other = start("--les", *arguments(tmp_path, atomic_energies="keep", seed=4))
    assert other["order"] != long_range["order"]
    assert not torch.equal(other["model"].bond_embedding.weight, shared["bond_embedding.weight"])


def test_settings_of_les(start, arguments, tmp_path):
    options = arguments(tmp_path, les_arguments="{sigma: 1.2, n_hidden: [8, 4]}")
    config = start("--les", *options)["model"].les.config()
    assert (config.sigma, config.n_hidden, config.cutoff) == (1.2, (8, 4), "smooth")
    assert (config.use_atomwise, config.n_features) == (True, 8)


def test_charges_are_trained(start, train, arguments, tmp_path):
    before = start("--les", *arguments(tmp_path))["model"].state_dict()
    train("--les", *arguments(tmp_path))
    after = torch.load(tmp_path / "small_checkpoint.pth.tar", weights_only=True)
    after = after["model"]["state_dict"]
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert {key for key in before if key.startswith("les.") and key.endswith("weight")} <= moved
    assert any(not key.startswith("les.") for key in moved)
    results = results_of(LESCalculator(tmp_path / "small.pth.tar", use_device="cpu"), dimer())
    assert results["les_energy"] != 0.0
    assert np.ptp(results["charges"]) > 1e-4


@pytest.mark.parametrize("atomic_energies", ["keep", "fit"])
def test_frozen_short_range_part(start, train, arguments, atomic_energies, tmp_path):
    options = [
        *arguments(tmp_path, atomic_energies=atomic_energies),
        "--freeze_short_range_epochs=99",
    ]
    before = start("--les", *options)["model"].state_dict()
    train("--les", *options)
    after = torch.load(tmp_path / "small_checkpoint.pth.tar", weights_only=True)
    after = after["model"]["state_dict"]
    for key, value in before.items():
        frozen = not key.startswith("les.") or key == "les.settings"
        assert torch.equal(after[key], value) == frozen, key


def test_learning_rate_of_the_charges(train, arguments, short_range_run, tmp_path):
    """Ten times that of a model that is trained already, or what is asked for; it decays, too."""
    start = {"from": short_range_run / "small.pth.tar", "model": None}
    for name, flag, changes, expected in (
        ("new", "--les", {}, [1e-3]),
        ("asked", "--les", {"charge_learning_rate": 3e-3}, [1e-3, 3e-3]),
        ("short", "--no-les", start, [1e-3]),
        ("fine", "--les", start, [1e-3, 1e-2]),
        ("both", "--les", {**start, "charge_learning_rate": 2e-4}, [1e-3, 2e-4]),
    ):
        train(flag, *arguments(tmp_path, name=name, **changes))
        state = torch.load(tmp_path / f"{name}_checkpoint.pth.tar", weights_only=True)
        groups = state["optimizer"]["param_groups"]
        assert [group["initial_lr"] for group in groups] == expected
        assert all(group["lr"] < group["initial_lr"] for group in groups)
        model = load_model(tmp_path / f"{name}.pth.tar")
        sizes = [len(group["params"]) for group in groups]
        assert sum(sizes) == len(list(model.parameters()))
        if len(groups) == 2:
            assert sizes[1] == len(list(model.les.parameters()))


# --- reference energies


def test_kept_atomic_energies(start, arguments, train, tmp_path):
    options = arguments(tmp_path, atomic_energies="keep")
    expected = CHGNet().composition_model.fc.weight
    assert torch.equal(start("--les", *options)["model"].composition_model.fc.weight, expected)
    train("--les", *options)
    model = load_model(tmp_path / "small.pth.tar")
    assert torch.equal(model.composition_model.fc.weight, expected)


@pytest.mark.parametrize("flag", ["--les", "--no-les"])
def test_fitted_atomic_energies(flag, start, arguments, train, data_files, tmp_path):
    """All frames are of H4 O2, so the shift takes the mean error of the model away."""
    kept = start(flag, *arguments(tmp_path, atomic_energies="keep"))["model"]
    fitted = start(flag, *arguments(tmp_path))["model"]
    frames = read(data_files[0], ":")
    mean = np.mean([x.info["REF_energy"] / len(x) for x in frames])

    def predicted(model):
        calculator = LESCalculator(model, use_device="cpu")
        return np.mean([results_of(calculator, x)["energy"] / len(x) for x in frames])

    assert abs(predicted(kept) - mean) > 0.1
    assert predicted(fitted) == pytest.approx(mean, abs=1e-4)
    shift = (fitted.composition_model.fc.weight - kept.composition_model.fc.weight)[0].detach()
    assert shift.nonzero().flatten().tolist() == [0, 7]
    train(flag, *arguments(tmp_path))  # and they stay
    trained = load_model(tmp_path / "small.pth.tar").composition_model.fc.weight
    assert torch.equal(trained, fitted.composition_model.fc.weight)


def test_trained_atomic_energies(start, arguments, train, tmp_path):
    fitted = start("--les", *arguments(tmp_path))["model"].composition_model.fc.weight
    options = arguments(tmp_path, atomic_energies="train")
    begin = start("--les", *options)
    assert torch.equal(begin["model"].composition_model.fc.weight, fitted)
    train("--les", *options)
    trained = load_model(tmp_path / "small.pth.tar").composition_model.fc.weight
    assert (trained - fitted)[0].detach().nonzero().flatten().tolist() == [0, 7]


def test_atomic_energies_of_a_single_frame(start, arguments, data_files, tmp_path):
    """Upstream gives the prediction for one structure another type."""
    write(tmp_path / "one.xyz", read(data_files[0], "0"), format="extxyz")
    assert start("--les", *arguments(tmp_path, train_file=tmp_path / "one.xyz"))["order"]


# --- trained models


@pytest.mark.parametrize("name", PRETRAINED)
def test_from_a_pretrained_model(name, start, arguments, tmp_path):
    options = arguments(tmp_path, model=None, atomic_energies="keep", **{"from": name})
    pretrained = load_pretrained(name)
    short_range, long_range = start("--no-les", *options), start("--les", *options)
    assert type(short_range["model"]) is CHGNet
    assert type(long_range["model"]) is CHGNetLES
    weights = long_range["model"].state_dict()
    assert_equal({key: weights[key] for key in pretrained.state_dict()}, pretrained.state_dict())
    assert_equal(short_range["model"].state_dict(), pretrained.state_dict())
    assert short_range["model"].graph_converter.atom_graph_cutoff == (
        pretrained.graph_converter.atom_graph_cutoff
    )


def test_charges_do_not_depend_on_where_the_rest_comes_from(start, arguments, tmp_path):
    """Two seeds give two sets of charges, the same seed the same one."""
    options = {"model": None, "from": "0.3.0"}
    first, again, other = (
        start("--les", *arguments(tmp_path, seed=seed, **options))["model"] for seed in (3, 3, 4)
    )
    assert_equal(first.les.state_dict(), again.les.state_dict())
    weight = "atomwise.linear.weight"
    assert not torch.equal(first.les.state_dict()[weight], other.les.state_dict()[weight])


@pytest.mark.parametrize("file", ["small", "small_best", "small_checkpoint"])
def test_from_an_earlier_run(file, short_range_run, start, arguments, tmp_path):
    path = short_range_run / f"{file}.pth.tar"
    expected = load_model(path).state_dict()
    options = arguments(tmp_path, model=None, atomic_energies="keep", **{"from": path})
    for flag in ("--les", "--no-les"):
        weights = start(flag, *options)["model"].state_dict()
        assert_equal({key: weights[key] for key in expected}, expected)


def test_fine_tuning(short_range_run, train, arguments, tmp_path):
    """A whole run, whose result can be read without the file that it came from."""
    start = short_range_run / "small.pth.tar"
    copied = tmp_path / "start.pth.tar"
    copied.write_bytes(start.read_bytes())
    options = {"model": None, "learning_rate": 1e-9, "atomic_energies": "keep", "from": copied}
    train("--les", *arguments(tmp_path / "run", **options))
    copied.unlink()
    weights = load_model(tmp_path / "run" / "small.pth.tar").state_dict()
    for key, value in load_model(start).state_dict().items():
        torch.testing.assert_close(weights[key], value, rtol=0, atol=1e-6)


def test_pickled_models_need_trust(short_range_run, start, refused, arguments, tmp_path):
    """A file that runs code when it is loaded."""
    content = torch.load(short_range_run / "small.pth.tar", weights_only=True)
    content["trainer"] = CHGNet  # a class, which plain files do not hold
    torch.save(content, tmp_path / "pickled.pth.tar")
    options = arguments(tmp_path, model=None, **{"from": tmp_path / "pickled.pth.tar"})
    assert "--allow-pickle" in refused("--les", *options)
    assert type(start("--les", *options, "--allow-pickle")["model"]) is CHGNetLES


def test_from_a_model_with_charges(short_range_run, start, refused, arguments, tmp_path):
    """It is trained further; its charges are no longer new."""
    short_range = load_model(short_range_run / "small.pth.tar")
    with_charges = CHGNetLES.from_short_range(short_range, {"sigma": 1.3})
    save_model(with_charges, tmp_path / "les.pth.tar")
    options = arguments(tmp_path, model=None, **{"from": tmp_path / "les.pth.tar"})
    assert "has charges; train it with --les" in refused("--no-les", *options)
    message = refused("--les", *options, "--les_arguments={sigma: 1.0}")
    assert "has charges and --les_arguments of its own" in message
    trainer = start("--les", *options)
    assert_equal(trainer["model"].les.state_dict(), with_charges.les.state_dict())


def test_the_short_range_part_is_trained_after_the_charges(start, train, arguments, tmp_path):
    """With reference energies that are trained, too, but not before."""
    options = ["--les", *arguments(tmp_path, atomic_energies="train", epochs=2)]
    before = start(*options)["model"].state_dict()
    for epochs, fixed in ((2, True), (1, False)):
        name = f"frozen{epochs}"
        train(*options, f"--name={name}", f"--freeze_short_range_epochs={epochs}")
        after = torch.load(tmp_path / f"{name}_checkpoint.pth.tar", weights_only=True)
        after = after["model"]["state_dict"]
        for key in ("composition_model.fc.weight", "atom_conv_layers.0.twoBody_atom.mlp_core"):
            found = [name for name in before if name.startswith(key)]
            assert found
            assert all(torch.equal(after[x], before[x]) for x in found) == fixed, key
        assert not torch.equal(
            after["les.atomwise.linear.weight"], before["les.atomwise.linear.weight"]
        )


@pytest.mark.parametrize("flag", ["--les", "--no-les"])
def test_from_a_model_in_double_precision(flag, short_range_run, train, arguments, tmp_path):
    """Upstream trains in single precision."""
    double = load_model(short_range_run / "small.pth.tar").double()
    save_model(double, tmp_path / "double.pth.tar")
    options = {"model": None, "epochs": 1, "from": tmp_path / "double.pth.tar"}
    train(flag, *arguments(tmp_path / "new", **options))
    assert next(load_model(tmp_path / "new" / "small.pth.tar").parameters()).dtype == torch.float32


def test_pretrained_backend_starts_from_the_pretrained_model(arguments, data_files):
    from les_chgnet.arguments import parse

    options = [f"--train_file={data_files[0]}", f"--valid_file={data_files[1]}"]
    start = get_backend("chgnet-pretrained").start
    assert parse(options, les=True, start=start).start == "0.3.0"
    assert parse([*options, "--from=r2scan"], les=True, start=start).start == "r2scan"
    assert parse([*options, "--model={n_conv: 2}"], les=True, start=start).start is None
    assert get_backend("chgnet").start is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"from": "0.3.0"}, "--from and --model exclude each other"),
        ({"from": "0.4.0", "model": None}, "no model file 0.4.0"),
        ({"from": "notes.txt", "model": None}, r"notes.txt \(5 bytes\) is no CHGNet model"),
        ({"from": "other.pt", "model": None}, "other.pt is no CHGNet model: it lacks 'model'"),
        ({"model": "{n_convs: 2}"}, "unknown key 'n_convs'; did you mean 'n_conv'"),
        ({"model": "{is_intensive: false}"}, "is_intensive"),
        ({"model": "{composition_model: null}"}, "composition_model"),
        ({"model": "{mlp_first: false}"}, "`mlp_first` must be true"),
        ({"model": "{n_conv: many}"}, "n_conv|many|--model"),
        ({"les_arguments": "{sigmaa: 1}"}, "unknown key 'sigmaa'; did you mean 'sigma'"),
        ({"les_arguments": "{sigma: -1}"}, "`sigma` must be a positive number, got -1"),
        ({"les_arguments": "{n_features: 8}"}, "`n_features` follows from the model"),
        ({"trainer": "{optimiser: SGD}"}, "unknown key 'optimiser'; did you mean 'optimizer'"),
        ({"trainer": "{epochs: 3}"}, "unknown key 'epochs'"),
        ({"trainer": "{optimizer: Sgd}"}, "optimizer|Sgd|--trainer"),
        ({"trainer": "{scheduler: Never}"}, "scheduler|Never|--trainer"),
        ({"trainer": "{criterion: MSD}"}, "criterion|MSD|--trainer"),
        ({"trainer": "{delta: 0.1, momentum: 0.9}"}, "momentum"),  # not with Adam
        ({"device": "abacus"}, "abacus"),
    ],
)
def test_bad_settings(changes, message, refused, arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("0.3.0")
    torch.save({"weights": torch.zeros(3)}, tmp_path / "other.pt")
    error = refused("--les", *arguments(tmp_path / "run", **changes))
    assert re.search(message, error), error
