"""ASE calculator for CHGNet models, with the results that charges make possible."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from chgnet.model import CHGNet, CHGNetCalculator

from les import ChargeSign
from les.structures import ANY_AXES, LONG_RANGE_AXES, check_atoms, check_elements
from les_chgnet.atomic_energies import AtomicEnergies
from les_chgnet.checkpoint import load_model
from les_chgnet.data import ELEMENTS
from les_chgnet.graphs import GraphConverter
from les_chgnet.model import CHGNetLES

if TYPE_CHECKING:
    from ase import Atoms

_DTYPES = {"float32": torch.float32, "float64": torch.float64}


class LESCalculator(CHGNetCalculator):
    """``CHGNetCalculator`` for models with LES, also for molecules.

    Results are ``energy``, ``forces``, ``energies``, which sum to the energy, ``magmoms``
    and for periodic structures ``stress`` in the order of Voigt; with LES also ``charges``
    [e], ``dipole`` [e A], ``les_energy`` [eV] and, if asked for, ``born_effective_charges``
    ``[n_atoms, 9]`` [e], row by row with the component of the polarisation first. In periodic
    cells ``dipole`` is one branch of a multivalued quantity. There are no features of the
    crystal, which upstream's calculator computes with every call.

    Training leaves the common sign of all charges open. It is fixed by the first structure
    with more than one element, so that its most electronegative element is negative
    (``les.ChargeSign``), and kept from then on: it must not change along a trajectory.

    Short-range models work as well.

    Args:
        model: a model, a model file or the name of a pretrained model.
        bec: compute Born effective charges with every calculation.
        sign: sign of the charges, +1 or -1, instead of letting the first structure decide.
        allow_pickle: read files that run code when they are loaded (see ``load_model``).
        dtype: ``"float64"``, ``"float32"`` or, empty, that of the model.
        on_isolated_atoms: ``"ignore"``, ``"warn"`` or ``"error"``.
        kwargs: further arguments of ``CHGNetCalculator``, such as ``use_device``.
    """

    def __init__(
        self,
        model: CHGNet | str | Path = "0.3.0",
        *,
        bec: bool = False,
        sign: int | None = None,
        allow_pickle: bool = False,
        dtype: str = "",
        on_isolated_atoms: str = "ignore",
        **kwargs: Any,
    ) -> None:
        if isinstance(model, (str, Path)):
            model = load_model(model, allow_pickle=allow_pickle)
        if not isinstance(model, CHGNet):
            raise TypeError(f"`model` must be a CHGNet, got {type(model).__name__}")
        self.charge_sign = ChargeSign(sign)
        self.long_range = isinstance(model, CHGNetLES)
        self.les_config = model.les.config() if isinstance(model, CHGNetLES) else None
        if bec and not self.long_range:
            raise ValueError(f"`bec` needs a model with LES, got a {type(model).__name__}")
        self.bec = bec
        model = _in_precision(model, dtype)
        # The model's own may be upstream's, and calculators may share the model.
        self.graph_converter = GraphConverter.like(model.graph_converter)
        self.graph_converter.set_isolated_atom_response(on_isolated_atoms)
        self.graph_converter.to(next(model.parameters()).dtype)
        of_the_model = model.graph_converter.on_isolated_atoms
        super().__init__(model, **kwargs)
        model.graph_converter.set_isolated_atom_response(of_the_model)
        self.implemented_properties: list[str] = [*self.implemented_properties, "free_energy"]
        if self.long_range:
            self.implemented_properties += ["charges", "dipole", "les_energy"]
            if bec:
                self.implemented_properties.append("born_effective_charges")

    @classmethod
    def from_file(cls, path: str, use_device: str | None = None, **kwargs: Any) -> LESCalculator:
        """From a model file; arguments as for the class."""
        return cls(Path(path), use_device=use_device, **kwargs)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] | None = None,
        task: str = "efsm",
    ) -> None:
        """Compute all results of ``task`` for ``atoms``.

        Raises:
            ValueError: for positions that are not finite, atoms on top of each other, a
                periodic structure without a cell, elements that the model does not know and,
                with LES, one periodic axis.
        """
        structure = atoms if atoms is not None else self.atoms
        check_atoms(structure, LONG_RANGE_AXES if self.long_range else ANY_AXES)
        check_elements(structure, ELEMENTS)
        Calculator.calculate(self, atoms, properties, system_changes or all_changes)
        self.model.eval()
        if not structure.pbc.any():
            task = task.replace("s", "")
        options = {"return_bec": self.bec} if self.long_range else {}
        graph = self.graph_converter(structure).to(self.device)
        out = self.model([graph], task=task, return_site_energies=True, **options)

        n_atoms = len(structure) if self.model.is_intensive else 1
        energy = (out["e"] * n_atoms).item()
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "energies": _array(out["site_energies"][0]),
        }
        if "f" in out:
            self.results["forces"] = _array(out["f"][0])
        if "s" in out:
            stress = _array(out["s"][0]) * self.stress_weight
            self.results["stress"] = full_3x3_to_voigt_6_stress(stress)
        if "m" in out:
            self.results["magmoms"] = _array(out["m"][0])
        if self.long_range:
            self._add_long_range(out, structure)

    def _add_long_range(self, out: dict[str, Any], structure: Atoms) -> None:
        charges = out["charges"][0]
        sign = self.charge_sign(charges, torch.as_tensor(structure.numbers, device=charges.device))
        self.results["charges"] = sign * _array(charges)
        self.results["dipole"] = sign * _array(out["dipole"][0])
        self.results["les_energy"] = out["les_energy"].item()
        if self.bec:
            bec = sign * _array(out["bec"][0])
            self.results["born_effective_charges"] = bec.reshape(len(structure), 9)


def _array(tensor: torch.Tensor) -> Any:
    return tensor.detach().cpu().numpy()


def _in_precision(model: CHGNet, dtype: str) -> CHGNet:
    """``model`` in ``dtype``, a copy if it has another one; upstream's is made fit for it."""
    if dtype and dtype not in _DTYPES:
        raise ValueError(f"`dtype` must be one of {', '.join(_DTYPES)}, got {dtype!r}")
    own = next(model.parameters()).dtype
    wanted = _DTYPES.get(dtype, own)
    energies = model.composition_model
    # Upstream's own reference energies are for float32.
    fit = wanted == torch.float32 or energies is None or isinstance(energies, AtomicEnergies)
    if wanted == own and fit:
        return model
    model = copy.deepcopy(model).to(wanted)
    model.composition_model = AtomicEnergies.like(model.composition_model)
    return model
