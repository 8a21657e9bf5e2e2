"""Classical models with charges, whose infrared spectra and phonons are known.

They are calculators with the results of a trained model, for tests and for trying things out:
energy, forces, charges, dipole and Born effective charges by the same functions as all models.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from ase.calculators.calculator import Calculator
from ase.neighborlist import neighbor_list
from torch import Tensor

from les.backends.calculator import ChargeCalculator
from les.config import LESConfig
from les.ewald import Ewald
from les.response.born import born_effective_charges
from les.response.dipoles import dipole_moments
from les.response.moments import Edges
from les.units import COULOMB_CONSTANT

if TYPE_CHECKING:
    from ase import Atoms


class State(NamedTuple):
    """What a classical model says of one structure.

    Attributes:
        short_range: the energy but for the electrostatic one [eV].
        charges: ``[n_atoms]`` [e].
        edges: the graph along which the charges depend on positions.
    """

    short_range: Tensor
    charges: Tensor
    edges: Edges


class ClassicalCalculator(ChargeCalculator, Calculator):
    """Forces by differentiation of a short-range energy and that of Gaussian charges.

    Args:
        bec: compute Born effective charges; a string says by which method.
        sigma: width of the charges [A].
        dl: resolution of the sum [A].
        kwargs: further arguments of ``ChargeCalculator``, such as ``acoustic_sum`` and ``eps_inf``.
    """

    implemented_properties: list[str] = ["energy", "forces"]  # noqa: RUF012

    def __init__(self, *, bec: bool | str = False, sigma: float, dl: float, **kwargs: Any) -> None:
        super().__init__(bec=bec, sign=1, **kwargs)
        # The charges are what the model says, whatever they sum to.
        self.set_up_charges(LESConfig(sigma=sigma, dl=dl, neutrality="none"))
        self.ewald = Ewald(sigma=sigma, dl=dl)

    @abstractmethod
    def state(self, atoms: Atoms, positions: Tensor) -> State:
        """The model's own part, differentiable in ``positions`` ``[n_atoms, 3]`` [A]."""

    def evaluate(self, atoms: Atoms, properties: Any, system_changes: Any) -> None:
        Calculator.calculate(self, atoms, properties, system_changes)
        positions = torch.tensor(atoms.positions, requires_grad=True)
        cell = torch.tensor(np.array(atoms.cell[:])).unsqueeze(0)
        pbc = torch.tensor(np.array(atoms.pbc)).unsqueeze(0)
        short_range, charges, edges = self.state(atoms, positions)
        long_range = self.ewald(charges, positions, cell, pbc=pbc)[0].sum()
        (gradient,) = torch.autograd.grad(short_range + long_range, positions, retain_graph=True)
        self.results = {
            "energy": (short_range + long_range).item(),
            "forces": -gradient.numpy(),
        }
        bec = None
        if self.bec:
            bec = born_effective_charges(
                charges, positions, cell, pbc=pbc, method=self.bec_method, edges=edges
            )
        batch = torch.zeros(len(atoms), dtype=torch.long)
        dipole = dipole_moments(charges.detach(), positions.detach(), batch, 1)[0]
        self.add_charge_results(atoms, long_range.item(), charges.detach(), dipole, bec)


class FlexibleWater(ClassicalCalculator):
    """Water molecules that vibrate, with charges that flow along their bonds.

    Bonds and angles are springs, oxygen atoms repel one another, and the charge of a hydrogen
    atom grows by ``flow`` [e/A] with the length of its bond, at the cost of the oxygen atom. Atoms
    come as O, H, H, molecule by molecule.

    Args:
        flow: how the charge of a hydrogen atom changes with the length of its bond [e/A].
        bec: compute Born effective charges; a string says by which method.
        kwargs: those of :class:`ClassicalCalculator`.
    """

    #: Length [A] and angle [rad] of the springs without charges, and their constants
    #: [eV/A^2], [eV/rad^2].
    LENGTH, ANGLE = 1.0, 1.91
    BOND, BEND = 45.0, 3.3
    #: Charge of a hydrogen atom [e]; repulsion of oxygen atoms ``(RADIUS/r)^12`` eV [A], its reach.
    CHARGE, RADIUS, REACH = 0.4, 2.55, 6.0

    def __init__(self, *, flow: float = 0.3, bec: bool | str = False, **kwargs: Any) -> None:
        self.flow = flow
        super().__init__(bec=bec, sigma=1.0, dl=2.0, **kwargs)

    def elements(self) -> Iterable[int]:
        return (1, 8)

    def state(self, atoms: Atoms, positions: Tensor) -> State:
        if len(atoms) % 3 or (atoms.numbers.reshape(-1, 3) != (8, 1, 1)).any():
            raise ValueError(
                f"water must come as O, H, H, molecule by molecule, got {atoms.symbols}"
            )
        oxygen = torch.arange(0, len(atoms), 3).repeat_interleave(2)
        hydrogen = torch.arange(len(atoms)).view(-1, 3)[:, 1:].reshape(-1)
        arms = positions[hydrogen] - positions[oxygen] + self._images(atoms, oxygen, hydrogen)
        # Each bond is seen from both of its atoms.
        vectors = torch.cat([arms, -arms])
        edges = Edges(vectors, torch.cat([oxygen, hydrogen]), torch.cat([hydrogen, oxygen]))
        lengths = vectors.norm(dim=1)
        moved = self.CHARGE + self.flow * (lengths - self.LENGTH)
        of_hydrogen, of_oxygen = moved.chunk(2)
        charges = positions.new_zeros(len(atoms))
        charges = charges.index_add(0, hydrogen, of_hydrogen).index_add(0, oxygen, -of_oxygen)

        stretched = lengths[: len(arms)] - self.LENGTH
        first, second = (arms / lengths[: len(arms), None]).view(-1, 2, 3).unbind(dim=1)
        angles = torch.acos((first * second).sum(dim=1))
        springs = 0.5 * self.BOND * stretched.square().sum()
        springs = springs + 0.5 * self.BEND * (angles - self.ANGLE).square().sum()
        return State(springs + self._repulsion(atoms, positions), charges, edges)

    def _images(self, atoms: Atoms, oxygen: Tensor, hydrogen: Tensor) -> Tensor:
        """Lattice vectors that bring hydrogen atoms to the oxygen atoms of their molecules."""
        vectors = atoms.cell.complete()[:]
        apart = atoms.positions[hydrogen.numpy()] - atoms.positions[oxygen.numpy()]
        return torch.tensor(-(np.round(apart @ np.linalg.inv(vectors)) * atoms.pbc) @ vectors)

    def _repulsion(self, atoms: Atoms, positions: Tensor) -> Tensor:
        oxygen = torch.arange(0, len(atoms), 3)
        i, j, shifts = neighbor_list("ijS", atoms[oxygen.numpy()], self.REACH)
        images = torch.tensor(shifts @ atoms.cell[:])
        distances = (positions[oxygen[j]] - positions[oxygen[i]] + images).norm(dim=1)
        return 0.5 * ((self.RADIUS / distances) ** 12 - (self.RADIUS / self.REACH) ** 12).sum()


def water_molecule() -> Atoms:
    """A water molecule near the minimum of :class:`FlexibleWater`."""
    from ase import Atoms

    return Atoms("OH2", [[0.0, 0.0, 0.0], [0.87, 0.62, 0.0], [-0.87, 0.62, 0.0]])


def water_box(per_edge: int = 2, spacing: float = 3.1, seed: int = 0) -> Atoms:
    """Water molecules of any orientation on a cubic grid, as :class:`FlexibleWater` wants them.

    Args:
        per_edge: number of molecules along an edge of the cell.
        spacing: of the grid [A]; 3.1 A is the density of water.
        seed: of the orientations.
    """
    generator = np.random.default_rng(seed)
    box: Atoms | None = None
    for place in np.ndindex(per_edge, per_edge, per_edge):
        molecule = water_molecule()
        axes, _ = np.linalg.qr(generator.normal(size=(3, 3)))
        molecule.positions = molecule.positions @ axes.T + spacing * np.array(place)
        box = molecule if box is None else box + molecule
    assert box is not None
    box.set_cell(per_edge * spacing * np.eye(3))
    box.pbc = True
    return box


class RigidIons(ClassicalCalculator):
    """Point charges that repel one another as ``amplitude exp(-r / decay)``.

    Born effective charges are the charges themselves, and there are no electrons to polarise, so
    the splitting of longitudinal and transverse optical modes of a rock-salt crystal is known:
    ``omega_LO^2 - omega_TO^2 = 4 pi k_e q^2 / (V mu)``, with the volume V of a formula unit and
    the reduced mass mu. The default makes a crystal like NaCl.

    Args:
        charges: charge of each element [e], by its symbol. A cell must be neutral.
        amplitude: [eV].
        decay: [A].
        bec: compute Born effective charges; a string says by which method.
        kwargs: those of :class:`ClassicalCalculator`.
    """

    #: Beyond this distance nothing but the smooth part of the Coulomb energy is left [A].
    REACH = 7.5

    def __init__(
        self,
        *,
        charges: dict[str, float] | None = None,
        amplitude: float = 1256.0,
        decay: float = 0.3164,
        bec: bool | str = False,
        **kwargs: Any,
    ) -> None:
        from ase.data import atomic_numbers

        named = {"Na": 1.0, "Cl": -1.0} if charges is None else charges
        self.ions = {atomic_numbers[symbol]: charge for symbol, charge in named.items()}
        self.amplitude, self.decay = amplitude, decay
        super().__init__(bec=bec, sigma=1.2, dl=1.2, **kwargs)

    def elements(self) -> Iterable[int]:
        return self.ions

    def state(self, atoms: Atoms, positions: Tensor) -> State:
        charges = positions.new_tensor([self.ions[number] for number in atoms.numbers])
        i, j, shifts = neighbor_list("ijS", atoms, self.REACH)
        i, j = torch.as_tensor(i), torch.as_tensor(j)
        vectors = positions[j] - positions[i] + torch.tensor(shifts @ atoms.cell[:])
        distances = vectors.norm(dim=1)
        apart = torch.erfc(distances / (2.0**0.5 * self.ewald.sigma)) / distances
        coulomb = COULOMB_CONSTANT * charges[i] * charges[j] * apart
        repulsion = self.amplitude * torch.exp(-distances / self.decay)
        # Charges that depend on nothing, as the functions of responses want them.
        charges = charges + torch.zeros_like(charges).index_add(0, j, 0.0 * distances)
        return State(0.5 * (coulomb + repulsion).sum(), charges, Edges(vectors, i, j))
