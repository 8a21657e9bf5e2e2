"""ASE calculator for CACE models."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from les import ChargeSign
from les.structures import ANY_AXES, LONG_RANGE_AXES, check_atoms, check_elements
from les_cace.batches import collate, to_structure
from les_cace.checkpoint import load_model
from les_cace.model import CACE

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from ase import Atoms

_DTYPES = {"float32": torch.float32, "float64": torch.float64}


class LESCalculator(Calculator):
    """Energies, forces and stress of a CACE model, and with LES what follows from charges.

    Results are ``energy``, ``forces``, ``energies``, which sum to the energy, where the cell has a
    volume ``stress``; with LES also ``charges`` [e], ``dipole`` [e A], ``les_energy`` [eV]
    and, if asked for, ``born_effective_charges`` ``[n_atoms, 9]`` [e], row by row with the
    component of the polarisation first. In periodic cells ``dipole`` is one branch of a
    multivalued quantity. Of a model with several charges on each atom there are
    ``latent_charges`` ``[n_atoms, n_channels]`` [e] in the place of ``charges`` and what follows
    from them.

    Training leaves the common sign of all charges open. It is fixed by the first structure
    with more than one element, so that its most electronegative element is negative
    (``les.ChargeSign``), and kept from then on: it must not change along a trajectory.

    Args:
        model: a model, which is moved to ``device`` and set to evaluation, or a model file.
        bec: compute Born effective charges with every calculation.
        sign: sign of the charges, +1 or -1, instead of letting the first structure decide.
        device: where to compute, e.g. ``"cuda"``.
        dtype: ``"float64"``, ``"float32"`` or, empty, that of the model.
        compile: compile a copy of the representation with ``torch.compile``: a minute or two in
            the first calculation, and again for the first structure with a single atom or
            without neighbours.
        kwargs: further arguments of ASE's ``Calculator``.
    """

    def __init__(
        self,
        model: CACE | str | Path,
        *,
        bec: bool = False,
        sign: int | None = None,
        device: str = "cpu",
        dtype: str = "",
        compile: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if isinstance(model, (str, Path)):
            model = load_model(model)
        if dtype and dtype not in _DTYPES:
            raise ValueError(f"`dtype` must be one of {', '.join(_DTYPES)}, got {dtype!r}")
        own = model.representation.sender_embedding.dtype
        self.dtype = _DTYPES.get(dtype, own)
        try:
            self.device = torch.device(device)
        except RuntimeError as error:
            raise ValueError(f"`device` must be one that torch knows, got {device!r}") from error
        self.charge_sign = ChargeSign(sign)
        self.les_config = model.les_config
        self.long_range = model.les_config is not None
        if bec:
            model.require_physical_charges()
        self.bec = bec
        as_it_is = self.dtype == own and not compile
        try:
            self.model = model.to(self.device) if as_it_is else model.copy(self.dtype, device)
        except (AssertionError, RuntimeError) as error:  # of a device that is not here
            raise ValueError(f"`device` {device}: {error}") from error
        self.compiled = compile
        if compile:
            for representation in self.model.representations():
                representation.compile(dynamic=True, fullgraph=True)
        self.implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]
        if model.les_config is not None:
            one = model.les_config.n_channels == 1
            self.implemented_properties += ["charges", "dipole"] if one else ["latent_charges"]
            self.implemented_properties.append("les_energy")
            if bec:
                self.implemented_properties.append("born_effective_charges")

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
        check_elements(structure, self.model.representation.zs)
        super().calculate(atoms, properties, system_changes)
        self.model.eval()
        periodic = bool(structure.pbc.any() and structure.cell.rank == 3)
        batch = collate([to_structure(structure, self.model.cutoff)])
        with _compiled_for_several_gradients() if self.compiled else nullcontext():
            out = self.model(
                *batch.to(self.device, self.dtype), compute_stress=periodic, compute_bec=self.bec
            )
        out = {key: value.detach().cpu() for key, value in out.items()}
        energy = out["energy"].item()
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "energies": out["energies"].numpy(),
            "forces": out["forces"].numpy(),
        }
        if periodic:
            self.results["stress"] = full_3x3_to_voigt_6_stress(out["stress"][0].numpy())
        if self.long_range:
            self.results["les_energy"] = out["les_energy"].item()
        if "latent_charges" in self.implemented_properties:
            self.results["latent_charges"] = out["latent_charges"].numpy()
        elif self.long_range:
            sign = self.charge_sign(out["charges"], torch.as_tensor(structure.numbers))
            self.results["charges"] = (sign * out["charges"]).numpy()
            self.results["dipole"] = (sign * out["dipole"][0]).numpy()
            if self.bec:
                bec = sign * out["born_effective_charges"]
                self.results["born_effective_charges"] = bec.reshape(-1, 9).numpy()


def _compiled_for_several_gradients() -> AbstractContextManager[None]:
    """Here, what is compiled keeps its buffers for more than one derivative.

    Born effective charges take those of several sums, one after the other.
    """
    from torch._functorch import config

    if not hasattr(config, "donated_buffer"):  # releases that always keep them
        return nullcontext()
    return config.patch(donated_buffer=False)
