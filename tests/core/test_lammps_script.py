"""Scripts of LAMMPS that a model is coupled to, and the atoms that a rank needs."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from les.engines.cluster import find_graph
from les.engines.lammps import EngineError, cli
from les.engines.lammps.atoms import unpacked_images
from les.engines.lammps.charges import Charges
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


def test_script_is_divided_at_the_fix(script):
    found = read_script(
        script("units metal", f"  {FIX} # forces", "comm_modify vel yes", "neigh_modify one 10000")
    )
    assert found.before == "units metal\n"
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
        ([FIX, 'if "1 > 0" then "neighbor 2 bin"'], "line 2: 'if .* must not come after"),
        ([FIX, "neigh_modify every 5"], "line 2: 'neigh_modify .* must not come after"),
    ],
)
def test_scripts_are_refused(script, lines, message):
    with pytest.raises(ValueError, match=message):
        read_script(script(*lines))


class Rank:
    """A communicator in which this rank has a number, and others have sent messages."""

    def __init__(self, number, others=()):
        self.number, self.others, self.is_ended = number, others, False

    def Get_rank(self):
        return self.number

    def allgather(self, own):
        return [*self.others, own]

    def bcast(self, value):
        assert value is not None, "this would wait for another rank"
        return value

    def Abort(self, status):
        self.is_ended = True


@pytest.mark.parametrize("rank", [Rank(0), Rank(1, ["no space left"])])
def test_a_copy_that_cannot_be_written_ends_all_ranks(monkeypatch, rank):
    def full(**_):
        raise OSError("no space left")

    monkeypatch.setattr(cli.tempfile, "mkstemp", full)
    message = "the script cannot be copied: no space left"
    with pytest.raises(EngineError, match=message), cli._as_file("run 1", rank):
        pass


def test_a_copy_may_be_gone_in_the_end():
    with cli._as_file("run 1\n", Rank(0)) as name:
        path = cli.Path(name)
        assert path.read_text() == "run 1\n"
        path.unlink()
    assert not path.exists()


class MPIAbortException(Exception):
    """LAMMPS's."""


@pytest.mark.parametrize(
    ("error", "ended"),
    [
        (EngineError("all know"), False),
        (Exception("ERROR: of LAMMPS"), False),
        (MPIAbortException("ERROR on proc 0"), True),
        (KeyError("a mistake"), True),
    ],
)
def test_errors_that_other_ranks_may_not_know_end_them(monkeypatch, script, error, ended):
    rank = Rank(0)
    lmp = SimpleNamespace(close=lambda: None)
    made = SimpleNamespace(lammps=lambda **_: lmp, MPIAbortException=MPIAbortException)
    monkeypatch.setitem(sys.modules, "lammps", made)
    monkeypatch.setitem(sys.modules, "mpi4py", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", SimpleNamespace(COMM_WORLD=rank))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def run(*_):
        raise error

    monkeypatch.setattr(cli, "_run", run)
    assert cli.main([str(script(FIX)), "--model", "m.pt", "--elements", "H"]) == 1
    assert rank.is_ended == ended


@pytest.mark.parametrize(("size", "bits", "dtype"), [(4, 10, np.int32), (8, 21, np.int64)])
def test_images_are_unpacked(size, bits, dtype):
    """LAMMPS packs a count of images per axis, the first one in the lowest bits."""
    most = 2 ** (bits - 1)
    images = np.array(
        [[0, 0, 0], [1, -2, 3], [-most, most - 1, -most], [most - 1, -most, most - 1]]
    )
    packed = ((images + most) << np.array([0, bits, 2 * bits])).sum(axis=1)
    np.testing.assert_array_equal(unpacked_images(packed.astype(dtype), size), images)


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


def test_atoms_at_the_same_place_are_named():
    positions = np.array([[0.0, 0, 0], [1.0, 0, 0], [1.0, 0, 0]])
    with pytest.raises(ValueError, match="the atoms 4 and 9 are at the same place"):
        find_graph(positions, np.array([2, 9, 4]), 1, 1.1, 1)


def test_born_effective_charges_begin_with_the_first_step():
    """Else what dumps and the current have before the first multiple would be zero."""
    state = SimpleNamespace(born_every=4, has_born=False)
    assert Charges.born_due(state, 1)
    state.has_born = True
    assert [Charges.born_due(state, step) for step in (3, 4, 5, 8)] == [False, True, False, True]
    assert not Charges.born_due(SimpleNamespace(born_every=0, has_born=False), 0)
