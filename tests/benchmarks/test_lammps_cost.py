"""What a step of LAMMPS costs, counted and computed."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from les.sums.reduction import OneProcess
from les_bench import cli
from les_bench.speed.lammps_rank import FORCES, GRAPH, MODEL, SUM, WAITING, Counted, Ledger
from les_bench.speed.scaling import Figures, Network, block_share, blocks, fitted

NETWORK = Network(bandwidth=1e9, latency=1e-6)


def test_parts_within_others_count_for_themselves(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    monkeypatch.setattr("time.process_time", lambda: 0.0)
    ledger = Ledger()
    with ledger.part(MODEL):  # 1 s
        with ledger.part(SUM):  # 1 s
            pass
        with ledger.part(SUM):  # 1 s, after another one of the model
            pass
    assert {name: wall for name, (wall, _) in ledger.seconds.items()} == {MODEL: 3, SUM: 2}


def test_what_is_added_up_belongs_to_the_part_that_asks():
    ledger = Ledger()
    owner = SimpleNamespace(sum=Counted(OneProcess(), ledger).sum)
    with ledger.part(SUM):
        owner.sum(torch.zeros(3, dtype=torch.complex128))
    with ledger.part(MODEL):
        owner.sum(torch.zeros(2, dtype=torch.float64))
    assert dict(ledger.bytes) == {SUM: 48, MODEL: 16}
    assert ledger.n_sums == 2 and WAITING in ledger.seconds


def test_the_sizes_are_those_of_the_graph():
    ledger = Ledger()
    graph = SimpleNamespace(nodes=range(4), sender=range(9))
    owner = SimpleNamespace(find=lambda *_: graph)
    ledger.watch(owner, "find", GRAPH)
    assert owner.find(None, range(7), 3) is graph
    assert ledger.sizes == {"own": 3, "seen": 7, "nodes": 4, "edges": 9}


def test_blocks_have_the_least_surface():
    assert blocks([10, 10, 10], 1) == (1, 1, 1)
    assert blocks([10, 10, 10], 8) == (2, 2, 2)
    assert blocks([10, 10, 40], 4) == (1, 1, 4)
    assert math.prod(blocks([10, 20, 30], 12)) == 12


def test_what_is_around_a_block_is_no_more_than_the_box():
    assert block_share([10, 10, 10], 1, 4.0) == 1.0
    assert block_share([10, 10, 10], 8, 0.0) == pytest.approx(1 / 8)
    assert block_share([10, 10, 10], 8, 1.0) == pytest.approx(0.7**3)
    assert block_share([10, 10, 10], 8, 4.0) == 1.0


def test_fitted_costs():
    counts = [(1.0, 10.0), (3.0, 10.0), (2.0, 50.0)]
    measured = [(row, 2.0 * row[0] + 0.5 * row[1]) for row in counts]
    np.testing.assert_allclose(fitted(measured), [2.0, 0.5], rtol=1e-12)
    # None is negative.
    np.testing.assert_allclose(fitted([((1.0, 1.0), 1.0), ((2.0, 1.0), 4.0)])[1], 0.0, atol=1e-12)


def made_run(n_atoms, ranks):
    """What would be measured if costs were what the prediction takes them to be."""
    lengths = [(10.0 * n_atoms) ** (1 / 3)] * 3
    edges = int(30 * n_atoms * block_share(lengths, ranks, 4.0))
    sides = [length / n for length, n in zip(lengths, blocks(lengths, ranks))]
    seen = 0.1 * math.prod(side + 2 * 9.0 for side in sides)
    components, own = 2.0 * math.prod(lengths), n_atoms // ranks
    seconds = {
        MODEL: 0.01 + 1e-6 * edges,
        GRAPH: 1e-6 * seen,
        SUM: 2e-6 * own + 1e-7 * components,
        FORCES: 0.0,
        WAITING: 5.0,
    }
    total = sum(seconds.values()) + 3e-7 * seen
    of_rank = {
        "own": own,
        "seen": seen,
        "edges": edges,
        "seconds": {name: [value, value] for name, value in seconds.items()},
        "total": [total, total],
        "bytes": {SUM: 16 * components},
        "sums": 5.0,
    }
    common = {"lengths": lengths, "skin": 1.0, "cutoff": 4.0, "n_layers": 2}
    return {"atoms": n_atoms, "ranks": ranks, **common, "of_ranks": [of_rank] * ranks}


def test_predictions_repeat_what_was_measured():
    """The figures of some runs say what another one takes; waiting for others is left out."""
    figures = Figures.of([made_run(1000, 1), made_run(1000, 8), made_run(8000, 2)])
    wanted = made_run(27000, 64)
    found = figures.predict(27000, wanted["lengths"], 64, NETWORK)
    of_rank = wanted["of_ranks"][0]
    assert found.edges == pytest.approx(of_rank["edges"], rel=1e-3)
    for name in (MODEL, GRAPH, SUM):
        assert getattr(found, name) == pytest.approx(of_rank["seconds"][name][1], rel=1e-2)
    assert found.lammps == pytest.approx(3e-7 * of_rank["seen"], rel=1e-2)
    n_bytes = of_rank["bytes"][SUM] + 24 * 27000
    assert found.network == pytest.approx(12 * (n_bytes / 1e9 + 5e-6), rel=1e-2)
    assert found.limit[0] == max(
        (MODEL, GRAPH, SUM, "lammps", "network"), key=lambda name: getattr(found, name)
    )


def test_tables_of_earlier_results(tmp_path, capsys):
    runs = [made_run(1000, 1), made_run(1000, 8)]
    for run in runs:
        run["of_ranks"][0] |= {"mebibytes": 100.0}
        run["of_ranks"] = [{**run["of_ranks"][0]} for _ in run["of_ranks"]]
    path = tmp_path / "lammps.json"
    path.write_text(json.dumps({"runs": runs}))
    assert cli.main(["lammps", "--read", str(path), "--more-ranks", "64"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert [row[:2] for row in rows if row[0].isdigit() and "atoms" not in row] == [
        *(["1000", "1"], ["1000", "8"], ["1000", "64"], ["64000", "64"])
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ranks", "0"], "--ranks must be positive, got 0"),
        (["--steps", "0"], "--steps must be positive, got 0"),
        (["--warm-up", "-1"], "--warm-up must not be negative, got -1"),
        (["--read", "earlier.json"], "a model and structures are needed, or --read"),
        (["--atoms", "4"], "--atoms must be multiples of the structure's 3, got 4"),
    ],
)
def test_what_is_refused(options, message, tmp_path, capsys):
    structure = tmp_path / "water.xyz"
    structure.write_text('3\nLattice="9 0 0 0 9 0 0 0 9"\nO 0 0 0\nH 0 0 1\nH 0 1 0\n')
    with pytest.raises(SystemExit):
        cli.main(["lammps", "model.pt", str(structure), *options])
    assert message in capsys.readouterr().err
