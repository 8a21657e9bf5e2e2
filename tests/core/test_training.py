"""What training commands share: order, errors, reference energies, options."""

from __future__ import annotations

import argparse

import numpy as np
import pytest
import torch

from les.training.arguments import HelpFormatter, mapping, parse, positive
from les.training.composition import energies_per_element
from les.training.errors import Errors, table
from les.training.shuffle import EpochShuffle


def test_order_of_each_epoch():
    order = EpochShuffle(20, seed=3)
    epochs = [list(order) for _ in range(4)]
    assert len(order) == 20
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 4


def test_order_depends_on_seed_and_epoch_alone():
    first = EpochShuffle(20, seed=3)
    torch.manual_seed(11)
    epochs = [list(first) for _ in range(4)]
    torch.manual_seed(12)
    later = EpochShuffle(20, seed=3, epoch=2)
    assert [list(later), list(later)] == epochs[2:]
    assert list(EpochShuffle(20, seed=4)) not in epochs
    state = torch.get_rng_state()
    list(first)
    assert torch.equal(torch.get_rng_state(), state)


def test_errors_count_all_components():
    errors = Errors()
    assert errors.rmse("energy") is None
    assert errors.mae("energy") is None
    errors.add("energy", torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]))
    errors.add("energy", torch.tensor([0.0]), torch.tensor([-4.0]))
    errors.add("forces", torch.zeros(2, 3), torch.full((2, 3), 0.5))
    assert errors.mae("energy") == 2.0
    assert errors.rmse("energy") == pytest.approx((20.0 / 3.0) ** 0.5)
    assert errors.rmse("forces") == errors.mae("forces") == 0.5
    errors.add_loss(torch.tensor(3.0))
    errors.add_loss(torch.tensor(1.0))
    assert errors.loss() == 2.0
    assert errors.summary() == "energy 2e+03 meV/atom, forces 500 meV/A"


def test_table():
    valid, test = Errors(), Errors()
    valid.add("energy", torch.tensor([0.001]), torch.tensor([0.003]))
    test.add("forces", torch.tensor([0.1]), torch.tensor([0.2]))
    head, first, second = table({"valid": valid, "test": test}).splitlines()
    assert "energy MAE / RMSE [meV/atom] | forces MAE / RMSE [meV/A]" in head
    assert first.split("|")[1].strip() == "2 / 2"
    assert first.split("|")[2].strip() == "- / -"
    assert second.split("|")[2].strip() == "100 / 100"


def test_reference_energies_of_elements():
    numbers = [[1, 1, 8], [8, 8], [1, 8]]
    per_element = {1: -0.5, 8: -2.0}
    energies = [np.mean([per_element[z] for z in atoms]) for atoms in numbers]
    found = energies_per_element(numbers, energies, 94)
    assert found.shape == (94,)
    assert found[0] == pytest.approx(-0.5)
    assert found[7] == pytest.approx(-2.0)
    assert not found[[1, 5, 93]].any()


def test_elements_in_fixed_proportions_share():
    found = energies_per_element([[1, 1, 8]] * 3, [-1.0] * 3, 8)
    assert (2 * found[0] + found[7]) / 3 == pytest.approx(-1.0)
    # The smallest solution is along the composition.
    assert found[0] == pytest.approx(2 * found[7])


@pytest.fixture
def parser():
    parser = argparse.ArgumentParser(prog="train", formatter_class=HelpFormatter)
    parser.add_argument("--config", help="a file")
    parser.add_argument("--epochs", type=positive, default=3, help="how many")
    parser.add_argument("--model", type=mapping, help="settings")
    parser.add_argument("--freeze", action="store_true", help="do not train it")
    return parser


def test_options_from_a_file(parser, tmp_path):
    path = tmp_path / "some.yaml"
    path.write_text("epochs: 7\nmodel: {n: 2, name: a}\nfreeze: true\nof_another: 1\n")
    options = parse(parser, [f"--config={path}"], also_known=["of_another"])
    assert (options.epochs, options.model, options.freeze) == (7, {"n": 2, "name": "a"}, True)
    options = parse(parser, ["--config", str(path), "--epochs", "9"], also_known=["of_another"])
    assert options.epochs == 9
    with pytest.raises(ValueError, match=r"some.yaml: unknown key 'of_another'"):
        parse(parser, [f"--config={path}"])
    path.write_text("epoch: 7\n")
    with pytest.raises(ValueError, match=r"some.yaml: unknown key 'epoch'; did you mean 'epochs'"):
        parse(parser, [f"--config={path}"])
    with pytest.raises(ValueError, match=r"none.yaml"):
        parse(parser, [f"--config={tmp_path / 'none.yaml'}"])


def test_bad_options(parser, capsys):
    for options, message in (
        (["--epochs", "0"], "at least 1, got 0"),
        (["--model", "3"], "a mapping"),
    ):
        with pytest.raises(SystemExit):
            parse(parser, options)
        assert message in capsys.readouterr().err


def test_help_shows_defaults_that_there_are(parser):
    text = parser.format_help()
    assert "how many (default: 3)" in text
    assert text.count("(default") == 1
