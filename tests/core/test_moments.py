"""Exact Born effective charges, of a small message-passing network in plain torch."""

from __future__ import annotations

from itertools import product

import ase
import numpy as np
import pytest
import torch
from ase.neighborlist import neighbor_list

from les import Carried, Edges, acoustic_sum, born_effective_charges, dipole_moments
from les.testing.derivatives import derivative

CUTOFF = 3.2
CELLS = {
    "cubic": 3.6 * np.eye(3),
    "skewed": np.array([[3.6, 0.3, 0.0], [2.1, 3.4, -0.2], [-0.8, 1.9, 3.8]]),
    "left-handed": np.array([[0.3, 3.9, 0.2], [3.6, 0.0, 0.1], [-0.8, 0.9, 4.2]]),
}
PBC = {"crystal": (True, True, True), "slab": (True, True, False), "open": (False, False, False)}


class Network:
    """Charges of atoms from two rounds of messages, each longer than the cells above.

    ``reversed_edges`` makes its edges point from the atom that receives to the one that sends,
    ``in_parts`` computes the edge vectors of every structure apart.
    """

    def __init__(
        self, layers: int = 2, reversed_edges: bool = False, in_parts: bool = False
    ) -> None:
        generator = torch.Generator(device="cpu").manual_seed(3)
        self.weights = [torch.randn(4, 4, generator=generator).double() for _ in range(layers)]
        self.reversed_edges = reversed_edges
        self.in_parts = in_parts

    def __call__(self, atoms, dtype=torch.float64, strength=1.0):
        """Charges, positions, cell, batch, pbc and edges of one structure or several."""
        structures = atoms if isinstance(atoms, list) else [atoms]
        parts = [self._graph(structure) for structure in structures]
        first = np.cumsum([0] + [len(structure) for structure in structures])
        receiver, sender = (
            torch.cat([torch.as_tensor(part[k] + n) for part, n in zip(parts, first)])
            for k in (0, 1)
        )
        numbers = torch.tensor(np.concatenate([x.numbers for x in structures]))
        positions = torch.tensor(np.concatenate([x.positions for x in structures]), dtype=dtype)
        images = torch.tensor(np.concatenate([part[2] for part in parts]), dtype=dtype)
        cell = torch.tensor(np.stack([x.cell[:] for x in structures]), dtype=dtype)
        pbc = torch.tensor(np.stack([x.pbc for x in structures]))
        batch = torch.repeat_interleave(torch.tensor([len(x) for x in structures]))
        positions.requires_grad_()
        # From sender to receiver.
        vectors = positions[receiver] - positions[sender] - images
        start, end = sender, receiver
        if self.reversed_edges:
            vectors, start, end = -vectors, receiver, sender
        of_structures = vectors.split([len(part[0]) for part in parts])
        vectors = torch.cat(of_structures)
        length = vectors.square().sum(-1, keepdim=True).sqrt()
        decay = (1.0 - (length / CUTOFF).square()).clamp(min=0.0).pow(3)
        kinds = torch.stack(
            [torch.sin(length[:, 0]), length[:, 0], vectors[:, 0], vectors[:, 2]], -1
        )
        x = torch.stack([(numbers == z).to(dtype) for z in (1, 3, 8, 9)], -1)
        carried = []
        for weight in self.weights:
            features = (x @ weight.to(x))[sender]
            toward = vectors if not self.reversed_edges else -vectors
            carried.append(Carried(features, toward))
            message = features * decay * (1.0 + 0.2 * strength * kinds)
            x = torch.tanh(x + 0.5 * x.new_zeros(x.shape).index_add(0, receiver, message))
        charges = 0.4 * x[:, 0] - 0.3 * x[:, 2] + 0.2 * x[:, 1] * x[:, 3]
        centre = "start" if self.reversed_edges else "end"
        edges = Edges(of_structures if self.in_parts else vectors, start, end, carried, centre)
        return charges, positions, cell, batch, pbc, edges

    def _graph(self, atoms):
        i, j, shift = neighbor_list("ijS", atoms, CUTOFF)
        return i, j, shift @ atoms.cell[:]

    def born_effective_charges(self, atoms, dtype=torch.float64, **options):
        charges, positions, cell, batch, pbc, edges = self(atoms, dtype)
        return born_effective_charges(
            charges, positions, cell, batch, pbc, edges=edges, **options
        ).detach()


@pytest.fixture
def network():
    return Network()


def structure(kind="crystal", cell="skewed"):
    """Four atoms in a cell that is smaller than what their charges feel."""
    generator = np.random.default_rng(5)
    scaled = np.array([[0, 0, 0], [0.5, 0.45, 0], [0.5, 0, 0.55], [0, 0.5, 0.5]])
    atoms = ase.Atoms("HOLiF", cell=CELLS[cell], scaled_positions=scaled, pbc=PBC[kind])
    atoms.positions += generator.normal(scale=0.1, size=(4, 3)) + [0.3, 7.0, -11.0]
    return atoms


def test_the_cell_matters(network):
    """Otherwise the tests below could not tell right from wrong."""
    atoms = structure()
    charges, positions, cell, _, _, _ = network(atoms)
    published = born_effective_charges(charges, positions, cell, method="phase")
    exact = network.born_effective_charges(atoms)
    assert (published - exact).abs().max() > 0.02


@pytest.mark.parametrize("reversed_edges", [False, True])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_sum_over_the_charges_of_a_crystal(cell, layers, reversed_edges):
    """In a supercell larger than what an atom is felt by, arms are those of nearest images."""
    network = Network(layers, reversed_edges)
    atoms = structure(cell=cell)
    found = network.born_effective_charges(atoms)
    repeats = {1: 3, 2: 5, 3: 7}[layers]
    large = atoms.repeat(repeats)
    charges, positions, _, _, _, _ = network(large)
    # Columns of the Jacobian, as derivatives of its rows' sum by their weights.
    weights = torch.ones_like(charges, requires_grad=True)
    summed = torch.autograd.grad(charges, positions, weights, create_graph=True)[0]
    expected = (charges - charges.mean()).detach()[:4, None, None] * torch.eye(3).double()
    for atom in range(4):
        arms = torch.tensor(large.get_distances(atom, range(len(large)), mic=True, vector=True))
        for axis in range(3):
            column = torch.autograd.grad(summed[atom, axis], weights, retain_graph=True)[0]
            expected[atom, :, axis] += arms.T @ column
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("repeats", [(2, 1, 1), (1, 3, 2)])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("kind", ["crystal", "slab"])
def test_supercells(network, kind, cell, repeats):
    if kind == "slab":
        repeats = (*repeats[:2], 1)
    atoms = structure(kind, cell)
    one = network.born_effective_charges(atoms)
    many = network.born_effective_charges(atoms.repeat(repeats))
    torch.testing.assert_close(many, one.repeat(int(np.prod(repeats)), 1, 1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("cell", CELLS)
def test_acoustic_sum_of_a_crystal(network, cell):
    """It is minus the derivative of the total charge of a cell by its strain."""
    atoms = structure(cell=cell)
    found = acoustic_sum(network.born_effective_charges(atoms))[0]

    def total(step, a, b):
        strain = np.eye(3)
        strain[a, b] += step
        strained = atoms.copy()
        strained.set_cell(atoms.cell[:] @ strain, scale_atoms=True)
        return network(strained)[0].sum().item()

    expected = torch.zeros(3, 3).double()
    for a, b in product(range(3), range(3)):
        expected[a, b] = -derivative(lambda step, a=a, b=b: total(step, a, b))
    assert expected.abs().max() > 0.01
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-9)


def test_wrapping(network):
    atoms = structure()
    moved = atoms.copy()
    moved.positions[1] += np.array([1, -2, 3]) @ atoms.cell[:]
    torch.testing.assert_close(
        network.born_effective_charges(moved), network.born_effective_charges(atoms)
    )


@pytest.mark.parametrize("remove_mean", [True, False])
def test_open_is_the_derivative_of_the_dipole(network, remove_mean):
    atoms = structure("open")
    charges, positions, cell, batch, pbc, edges = network(atoms)
    arguments = (charges, positions, cell, batch, pbc, remove_mean, 1.7)
    found = born_effective_charges(*arguments, edges=edges)
    torch.testing.assert_close(found, born_effective_charges(*arguments), rtol=0, atol=1e-12)
    dipole = dipole_moments(charges, positions, batch, 1, remove_mean, 1.7)[0]
    rows = [torch.autograd.grad(d, positions, retain_graph=True)[0] for d in dipole]
    torch.testing.assert_close(found, torch.stack(rows, dim=1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", PBC)
def test_total_charge(network, kind):
    """It is spread over the atoms, whatever else they feel."""
    atoms = structure(kind)
    neutral = network.born_effective_charges(atoms)
    total = torch.tensor([-2.0])
    charged = network.born_effective_charges(atoms, total_charge=total)
    expected = -2.0 / len(atoms) * torch.eye(3, dtype=torch.float64).expand(len(atoms), 3, 3)
    torch.testing.assert_close(charged - neutral, expected)


def test_normal_of_a_slab_is_open(network):
    """Along it, Z* is the derivative of a dipole, which is not multivalued there."""
    atoms = structure("slab", "skewed")
    charges, positions, cell, batch, pbc, edges = network(atoms)
    found = born_effective_charges(charges, positions, cell, batch, pbc, edges=edges)
    normal = np.cross(*atoms.cell[:2])
    normal = torch.tensor(normal / np.linalg.norm(normal))
    dipole = dipole_moments(charges, positions, batch, 1)[0] @ normal
    expected = torch.autograd.grad(dipole, positions)[0]
    torch.testing.assert_close(
        torch.einsum("a,iab->ib", normal, found), expected, rtol=0, atol=1e-12
    )


def test_molecule_in_a_large_cell(network):
    """Open, but for the charge that an atom adds to its molecule: a crystal does not spread it."""
    atoms = structure("open")
    charges, positions, _, _, _, _ = network(atoms)
    total = torch.autograd.grad(charges.sum(), positions)[0]
    arms = (positions - positions.mean(0)).detach()
    as_open = network.born_effective_charges(atoms)
    atoms.cell, atoms.pbc = 60.0 * np.eye(3), True
    in_a_cell = network.born_effective_charges(atoms)
    expected = as_open - torch.einsum("ia,ib->iab", arms, total)
    torch.testing.assert_close(in_a_cell, expected, rtol=0, atol=1e-12)
    assert total.abs().max() > 1e-3


def test_a_batch_is_each_alone(network):
    structures = [structure("open"), structure(), structure("slab", "cubic"), structure("open")]
    together = network.born_effective_charges(structures).split(4)
    for atoms, found in zip(structures, together, strict=True):
        torch.testing.assert_close(found, network.born_effective_charges(atoms))


def test_edge_vectors_in_parts():
    """One part for each structure, also for one without edges."""
    far_apart = ase.Atoms("HF", [[0, 0, 0], [0, 0, 9.0]])
    structures = [structure("open"), far_apart, structure("slab"), structure()]
    arguments = [Network(in_parts=in_parts)(structures) for in_parts in (True, False)]
    found, expected = (
        born_effective_charges(*x, edges=edges, create_graph=True) for *x, edges in arguments
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)
    torch.testing.assert_close(
        *(
            torch.autograd.grad(bec.square().sum(), x[1])[0]
            for bec, x in zip((found, expected), arguments, strict=True)
        )
    )
    *given, edges = Network(in_parts=True)(structures)
    first, *others = edges.vectors
    with pytest.raises(ValueError, match=r"`edges.vectors` must require gradients"):
        born_effective_charges(*given, edges=edges._replace(vectors=[first.detach(), *others]))
    with pytest.raises(ValueError, match=r"must have shape \[n_edges, 3\], got \[\d+, 2\]"):
        born_effective_charges(*given, edges=edges._replace(vectors=[first[:, :2], *others]))
    with pytest.raises(ValueError, match=r"`charges` must be computed from `edges.vectors`"):
        born_effective_charges(*given, edges=edges._replace(vectors=[1.0 * first, *others]))


def test_atoms_that_feel_nothing(network):
    """Without edges at all, Z* is the charge."""
    atoms = ase.Atoms("HF", [[0, 0, 0], [0, 0, 9.0]], cell=[20, 20, 20], pbc=True)
    charges = network(atoms)[0].detach()
    expected = (charges - charges.mean())[:, None, None] * torch.eye(3).double()
    torch.testing.assert_close(network.born_effective_charges(atoms), expected)


def test_single_precision(network):
    atoms = structure()
    atoms.positions += 500.0
    single = network.born_effective_charges(atoms, torch.float32)
    assert single.dtype == torch.float32
    torch.testing.assert_close(
        single.double(), network.born_effective_charges(atoms), rtol=0, atol=2e-4
    )


@pytest.mark.parametrize("kind", PBC)
def test_training(network, kind):
    """The result is differentiable where that is asked for, and the graph stays in any case."""
    atoms = structure(kind)

    def evaluate(strength):
        charges, positions, cell, batch, pbc, edges = network(atoms, strength=strength)
        return born_effective_charges(
            charges, positions, cell, batch, pbc, create_graph=True, edges=edges
        )

    strength = torch.tensor(1.0).double().requires_grad_()
    assert torch.autograd.gradcheck(evaluate, strength)
    charges, positions, cell, batch, pbc, edges = network(atoms)
    assert not born_effective_charges(
        charges, positions, cell, batch, pbc, edges=edges
    ).requires_grad
    torch.autograd.grad(charges.sum(), positions)


def test_refusals(network):
    charges, positions, cell, batch, pbc, edges = network(structure())
    arguments = (charges, positions, cell, batch, pbc)
    with pytest.raises(ValueError, match=r"of a periodic structure need `edges`.*`method='phase'`"):
        born_effective_charges(*arguments)
    with pytest.raises(ValueError, match="`edges` have no effect with `method='phase'`"):
        born_effective_charges(*arguments, edges=edges, method="phase")
    with pytest.raises(ValueError, match=r"`epsilon_factor` must be a positive number, got 0\.0"):
        born_effective_charges(*arguments, epsilon_factor=0.0, edges=edges)
    for change, message in (
        ({"vectors": edges.vectors.detach()}, "`edges.vectors` must require gradients"),
        ({"vectors": edges.vectors[:, :2]}, r"must have shape \[n_edges, 3\], got"),
        ({"vectors": []}, "`edges.vectors` must be a tensor or several, got none"),
        ({"vectors": edges.vectors.sum()}, r"must have shape \[n_edges, 3\], got \[\]"),
        ({"start": edges.start > 0}, "`edges.start` must be .* indices of atoms"),
        ({"start": edges.start[1:]}, "`edges.start` must be .* indices of atoms"),
        ({"end": edges.end.double()}, "`edges.end` must be .* indices of atoms"),
        ({"end": edges.end + 1}, "`edges.end` must be between 0 and 3, got 4"),
        ({"centre": "middle"}, "`edges.centre` must be 'start' or 'end', got 'middle'"),
        (
            {"carried": [Carried(edges.carried[0].features, edges.vectors[1:])]},
            r"`edges.carried\[0\].displacement` must have shape",
        ),
        ({"vectors": 1.0 * edges.vectors}, "`charges` must be computed from `edges.vectors`"),
        (
            {"carried": [place._replace(features=1.0 * place.features) for place in edges.carried]},
            "must be the very tensors that the model goes on with, not copies",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            born_effective_charges(*arguments, edges=edges._replace(**change))
