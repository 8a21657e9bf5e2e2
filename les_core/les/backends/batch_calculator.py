"""What the ASE calculators share whose models evaluate any number of structures at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ase.calculators.calculator import Calculator
from ase.stress import full_3x3_to_voigt_6_stress
from torch import Tensor

from les.backends.calculator import ChargeCalculator
from les.backends.charge_results import array_of
from les.data.atoms import has_stress

if TYPE_CHECKING:
    from ase import Atoms

#: Outputs that are results as they are, where a model has them.
AS_THEY_ARE = ("energies", "forces", "magmoms")


class BatchCalculator(ChargeCalculator):
    """A calculator that evaluates one structure as a batch of one.

    An adapter says in :meth:`outputs_of` what its model gives for each structure.
    """

    def outputs_of(self, structures: Sequence[Atoms]) -> Iterable[Mapping[str, Tensor]]:
        """What the model gives for each of the structures, from one evaluation of all of them.

        Args:
            structures: which have been checked.

        Returns:
            The outputs that :meth:`set_results` takes, structure by structure.
        """
        raise NotImplementedError

    def evaluate_together(self, structures: Sequence[Atoms]) -> Iterator[None]:
        for atoms, out in zip(structures, self.outputs_of(structures), strict=True):
            self.set_results(atoms, out)
            yield

    def evaluate(self, atoms: Atoms, properties: Any, system_changes: Any) -> None:
        Calculator.calculate(self, atoms, properties, system_changes)
        for _ in self.evaluate_together([atoms]):
            pass

    def set_results(self, atoms: Atoms, out: Mapping[str, Tensor]) -> None:
        """Fill ``results`` with what the model gives for one structure.

        Args:
            atoms: the structure.
            out: ``energy`` [eV], and where there are any ``energies`` ``[n_atoms]`` [eV],
                ``forces`` ``[n_atoms, 3]`` [eV/A], ``magmoms`` ``[n_atoms]`` and ``stress``
                ``[3, 3]`` [eV/A^3]. With LES there is also what :meth:`add_charge_outputs` takes.
        """
        energy = out["energy"].item()
        self.results = {"energy": energy, "free_energy": energy}
        self.results |= {name: array_of(out[name]) for name in AS_THEY_ARE if name in out}
        if "stress" in out and has_stress(atoms):
            self.results["stress"] = full_3x3_to_voigt_6_stress(array_of(out["stress"]))
        if self.long_range:
            self.add_charge_outputs(atoms, out)
