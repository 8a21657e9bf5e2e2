"""The polarisation along a trajectory, of charges that neighbours transfer to one another."""

from __future__ import annotations

from itertools import pairwise

import ase
import numpy as np
import pytest
import torch
from ase.calculators.calculator import Calculator, all_changes
from ase.neighborlist import neighbor_list

from les import Edges, Polarisation, born_effective_charges, dipole_moments

CUTOFF = 3.2
CELL = np.array([[4.4, 0.3, 0.0], [1.1, 4.4, -0.2], [-0.8, 0.9, 4.8]])
#: Charges without neighbours [e].
ALONE = {1: 0.4, 3: 0.7, 8: -0.8, 9: -0.3}


class Transfer(Calculator):
    """Charges ``q_i = c_i + sum_j f_ij`` with ``f_ij = -f_ji``, which sum to a constant.

    The polarisation ``sum_i c_i u_i + sum_{i<j} f_ij (r_i - r_j)``, with images of pairs and
    displacements u, has one value.
    """

    implemented_properties = ["born_effective_charges"]  # noqa: RUF012

    #: Charge that appears with a transfer, relative to it: the total then depends on positions.
    made = 0.0

    def pairs(self, atoms):
        i, j, shift = neighbor_list("ijS", atoms, CUTOFF)
        positions = torch.tensor(atoms.positions, device="cpu").requires_grad_()
        vectors = positions[i] - positions[j] - torch.tensor(shift @ atoms.cell[:], device="cpu")
        length = vectors.norm(dim=1)
        decay = (1.0 - (length / CUTOFF).square()).pow(3)
        strength = torch.tensor((atoms.numbers[j] - atoms.numbers[i]) * 0.05, device="cpu")
        return positions, i, j, vectors, strength * decay * (1.0 + torch.sin(length))

    def born_effective_charges(self, atoms):
        positions, i, j, vectors, transferred = self.pairs(atoms)
        with torch.device("cpu"):
            alone = torch.tensor([ALONE[z] for z in atoms.numbers]).double()
            receiver, sender = torch.tensor(i), torch.tensor(j)
            charges = alone.index_add(0, receiver, transferred + self.made * transferred.abs())
            cell = torch.tensor(atoms.cell[:])[None]
            pbc = torch.tensor(atoms.pbc)[None]
            edges = Edges(vectors, sender, receiver)
            born = born_effective_charges(charges, positions, cell, pbc=pbc, edges=edges)
        return charges.detach(), born.numpy()

    def polarisation(self, atoms, displacements):
        """By its definition above."""
        _, _, _, vectors, transferred = self.pairs(atoms)
        bonds = 0.5 * (transferred[:, None] * vectors).sum(0).detach().numpy()
        return bonds + np.array([ALONE[z] for z in atoms.numbers]) @ displacements

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        born = self.born_effective_charges(atoms)[1]
        self.results = {"born_effective_charges": born.reshape(-1, 9)}


@pytest.fixture
def model():
    return Transfer()


def structure(pbc=True):
    scaled = [[0.02, 0.01, 0], [0.5, 0.45, 0.05], [0.5, 0, 0.55], [0.02, 0.5, 0.5]]
    return ase.Atoms("HOLiF", cell=CELL, scaled_positions=scaled, pbc=pbc)


def path(n_steps, *, laps=0.0, pbc=True):
    """Frames of a closed loop, each atom on an ellipse of its own, and displacements.

    In the course of it, atom 1 also goes around the cell ``laps`` times.
    """
    amplitudes = np.random.default_rng(4).normal(scale=0.25, size=(2, 4, 3))
    for turn in np.linspace(0.0, 1.0, n_steps + 1):
        angle = 2.0 * np.pi * turn
        atoms = structure(pbc)
        shift = amplitudes[0] * np.sin(angle) + amplitudes[1] * (1.0 - np.cos(angle))
        shift[1] += laps * turn * CELL[0]
        atoms.positions += shift
        yield atoms, shift


def follow(model, frames):
    """All changes along frames."""
    (first, _), *others = frames
    polarisation = Polarisation(first, model.born_effective_charges(first)[1])
    return np.array(
        [polarisation.update(atoms, model.born_effective_charges(atoms)[1]) for atoms, _ in others]
    )


@pytest.mark.parametrize("pbc", [True, (True, True, False)])
def test_along_a_path(model, pbc):
    """The error falls as the square of the step."""
    errors = []
    for n_steps in (50, 100):
        frames = list(path(n_steps, pbc=pbc))
        start = model.polarisation(*frames[0])
        expected = np.array([model.polarisation(*frame) - start for frame in frames[1:]])
        errors.append(np.abs(follow(model, frames) - expected).max())
    assert np.abs(expected).max() > 0.3
    assert errors[1] < 5e-4
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.1)


def test_a_closed_loop(model):
    change = follow(model, path(60))
    assert np.abs(change).max() > 0.3
    np.testing.assert_allclose(change[-1], 0.0, rtol=0, atol=2e-5)


@pytest.mark.parametrize("pbc", [True, False])
def test_a_closed_loop_of_a_total_charge_that_changes(model, pbc):
    """In a crystal the integral then depends on the path, in a molecule it does not."""
    model.made = 0.3
    left = [np.abs(follow(model, path(n_steps, pbc=pbc))[-1]).max() for n_steps in (40, 80)]
    if pbc:
        assert left[1] > 0.1
        assert left[0] == pytest.approx(left[1], rel=0.01)
    else:
        assert max(left) < 2e-5


def test_around_the_cell(model):
    """It takes the charge that the atom has alone along, since a transfer ends as it began."""
    change = follow(model, path(200, laps=1.0))
    np.testing.assert_allclose(change[-1], ALONE[8] * CELL[0], rtol=0, atol=2e-4)


def test_wrapped_frames(model):
    frames = list(path(40, laps=1.0))
    wrapped = []
    for atoms, shift in frames:
        atoms = atoms.copy()
        atoms.wrap()
        wrapped.append((atoms, shift))
    jumps = [np.abs(b.positions - a.positions).max() for (a, _), (b, _) in pairwise(wrapped)]
    assert max(jumps) > 2.0
    np.testing.assert_allclose(follow(model, wrapped), follow(model, frames), rtol=0, atol=1e-12)


def test_a_molecule_has_its_dipole(model):
    """The mean of the charges, which is taken off, does not matter."""
    frames = list(path(200, pbc=False))

    def dipole(atoms):
        charges = model.born_effective_charges(atoms)[0]
        with torch.device("cpu"):
            one = torch.zeros(4, dtype=torch.long)
            return dipole_moments(charges, torch.tensor(atoms.positions), one, 1)[0].numpy()

    start = dipole(frames[0][0])
    expected = np.array([dipole(atoms) - start for atoms, _ in frames[1:]])
    np.testing.assert_allclose(follow(model, frames), expected, rtol=0, atol=5e-5)
    assert np.abs(expected).max() > 0.3


def test_born_effective_charges_of_a_calculator(model):
    frames = list(path(3))
    expected = follow(model, frames)[-1]
    atoms = frames[0][0].copy()
    atoms.calc = model
    polarisation = Polarisation(atoms)
    for frame, _ in frames[1:]:
        atoms.positions = frame.positions
        polarisation.update(atoms)
    np.testing.assert_allclose(polarisation.change, expected, rtol=0, atol=1e-14)


# --- what is refused


@pytest.fixture
def born():
    return np.zeros((4, 9))


def test_other_frames(born):
    polarisation = Polarisation(structure(), born)
    with pytest.raises(ValueError, match="must be those of the first frame, in the same order"):
        polarisation.update(structure()[[1, 0, 2, 3]], born)
    with pytest.raises(ValueError, match=r"periodic axes of the first frame, \[True, True, True\]"):
        polarisation.update(structure(pbc=False), born)
    strained = structure()
    strained.set_cell(1.01 * CELL, scale_atoms=True)
    with pytest.raises(ValueError, match="no polarisation to follow in a cell that changes"):
        polarisation.update(strained, born)
    np.testing.assert_array_equal(polarisation.change, 0.0)


@pytest.mark.parametrize("step", [0.499, 0.3])
def test_long_steps(born, step):
    """Also along a diagonal, where each component is short."""
    polarisation = Polarisation(structure(), born)
    moved = structure()
    moved.positions[2] += step * CELL.sum(0)
    with pytest.raises(ValueError, match=r"atom 2 has moved by .* shorter than half the height"):
        polarisation.update(moved, born)
    as_molecule = Polarisation(structure(pbc=False), born)
    moved.pbc = False
    as_molecule.update(moved, born)


def test_bad_born_effective_charges(born):
    with pytest.raises(ValueError, match=r"`bec` must have shape .* n_atoms = 4, got \[3, 9\]"):
        Polarisation(structure(), born[:3])
    with pytest.raises(ValueError, match="`bec` must be given, or `atoms` have a calculator"):
        Polarisation(structure())
    polarisation = Polarisation(structure(), born)
    with pytest.raises(ValueError, match="`bec` must be finite"):
        polarisation.update(structure(), born + np.nan)
