"""ASE calculator for NequIP and Allegro models, with the results that charges make possible."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from ase.calculators.calculator import all_changes
from nequip.data import AtomicDataDict
from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper
from nequip.integrations.ase import NequIPCalculator
from nequip.integrations.utils import basic_transforms, handle_chemical_species_map
from nequip.model.inference_models import load_compiled_model
from nequip.nn import graph_model

from les import ChargeSign, LESConfig, dipole_moments
from les.structures import ANY_AXES, check_atoms, check_elements
from les_nequip.keys import LES_ENERGY_KEY, METADATA_KEY

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ase import Atoms


class LESCalculator(NequIPCalculator):
    """``NequIPCalculator`` for models with LES.

    Beside upstream's results there are ``charges`` [e], ``dipole`` [e A], ``les_energy`` [eV]
    and, if asked for, ``born_effective_charges`` ``[n_atoms, 9]`` [e], row by row with the
    component of the polarisation first. In periodic cells ``dipole`` is one branch of a
    multivalued quantity. Compiled models give what they were compiled for: charges with
    ``--target ase_les``, with Born effective charges ``--target ase_les_bec``.

    Training leaves the common sign of all charges open. It is fixed by the first structure
    with more than one element, so that its most electronegative element is negative
    (``les.ChargeSign``), and kept from then on: it must not change along a trajectory.

    Short-range models work as well, and give upstream's results.

    Args:
        model: a model in evaluation mode.
        device: where to compute, e.g. ``"cuda"``.
        settings: what the model's metadata say about LES; for a model that is not compiled
            they are taken from it.
        bec: report Born effective charges with every calculation.
        sign: sign of the charges, +1 or -1, instead of letting the first structure decide.
        kwargs: further arguments of ``NequIPCalculator``.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        device: str | torch.device = "cpu",
        *,
        settings: dict[str, Any] | None = None,
        bec: bool = False,
        sign: int | None = None,
        **kwargs: Any,
    ) -> None:
        charge_sign = ChargeSign(sign)
        super().__init__(model, device, **kwargs)
        modules: Iterable[Any] = model.modules()
        self.les_modules = [module for module in modules if getattr(module, "is_les", False)]
        if settings is None and self.les_modules:
            metadata: Any = model.metadata
            settings = json.loads(metadata[METADATA_KEY])
        self.settings = settings
        self.les_config: LESConfig | None = None
        if settings is not None:
            names = LESConfig().to_dict()
            self.les_config = LESConfig(**{key: x for key, x in settings.items() if key in names})
        if bec and settings is None:
            raise ValueError("`bec` needs a model with LES, this one has none")
        self.bec = bec
        self.charge_sign = charge_sign
        self.implemented_properties: list[str] = list(self.implemented_properties)
        if settings is not None:
            self.implemented_properties += ["charges", "dipole", "les_energy"]
            if bec:
                self.implemented_properties.append("born_effective_charges")

    @classmethod
    def from_compiled_model(
        cls,
        compile_path: str | Path,
        device: str | torch.device = "cpu",
        chemical_species_to_atom_type_map: dict[str, str] | bool | None = None,
        *,
        bec: bool = False,
        neighborlist_backend: str = "matscipy",
        neighborlist_backend_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> LESCalculator:
        """From a model compiled for ``--target ase``, ``ase_les`` or ``ase_les_bec``.

        Arguments as upstream's. A compiled model is a program: load it only from a source
        that you trust.

        Raises:
            ValueError: if it was compiled for another target, or without the Born effective
                charges that ``bec`` asks for.
        """
        model, metadata = load_compiled_model(str(compile_path), device, None, None)
        outputs = set(model.output_keys)
        needed = {AtomicDataDict.TOTAL_ENERGY_KEY, AtomicDataDict.FORCE_KEY}
        if not needed <= outputs or AtomicDataDict.BATCH_KEY in model.input_keys:
            raise ValueError(
                f"{compile_path} was compiled for another program (its outputs are "
                f"{sorted(outputs)}); compile it with --target ase_les"
            )
        if bec and AtomicDataDict.BORN_CHARGE_KEY not in outputs:
            raise ValueError(
                f"{compile_path} has no Born effective charges; compile it with "
                "--target ase_les_bec"
            )
        type_names = metadata[graph_model.TYPE_NAMES_KEY]
        settings = metadata.get(METADATA_KEY)
        return cls(
            model,
            device,
            settings=None if settings is None else json.loads(settings),
            bec=bec,
            transforms=basic_transforms(
                metadata,
                metadata[graph_model.R_MAX_KEY],
                type_names,
                handle_chemical_species_map(chemical_species_to_atom_type_map, type_names),
                neighborlist_backend=neighborlist_backend,
                neighborlist_backend_kwargs=neighborlist_backend_kwargs,
            ),
            **kwargs,
        )

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        device: str | torch.device = "cpu",
        *,
        allow_pickle: bool = False,
        **kwargs: Any,
    ) -> LESCalculator:
        """From a compiled model (``.nequip.pt2``), a package (``.nequip.zip``) or a checkpoint.

        The names of the model's atom types must be chemical symbols.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: for a package or checkpoint without ``allow_pickle``: they are pickles,
                which can run code when they are loaded.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"no model file {path}")
        options = {"device": device, "chemical_species_to_atom_type_map": True, **kwargs}
        if path.name.endswith(".nequip.pth"):
            raise ValueError(f"{path} is TorchScript; compile the model with --mode aotinductor")
        if path.name.endswith(".nequip.pt2"):
            return cls.from_compiled_model(path, **options)
        if not allow_pickle:
            raise ValueError(
                f"{path} is a pickled NequIP model; if its source is one you trust, pass "
                "allow_pickle=True, or --allow-pickle (loading it runs the code it holds)"
            )
        return cls._from_saved_model(path, **options)

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
                with LES, one or two periodic axes, or a boundary condition that the model was
                not made for.
        """
        structure = atoms if atoms is not None else self.atoms
        check_atoms(structure, ANY_AXES if self.settings is None else (0, 3))
        self._check_elements(structure)
        self._check_boundary(structure)
        configured = [module.compute_bec for module in self.les_modules]
        for module in self.les_modules:
            module.compute_bec = self.bec
        try:
            super().calculate(structure, properties, system_changes)
        finally:
            for module, compute_bec in zip(self.les_modules, configured, strict=True):
                module.compute_bec = compute_bec
        self.results["energy"] = self.results["free_energy"] = float(self.results["energy"])
        if not structure.pbc.any():
            self.results.pop("stress", None)

    def save_extra_outputs(self, out: AtomicDataDict.Type) -> None:
        """Keep the results that upstream does not know."""
        if self.settings is None or not {AtomicDataDict.CHARGE_KEY, LES_ENERGY_KEY} <= set(out):
            return
        charges = out[AtomicDataDict.CHARGE_KEY].detach().squeeze(-1).cpu()
        numbers = torch.as_tensor(self.atoms.numbers)
        sign = self.charge_sign(charges, numbers)
        charges = sign * charges
        # The square root of epsilon_factor is in the charges already.
        dipole = dipole_moments(
            charges,
            torch.as_tensor(self.atoms.positions, dtype=charges.dtype),
            torch.zeros(len(charges), dtype=torch.long),
            1,
            self.settings["remove_mean"],
        )
        self.results["charges"] = charges.numpy()
        self.results["dipole"] = dipole[0].numpy()
        self.results["les_energy"] = out[LES_ENERGY_KEY].item() * self.energy_units_to_eV
        if self.bec:
            bec = sign * out[AtomicDataDict.BORN_CHARGE_KEY].detach().cpu()
            self.results["born_effective_charges"] = bec.reshape(len(charges), 9).numpy()

    def _check_elements(self, atoms: Atoms) -> None:
        """Upstream does not say which element it does not know."""
        for mapper in self.transforms:
            if isinstance(mapper, ChemicalSpeciesToAtomTypeMapper):
                known = torch.nonzero(mapper.lookup_table >= 0).flatten().tolist()
                check_elements(atoms, known)

    def _check_boundary(self, atoms: Atoms) -> None:
        """Compiled models do not see ``pbc``: refuse what they were not made for."""
        if self.settings is None or self.les_modules:
            return
        boundary = self.settings["boundary"]
        if boundary != "mixed" and atoms.pbc.all() != (boundary == "periodic"):
            raise ValueError(
                f"this model was compiled for {boundary} structures, got pbc {atoms.pbc.tolist()}"
            )
