"""ASE calculator for MACE models, with the results that charges make possible."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from ase.calculators.calculator import all_changes
from mace.calculators import MACECalculator

from les import ChargeSign
from les.structures import ANY_AXES, LONG_RANGE_AXES, check_atoms, check_elements
from les_mace.checkpoint import load_model
from les_mace.model import MACELES

if TYPE_CHECKING:
    from ase import Atoms


class LESCalculator(MACECalculator):
    """``MACECalculator`` for models with LES.

    Beside upstream's results there are ``charges`` [e], ``dipole`` [e A], ``les_energy``
    [eV] and, if asked for, ``born_effective_charges`` ``[n_atoms, 9]`` [e], row by row with
    the component of the polarisation first. In periodic cells ``dipole`` is one branch of a
    multivalued quantity.

    Training leaves the common sign of all charges open. It is fixed by the first structure
    with more than one element, so that its most electronegative element is negative
    (``les.ChargeSign``), and kept from then on: it must not change along a trajectory.

    Short-range models work as well, and give upstream's results.

    Args:
        model: a model, or a model file.
        bec: compute Born effective charges with every calculation.
        sign: sign of the charges, +1 or -1, instead of letting the first structure decide.
        allow_pickle: read pickled models, which can run code (see ``load_model``).
        device: where to compute, e.g. ``"cuda"``.
        default_dtype: ``"float64"``, ``"float32"`` or, empty, that of the model.
        kwargs: further arguments of ``MACECalculator``.
    """

    def __init__(
        self,
        model: torch.nn.Module | str | Path,
        *,
        bec: bool = False,
        sign: int | None = None,
        allow_pickle: bool = False,
        device: str = "cpu",
        default_dtype: str = "",
        **kwargs: Any,
    ) -> None:
        if isinstance(model, (str, Path)):
            model = load_model(model, allow_pickle=allow_pickle, device=device)
        charge_sign = ChargeSign(sign)
        if kwargs.get("compile_mode") is not None and isinstance(model, MACELES):
            raise ValueError("`compile_mode` is not supported for models with LES yet")
        if bec and not isinstance(model, MACELES):
            raise ValueError(f"`bec` needs a model with LES, got a {type(model).__name__}")
        super().__init__(models=model, device=device, default_dtype=default_dtype, **kwargs)
        self.models[0].eval()
        self.bec = bec
        self.charge_sign = charge_sign
        self.long_range = isinstance(self.models[0], MACELES)
        self.les_config = self.models[0].les.config() if self.long_range else None
        # Upstream appends to a list that all its instances share.
        self.implemented_properties: list[str] = list(dict.fromkeys(self.implemented_properties))
        if self.long_range:
            self.models[0].register_forward_hook(self._keep_output)
            self.implemented_properties += ["charges", "dipole", "les_energy"]
            if bec:
                self.implemented_properties.append("born_effective_charges")

    def _keep_output(self, module: torch.nn.Module, inputs: Any, output: dict[str, Any]) -> None:
        """Upstream passes on only the outputs it knows; keep the others too."""
        self._output = {key: x.detach() for key, x in output.items() if x is not None}

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Compute all results for ``atoms``.

        Raises:
            ValueError: for positions that are not finite, atoms on top of each other, a
                periodic structure without a cell, elements that the model does not know and,
                with LES, one periodic axis.
        """
        structure = atoms if atoms is not None else self.atoms
        check_atoms(structure, LONG_RANGE_AXES if self.long_range else ANY_AXES)
        check_elements(structure, self.z_table.zs)
        if self.long_range:
            # Calculators may share a model, and a model may ask for less than all of it.
            self.models[0].compute_bec = self.bec
            self.models[0].bec_output_index = None
        super().calculate(atoms, properties, system_changes)
        if not structure.pbc.any():
            self.results.pop("stress", None)
        if not self.long_range:
            return
        out = self._output
        numbers = torch.as_tensor(structure.numbers, device=out["charges"].device)
        sign = self.charge_sign(out["charges"], numbers)
        self.results["charges"] = sign * self.results["charges"]
        self.results["dipole"] = sign * self.results["dipole"]
        self.results["les_energy"] = out["les_energy"].item() * self.energy_units_to_eV
        if self.bec:
            tensor = out["BEC"].cpu().numpy()
            self.results["born_effective_charges"] = sign * tensor.reshape(len(structure), -1)
