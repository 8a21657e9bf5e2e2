"""Structures and graphs: what is periodic, what is not, and in which precision."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.neighborlist import neighbor_list
from chgnet.graph import CrystalGraph, CrystalGraphConverter
from pymatgen.core import Lattice, Molecule, Structure
from pymatgen.io.ase import AseAtomsAdaptor

from les.testing.structures import CELLS, crystal, dimer
from les_chgnet import GraphConverter
from les_chgnet.bonds import Pairs, undirected
from les_chgnet.graphs import BoundaryGraph
from les_chgnet.structures import to_structure

OPEN, PERIODIC = [False] * 3, [True] * 3


@pytest.fixture
def converter():
    return GraphConverter(atom_graph_cutoff=4.0, bond_graph_cutoff=3.0)


def in_vacuum():
    """A crystal whose atoms have no neighbours in other cells."""
    atoms = dimer()
    atoms.set_cell(30.0 * np.eye(3))
    atoms.center()
    atoms.pbc = True
    return atoms


# --- structures


@pytest.mark.parametrize("name", CELLS)
def test_crystals_of_ase(name):
    atoms = crystal(name)
    structure = to_structure(atoms)
    assert structure.lattice.pbc == (True, True, True)
    assert np.linalg.det(structure.lattice.matrix) > 0
    sign = -1.0 if name == "left-handed" else 1.0
    np.testing.assert_array_equal(structure.lattice.matrix, sign * atoms.cell[:])
    np.testing.assert_allclose(structure.cart_coords, atoms.positions, rtol=0, atol=1e-12)
    assert list(structure.atomic_numbers) == atoms.numbers.tolist()
    distances = atoms.get_all_distances(mic=True)
    np.testing.assert_allclose(structure.distance_matrix, distances, rtol=0, atol=1e-9)


@pytest.mark.parametrize("cell", [None, "triclinic", "left-handed", "flat"])
def test_molecules_of_ase(cell):
    """With and without a cell, which means nothing where pbc is false."""
    atoms = dimer()
    if cell is not None:
        atoms.set_cell(np.diag([5.0, 5.0, 0.0]) if cell == "flat" else CELLS[cell])
    structure = to_structure(atoms)
    assert structure.lattice.pbc == (False, False, False)
    np.testing.assert_array_equal(structure.lattice.matrix, np.eye(3))
    np.testing.assert_array_equal(structure.frac_coords, atoms.positions)
    np.testing.assert_array_equal(structure.cart_coords, atoms.positions)


def test_slab_of_ase():
    """The missing vector is completed; what can be done with slabs, the models say."""
    atoms = dimer()
    atoms.set_cell([[5.0, 0, 0], [1.0, 6.0, 0], [0, 0, 0]])
    atoms.pbc = [True, True, False]
    structure = to_structure(atoms)
    assert structure.lattice.pbc == (True, True, False)
    np.testing.assert_array_equal(structure.lattice.matrix[:2], atoms.cell[:2])
    np.testing.assert_allclose(structure.cart_coords, atoms.positions, rtol=0, atol=1e-12)


def test_structures_of_pymatgen():
    numbers, places = ["Na", "Cl"], [[0.1, 0.2, 0.3], [0.6, 0.8, 0.7]]
    ordinary = Structure(Lattice(CELLS["triclinic"]), numbers, places)
    assert to_structure(ordinary) is ordinary

    left_handed = Structure(Lattice(CELLS["left-handed"]), numbers, places)
    turned = to_structure(left_handed)
    np.testing.assert_allclose(turned.lattice.matrix, -CELLS["left-handed"])
    np.testing.assert_allclose(turned.cart_coords, left_handed.cart_coords, rtol=0, atol=1e-12)

    # Places outside the cell are where they are.
    cluster = Structure(
        Lattice(CELLS["cubic"], pbc=(False,) * 3), numbers, [[0, 0, 0], [0, 0, 1.4]]
    )
    unbound = to_structure(cluster)
    assert unbound.lattice.pbc == (False, False, False)
    np.testing.assert_allclose(unbound.cart_coords, cluster.cart_coords, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(unbound.lattice.matrix, np.eye(3))


def test_molecule_of_pymatgen():
    structure = to_structure(Molecule(["O", "H"], [[0.1, 0.2, 0.3], [0.1, 0.2, 1.3]]))
    assert structure.lattice.pbc == (False, False, False)
    np.testing.assert_allclose(structure.cart_coords, [[0.1, 0.2, 0.3], [0.1, 0.2, 1.3]])
    assert [str(specie) for specie in structure.species] == ["O", "H"]


def test_no_atoms(converter):
    for nothing in (Atoms(), Structure(Lattice(np.eye(3)), [], [])):
        with pytest.raises(ValueError, match="must have atoms, got none"):
            converter(nothing)


# --- graphs


@pytest.mark.parametrize("name", ["triclinic", "left-handed"])
def test_same_graph_from_ase_and_pymatgen(converter, name):
    atoms = crystal(name)
    cell = Lattice(atoms.cell[:])
    structure = Structure(cell, atoms.numbers, atoms.positions, coords_are_cartesian=True)
    ours, theirs = converter(atoms), converter(structure)
    assert ours.pbc.tolist() == theirs.pbc.tolist() == PERIODIC
    for key, value in ours.to_dict().items():
        if torch.is_tensor(value):
            torch.testing.assert_close(theirs.to_dict()[key], value)
        else:
            assert theirs.to_dict()[key] == value


def one_atom_in_a_small_cell() -> Atoms:
    """All neighbours are images of the atom itself, at distances that are equal."""
    return Atoms("C", cell=[[2.4, 0, 0], [0.2, 2.5, 0], [0, -0.4, 2.8]], pbc=True)


def layer() -> Atoms:
    """A slab in a periodic cell with vacuum: no bond leaves it along the third axis."""
    atoms = crystal("triclinic")
    cell = atoms.cell[:].copy()
    cell[2] *= 4.0
    atoms.set_cell(cell)
    return atoms


def with_isolated_atoms() -> Atoms:
    """A molecule in a box, and atoms that have no neighbours before, among and after its own."""
    molecule = in_vacuum()
    far = Atoms("OH", [[5.0, 5.0, 5.0], [25.0, 25.0, 5.0]])
    atoms = far[:1] + molecule[:2] + far[1:] + molecule[2:]
    atoms.set_cell(molecule.cell)
    atoms.pbc = True
    return atoms


@pytest.mark.parametrize(
    ("atoms", "least"),
    [
        (crystal("triclinic"), 20),
        (one_atom_in_a_small_cell(), 20),
        (layer(), 20),
        (in_vacuum(), 5),
        (with_isolated_atoms(), 5),
    ],
    ids=["crystal", "one-atom", "slab", "molecule", "isolated-atoms"],
)
def test_graph_of_a_crystal_is_upstreams(converter, atoms, least):
    """``least`` angles or more are compared."""
    upstreams = CrystalGraphConverter(
        atom_graph_cutoff=4.0, bond_graph_cutoff=3.0, on_isolated_atoms="ignore"
    )
    expected = upstreams(AseAtomsAdaptor.get_structure(atoms), graph_id="a", mp_id="b")
    actual = converter(atoms, graph_id="a", mp_id="b")
    assert isinstance(actual, CrystalGraph)
    assert not isinstance(expected, BoundaryGraph)
    assert len(expected.bond_graph) >= least
    for key, value in expected.to_dict().items():
        if torch.is_tensor(value):
            torch.testing.assert_close(getattr(actual, key), value)
            assert getattr(actual, key).requires_grad == value.requires_grad
        else:
            assert getattr(actual, key) == value


def test_bonds_have_two_directions():
    pairs = Pairs(np.array([0]), np.array([1]), np.zeros((1, 3), dtype=int), np.array([1.5]))
    with pytest.raises(ValueError, match=r"got 1 of that from atom 0 to atom 1, 1\.5 A away"):
        undirected(pairs, 2)


def test_error_of_bonds_names_the_structure(converter, monkeypatch):
    found = Structure.get_neighbor_list

    def without_the_last(self, *arguments, **options):
        return tuple(values[:-1] for values in found(self, *arguments, **options))

    monkeypatch.setattr(Structure, "get_neighbor_list", without_the_last)
    with pytest.raises(ValueError, match=r"graph_id='frame 7': every bond must have two direct"):
        converter(dimer(), graph_id="frame 7")


@pytest.mark.parametrize("cells", [[0, 0, 0], [-3, 1, 0], [10**6, 0, -(10**6)]])
def test_bonds_to_images(cells):
    """Two atoms that are bound twice, once directly and once to an image, however far it is."""
    images = np.array([[1, 0, 0], cells, [-1, 0, 0], np.negative(cells)])
    ends = np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0])
    bond, first = undirected(Pairs(*ends, images, np.ones(4)), 2)
    assert bond.tolist() == [0, 1, 0, 1]
    assert first.tolist() == [0, 1]


def test_images_that_cannot_be_numbered():
    images = np.array([[10**7, 10**7, 10**7], [-(10**7)] * 3])
    pairs = Pairs(np.array([0, 1]), np.array([1, 0]), images, np.ones(2))
    with pytest.raises(ValueError, match=r"got some \[10000000, 10000000, 10000000\] cells away"):
        undirected(pairs, 2)


@pytest.mark.parametrize("side", [None, 3.5])
def test_bonds_of_molecules(converter, side):
    """None goes through a cell, and none is missing, wherever the atoms are."""
    atoms = Atoms("C30", np.random.default_rng(1).uniform(-7.0, 9.0, size=(30, 3)))
    if side is not None:
        atoms.set_cell(side * np.eye(3))
    graph = converter(atoms)
    assert graph.pbc.tolist() == OPEN
    assert not graph.neighbor_image.any()
    bonds = sorted(map(tuple, graph.atom_graph.tolist()))
    assert bonds == sorted(map(tuple, np.transpose(neighbor_list("ij", atoms, 4.0)).tolist()))
    assert len(bonds) > 30


@pytest.mark.parametrize("algorithm", ["fast", "legacy"])
def test_like(algorithm):
    theirs = CrystalGraphConverter(
        atom_graph_cutoff=4.5, bond_graph_cutoff=2.5, algorithm=algorithm
    )
    ours = GraphConverter.like(theirs)
    assert ours.as_dict() == theirs.as_dict()
    assert ours.algorithm == algorithm
    assert ours.on_isolated_atoms == "ignore"
    graph = ours(crystal())
    assert (graph.atom_graph_cutoff, graph.bond_graph_cutoff) == (4.5, 2.5)


@pytest.mark.parametrize(("atoms", "pbc"), [(dimer(), OPEN), (crystal(), PERIODIC)])
def test_moved_and_saved_graphs_keep_pbc(converter, tmp_path, atoms, pbc):
    graph = converter(atoms, graph_id="seven")
    graph.save(save_dir=str(tmp_path), fname="graph.pt")
    fields = torch.load(tmp_path / "graph.pt", weights_only=True)
    for other in (graph.to("cpu"), BoundaryGraph(**fields), copy.deepcopy(graph.to("cpu"))):
        assert isinstance(other, BoundaryGraph)
        assert other.pbc.tolist() == pbc
        assert other.graph_id == "seven"
        torch.testing.assert_close(other.atom_frac_coord, graph.atom_frac_coord)
    if torch.cuda.is_available():
        assert graph.to("cuda").pbc.device.type == "cuda"


def test_isolated_atoms(converter, caplog):
    atoms = Atoms("OH", [[0, 0, 0], [0, 0, 9.0]])
    graph = converter(atoms)
    assert len(graph.atom_graph) == 0
    assert caplog.text == ""
    converter.set_isolated_atom_response("warn")
    converter(atoms)
    assert "2 isolated atom(s)" in caplog.text
    converter.set_isolated_atom_response("error")
    with pytest.raises(ValueError, match=r"2 isolated atom\(s\)"):
        converter(atoms)


def test_precision_is_that_of_the_model(model):
    atoms = crystal()
    single, double = (own.graph_converter(atoms) for own in (model, copy.deepcopy(model).double()))
    for key in ("atom_frac_coord", "lattice", "neighbor_image"):
        assert getattr(single, key).dtype == torch.float32
        assert getattr(double, key).dtype == torch.float64
    places = (double.atom_frac_coord @ double.lattice).detach().numpy()
    np.testing.assert_allclose(places, atoms.positions, rtol=0, atol=1e-14)
    assert "graph_converter.precision" not in model.state_dict()


# --- which graphs the model takes


@pytest.mark.parametrize("name", ["cubic", "left-handed"])
def test_upstreams_graphs_of_crystals(model, name):
    structure = AseAtomsAdaptor.get_structure(crystal(name))
    upstreams = CrystalGraphConverter(atom_graph_cutoff=4.0, bond_graph_cutoff=3.0)
    theirs = model([upstreams(structure)], task="efs")
    ours = model([model.graph_converter(structure)], task="efs")
    for key in ("e", "les_energy"):
        torch.testing.assert_close(theirs[key], ours[key], rtol=1e-5, atol=1e-5)
    for key in ("f", "s"):  # also the stress of left-handed cells, unlike upstream's model
        torch.testing.assert_close(theirs[key][0], ours[key][0], rtol=1e-4, atol=1e-4)


def test_upstreams_graphs_without_bonds_to_other_cells(model):
    """They may be of a crystal or of a molecule, which differ."""
    upstreams = CrystalGraphConverter(atom_graph_cutoff=4.0, bond_graph_cutoff=3.0)
    of_crystal = AseAtomsAdaptor.get_structure(in_vacuum())
    usual = upstreams(AseAtomsAdaptor.get_structure(crystal()))
    for structure in (of_crystal, to_structure(dimer())):
        with pytest.raises(ValueError, match=r"graph of H4 O2 has no bond .*`graph_converter`"):
            model([usual, upstreams(structure)])


def test_crystal_and_molecule_with_the_same_bonds_differ(double_model):
    atoms = in_vacuum()
    periodic = double_model.graph_converter(atoms)
    atoms.pbc = False
    unbound = double_model.graph_converter(atoms)
    out = double_model([periodic, unbound], task="ef")
    np.testing.assert_allclose(*(charges.detach() for charges in out["charges"]), atol=1e-12)
    first, second = out["les_energy"].tolist()
    assert abs(first - second) > 1e-3


def test_short_range_models_take_all_graphs(short_range_model, model):
    """Upstream's own model, with our converter: crystals, molecules, slabs and mixtures."""
    slab = crystal("cubic")
    slab.pbc = [True, True, False]
    graphs = [model.graph_converter(atoms) for atoms in (dimer(), crystal(), slab)]
    assert graphs[2].pbc.tolist() == [True, True, False]
    energies = short_range_model(graphs)["e"].tolist()
    for energy, graph in zip(energies, graphs, strict=True):
        assert short_range_model([graph])["e"].item() == pytest.approx(energy, abs=1e-5)
    slab.pbc = True
    periodic = short_range_model([model.graph_converter(slab)])["e"].item()
    assert abs(periodic - energies[2]) > 1e-6


def test_structures_that_make_no_sense():
    without_cell = Atoms("NaCl", [[0, 0, 0], [0, 0, 2.8]], pbc=True)
    with pytest.raises(ValueError, match="a periodic structure needs a cell"):
        to_structure(without_cell)
    with pytest.raises(TypeError, match=r"one of ASE or pymatgen .* got str"):
        to_structure("NaCl")
