"""The benchmark suite with CACE, and what its own benchmark compares."""

from __future__ import annotations

import pytest
import torch

from les.testing.structures import crystal, dimer
from les_cace import Representation
from les_cace.batches import collate, to_structure
from measure import Case, measure
from naive import NaiveRepresentation

SMALL = "{n_atom_basis: 2, n_rbf: 4, n_radial_basis: 3, max_l: 2, max_nu: 2}"


def test_short_range_against_les(check_benchmark):
    check_benchmark("cace", ".cace.pt", 20, "--model", SMALL)


def test_cost(les_command, few_dipeptides, capsys):
    """Of trainings without and with LES, and of calls of the models that they leave."""
    run = ["bench", "cost", "--model", "cace", "--system", "dipeptides", "--data", few_dipeptides]
    run += ["--frames", 4, "--epochs", 3, "--pairs", 1, "--calls", 3]
    assert les_command(*run, "--", "--model", SMALL) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["without/s", "with/s", "ratio", "quartiles", "pairs"]
    for line, what, n_pairs in zip(lines, ("epoch of 4", "call, "), (2, 3), strict=True):
        assert line.startswith(what)
        without, long, ratio, quartiles, n = line[24:].split()
        low, high = map(float, quartiles.split("-"))
        assert 0.0 < float(without) < 60.0
        assert 0.0 < float(long) < 60.0
        assert low <= float(ratio) <= high
        assert int(n) == n_pairs


def test_cost_of_nothing(les_command, capsys):
    with pytest.raises(SystemExit):
        les_command("bench", "cost", "--model", "cace", "--epochs", 2)
    assert "--epochs must be at least 3, got 2" in capsys.readouterr().err


@pytest.mark.parametrize(("max_l", "max_nu", "n_layers"), [(2, 1, 0), (1, 3, 1), (4, 3, 2)])
def test_plain_evaluation(small, max_l, max_nu, n_layers):
    """The same features, by sums and products that are written down independently."""
    torch.manual_seed(2)
    arguments = {**small, "max_l": max_l, "max_nu": max_nu, "num_message_passing": n_layers}
    ours = Representation(**arguments).double()
    plain = NaiveRepresentation(ours, arguments).double()
    batch = collate([to_structure(x, ours.cutoff) for x in (crystal("triclinic"), dimer())])
    neighbours = batch.neighbours
    vectors = neighbours.vectors(batch.positions, batch.cell, batch.batch, ours.cutoff)
    element = ours.elements(batch.numbers)
    features = [x(vectors, neighbours.sender, element) for x in (ours, plain)]
    torch.testing.assert_close(features[0], features[1], rtol=1e-12, atol=1e-14)


def test_row_of_the_table(monkeypatch):
    monkeypatch.setattr("les_bench.speed.timing.SECONDS", 0.0)
    monkeypatch.setattr("les_bench.speed.timing.REPETITIONS", 1)
    case = Case("water", 1, "embedded", torch.float64)
    for training in (False, True):
        *_, memory, difference = measure(case, training).split()
        assert float(memory) > 1.0
        assert 0.0 < float(difference) < 1e-10
