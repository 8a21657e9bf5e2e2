"""Scripts of LAMMPS that a model is coupled to, and the atoms that a rank needs."""

from __future__ import annotations

import numpy as np
import pytest

from les.engines.cluster import find_graph
from les.engines.lammps.script import read_script

FIX = "fix les all external pf/callback 1 1"


@pytest.fixture
def script(tmp_path):
    """Writes a script; its path."""

    def write(*lines):
        path = tmp_path / "in.script"
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


def test_script_is_divided_after_the_fix(script):
    found = read_script(
        script("units metal", f"  {FIX} # forces", "comm_modify vel yes", "neigh_modify one 10000")
    )
    assert found.before == f"units metal\n  {FIX} # forces\n"
    assert found.after == "comm_modify vel yes\nneigh_modify one 10000\n"
    assert found.fix == "les"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["run 1"], "must have the command .* once, .* got it 0 times"),
        ([FIX, FIX], "got it 2 times"),
        ([FIX.replace("all", "water")], "line 1: must be .* got 'fix les water external"),
        ([FIX.replace("1 1", "1 5")], "line 1: must be .* got"),
        ([FIX.replace("callback", "array")], "line 1: must be .* got"),
        ([FIX, "comm_modify mode single cutoff 5"], "line 2: 'comm_modify .* must not come after"),
        ([FIX, "run 1", "neighbor 2.0 bin"], "line 3: 'neighbor .* must not come after"),
        ([FIX, "neigh_modify every 5"], "line 2: 'neigh_modify .* must not come after"),
    ],
)
def test_scripts_are_refused(script, lines, message):
    with pytest.raises(ValueError, match=message):
        read_script(script(*lines))


def chain(n_own, n_seen):
    """Atoms 1 A apart in a row, with images of four of them."""
    positions = np.zeros((n_seen, 3))
    positions[:, 0] = np.arange(n_seen)
    return positions, np.arange(n_seen) % 4, n_own


@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_only_what_messages_come_from_is_needed(n_layers):
    """Of a row of different atoms, one for each layer on the only side where there are ghosts."""
    positions, _, _ = chain(2, 10)
    graph = find_graph(positions, np.arange(10), 2, 1.1, n_layers)
    assert graph.nodes.tolist() == list(range(2 + n_layers))
    edges = set(zip(graph.sender.tolist(), graph.receiver.tolist()))
    inner = range(2 + n_layers - 1)
    assert edges == {(j, i) for i in inner for j in (i - 1, i + 1) if j >= 0}
    assert not graph.shifts.any()


def test_images_are_one_node():
    """Four atoms with ghosts on both sides are a ring."""
    positions, tags, _ = chain(4, 12)
    positions[8:, 0] -= 12.0  # below
    graph = find_graph(positions, tags, 4, 1.1, 3)
    assert graph.nodes.tolist() == [0, 1, 2, 3]
    found = {
        (int(i), int(j)): float(shift)
        for i, j, shift in zip(graph.receiver, graph.sender, graph.shifts[:, 0])
    }
    assert found == {(i, (i + d) % 4): -4.0 * ((i + d) // 4) for i in range(4) for d in (-1, 1)}


def test_a_ghost_that_is_an_image_of_no_own_atom():
    """The nearest of its images is the node, and the others are shifted to it."""
    positions = np.array([[0.0, 0, 0], [2.0, 0, 0], [-1.0, 0, 0], [1.0, 0, 0]])
    graph = find_graph(positions, np.array([7, 7, 5, 5]), 1, 1.1, 2)
    assert graph.nodes.tolist() == [0, 2]
    found = sorted(
        (int(i), int(j), float(s))
        for i, j, s in zip(graph.receiver, graph.sender, graph.shifts[:, 0])
    )
    # Atom 5 at -1 sees 7 at 0, and would see it at -2, which is not seen here.
    assert found == [(0, 1, -2.0), (0, 1, 0.0), (1, 0, 0.0)]
