"""ASE calculator for NequIP and Allegro models, with the results that charges make possible."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ase import Atoms
from nequip.data import AtomicDataDict
from nequip.data._nl import DEFAULT_NEIGHBORLIST_BACKEND
from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper
from nequip.integrations.ase import NequIPCalculator

from les import LESConfig, dipole_moments
from les.backends.batches import divided
from les.backends.calculator import ChargeCalculator
from les.backends.several import OneOrSeveral
from les.data.atoms import LONG_RANGE_AXES, has_stress, spanning_cell
from les.devices import resolve_device
from les.latent_moments import ATOMIC_MOMENTS
from les_nequip.cluster import NequIPCluster
from les_nequip.keys import (
    BEC_METHOD,
    EQUILIBRATION_KEY,
    LES_ENERGY_KEY,
    METADATA_KEY,
    SPIN_KEY,
    TOTAL_CHARGE_KEY,
)
from les_nequip.limits import check_bec_method, check_compiled_for
from les_nequip.loading import Loaded, load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


#: Outputs that results of several structures are made of: one for each structure, or each atom.
OF_STRUCTURES = (AtomicDataDict.TOTAL_ENERGY_KEY, AtomicDataDict.STRESS_KEY, LES_ENERGY_KEY)
OF_ATOMS = (
    AtomicDataDict.PER_ATOM_ENERGY_KEY,
    AtomicDataDict.FORCE_KEY,
    AtomicDataDict.CHARGE_KEY,
    AtomicDataDict.BORN_CHARGE_KEY,
    EQUILIBRATION_KEY,
    *ATOMIC_MOMENTS,
)
#: Dipoles of the charges of several structures. No model puts them out: theirs may be others.
_DIPOLE_OF_CHARGES = "_dipole_of_charges"


class LESCalculator(OneOrSeveral, ChargeCalculator, NequIPCalculator):
    """``NequIPCalculator`` for models with LES.

    Results are those of upstream and those of ``les.backends.calculator.ChargeCalculator``.
    Structures with a cell of three vectors, and at least one periodic axis, have a ``stress``.
    Compiled models give the results for which they were compiled: charges with ``--target
    ase_les``, and also Born effective charges, by one of the methods, with ``--target
    ase_les_bec``.

    Args:
        model: a model, which is set to evaluation, or a file: a model (``.nequip.pt``), a
            checkpoint (``.ckpt``), a package (``.nequip.zip``) or a compiled model
            (``.nequip.pt2``). A list of them makes a ``les.backends.committee.Committee``.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ...
        dtype: ``"float64"``, ``"float32"`` or, empty, the precision of the file. Models that are
            built already, and compiled models, keep their precision.
        allow_pickle: read files that run the code they hold when they are loaded: packages,
            compiled models, and checkpoints with more than plain values.
        transforms: functions that turn structures into input, if ``model`` is a model; made for
            it if they are not given.
        chemical_species_to_atom_type_map: chemical symbol -> type; by default the types of the
            model are chemical symbols.
        neighborlist_backend: program that finds neighbours, with ``neighborlist_backend_kwargs``.
        kwargs: further arguments of ``ChargeCalculator``, such as ``bec`` and ``sign``, and of
            ``NequIPCalculator``.

    Raises:
        FileNotFoundError: if there is no such file.
        TypeError: for an unknown keyword.
        ValueError: for files that are damaged, hold no model of nequip, or
            are not to be loaded without ``allow_pickle``; for a device, precision or property
            that is not possible.
    """

    def __init__(
        self,
        model: torch.nn.Module | str | Path,
        device: str | torch.device = "cpu",
        *,
        dtype: str = "",
        allow_pickle: bool = False,
        transforms: Sequence[Callable[..., Any]] | None = None,
        chemical_species_to_atom_type_map: dict[str, str] | bool | None = None,
        neighborlist_backend: str = DEFAULT_NEIGHBORLIST_BACKEND,
        neighborlist_backend_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.refuse_unknown_keywords(kwargs)
        device = resolve_device(device)
        loaded = load(
            model,
            device,
            dtype=dtype,
            allow_pickle=allow_pickle,
            transforms=transforms,
            species=chemical_species_to_atom_type_map,
            neighborlist_backend=neighborlist_backend,
            neighborlist_backend_kwargs=neighborlist_backend_kwargs,
        )
        super().__init__(loaded.model, device, transforms=loaded.transforms, **kwargs)
        self.precision = loaded.precision
        self._compiled = bool(loaded.outputs)
        modules: Iterable[Any] = loaded.model.modules()
        self.les_modules = [module for module in modules if getattr(module, "is_les", False)]
        self.settings = _settings(loaded, self.les_modules)
        if self.settings is not None and not self.les_modules:
            slabs = loaded.takes_pbc and self.settings.get("slabs", False)
            self.long_range_axes = LONG_RANGE_AXES if slabs else (0, 3)
        config = None
        if self.settings is not None:
            names = LESConfig().to_dict()
            own = {key: x for key, x in self.settings.items() if key in names}
            config = LESConfig.from_stored(own)
        self.set_up_charges(config)
        if self.bec and loaded.outputs and AtomicDataDict.BORN_CHARGE_KEY not in loaded.outputs:
            raise ValueError(
                f"{model} has no Born effective charges; compile it with --target ase_les_bec"
            )
        if self.bec:
            assert self.settings is not None
            name = str(model) if isinstance(model, (str, Path)) else "`model`"
            check_bec_method(self.bec_method, name, self.settings, self.les_modules)

    #: The part of a batch's output that results are being made of.
    _found: AtomicDataDict.Type | None = None

    @classmethod
    def from_file(
        cls, path: str | Path, device: str | torch.device = "cpu", **kwargs: Any
    ) -> LESCalculator:
        """From a file; the same as the class with it, whose arguments these are."""
        return cls(Path(path), device, **kwargs)

    @classmethod
    def from_compiled_model(  # type: ignore[override]
        cls, compile_path: str | Path, device: str | torch.device = "cpu", **kwargs: Any
    ) -> LESCalculator:
        """From a compiled model; the same as the class with it, whose arguments these are.

        A compiled model is a program, so it needs ``allow_pickle``.
        """
        return cls(Path(compile_path), device, **kwargs)

    def elements(self) -> Iterable[int]:
        """Atomic numbers that the model knows; all elements if it does not name them."""
        for mapper in self.transforms:
            if isinstance(mapper, ChemicalSpeciesToAtomTypeMapper):
                known: list[int] = torch.nonzero(mapper.lookup_table >= 0).flatten().tolist()
                return known
        return range(1, 119)

    def short_range_part(self) -> NequIPCluster:
        self.require_charges()
        assert self.les_config is not None
        if not self.les_modules:
            raise ValueError(
                "atoms of a compiled model cannot be divided among ranks: take the model as it was "
                "trained"
            )
        if len(self.les_modules) > 1 or self.energy_units_to_eV != 1.0:
            raise ValueError(
                "atoms of a model with several modules of LES, or with other units than eV, cannot "
                "be divided among ranks"
            )
        for mapper in self.transforms:
            if isinstance(mapper, ChemicalSpeciesToAtomTypeMapper):
                return NequIPCluster(
                    self.model, self.les_modules[0], self.les_config, mapper.lookup_table
                )
        raise ValueError("the model does not say which chemical elements its atom types are")

    def evaluate(self, atoms: Atoms, properties: Any, system_changes: Any) -> None:
        if self.settings is not None and not self.les_modules:
            check_compiled_for(
                atoms,
                self.total_charge(atoms),
                self.settings["boundary"],
                fragments=self.fragments(atoms) is not None,
            )
        with self._chosen_outputs():
            NequIPCalculator.calculate(self, atoms, properties, system_changes)
        self.results["energy"] = self.results["free_energy"] = float(self.results["energy"])
        if not has_stress(atoms):
            self.results.pop("stress", None)

    def evaluate_together(self, structures: Sequence[Atoms]) -> Iterator[None]:
        # Compiled models are for single structures, and so are fragments, by their numbers.
        if self._compiled or any(self.fragment_tensors(atoms) for atoms in structures):
            yield from super().evaluate_together(structures)
            return
        batch = AtomicDataDict.batched_from_list([self.atoms_to_data(x) for x in structures])
        with self._chosen_outputs():
            found = self.call_model(batch)
        kept = {key: found[key].detach() for key in (*OF_STRUCTURES, *OF_ATOMS) if key in found}
        if AtomicDataDict.CHARGE_KEY in kept and self.les_config is not None:
            owner = found[AtomicDataDict.BATCH_KEY].cpu()
            charges = kept[AtomicDataDict.CHARGE_KEY]
            kept[_DIPOLE_OF_CHARGES] = self._dipoles(charges, structures, owner)
        of_structures = (*OF_STRUCTURES, _DIPOLE_OF_CHARGES)
        outputs = divided(kept, [len(atoms) for atoms in structures], of_structures)
        for atoms, out in zip(structures, outputs, strict=True):
            self._found = out
            try:
                self.evaluate(atoms, None, None)
            finally:
                self._found = None
            yield

    def call_model(self, data: AtomicDataDict.Type) -> AtomicDataDict.Type:
        """The model's output, or the part of a batch's output that was computed before."""
        return super().call_model(data) if self._found is None else self._found

    def atoms_to_data(self, atoms: Atoms) -> AtomicDataDict.Type:
        """Upstream's data, of the structure alone: upstream would take labels for input."""
        if self._found is not None:
            return {}  # has been evaluated
        bare = Atoms(atoms.numbers, atoms.positions, cell=spanning_cell(atoms), pbc=atoms.pbc)
        data = super().atoms_to_data(bare)
        state = {TOTAL_CHARGE_KEY: self.total_charge(atoms)} if self.uses_total_charge else {}
        if "spin" in self.embedded:
            state[SPIN_KEY] = self.spin(atoms)
        for key, value in state.items():
            number = torch.full((1, 1), value, dtype=torch.float64)
            data[key] = number.to(data[AtomicDataDict.POSITIONS_KEY].device)
        for key, values in self.fragment_tensors(atoms).items():
            data[key] = values.unsqueeze(-1).to(data[AtomicDataDict.POSITIONS_KEY].device)
        return data

    def save_extra_outputs(self, out: AtomicDataDict.Type) -> None:
        """Keep the results that upstream does not know."""
        if self.les_config is None or not {AtomicDataDict.CHARGE_KEY, LES_ENERGY_KEY} <= set(out):
            return
        charges = out[AtomicDataDict.CHARGE_KEY].detach().squeeze(-1).cpu()
        dipole = out.get(_DIPOLE_OF_CHARGES)
        if dipole is None:
            one = torch.zeros(len(charges), dtype=torch.long)
            dipole = self._dipoles(charges, [self.atoms], one)[0]
        if "atomic_dipoles" in out:
            dipole = dipole + out["atomic_dipoles"].detach().sum(dim=0).cpu()
        bec = out[AtomicDataDict.BORN_CHARGE_KEY].reshape(-1, 3, 3) if self.bec else None
        les_energy = out[LES_ENERGY_KEY].item() * self.energy_units_to_eV
        parameters = out.get(EQUILIBRATION_KEY)
        self.add_charge_results(self.atoms, les_energy, charges, dipole, bec, parameters, out)

    def _dipoles(
        self, charges: torch.Tensor, structures: Sequence[Atoms], owner: torch.Tensor
    ) -> torch.Tensor:
        """Dipoles ``[n_structures, 3]`` [e A] of charges ``[n_atoms]`` or ``[n_atoms, 1]``.

        Args:
            charges: those that the model gives, with the square root of ``epsilon_factor`` in them.
            structures: where the atoms are.
            owner: structure of each atom ``[n_atoms]``.
        """
        assert self.les_config is not None
        charges = charges.cpu()
        positions = np.concatenate([atoms.positions for atoms in structures])
        return dipole_moments(
            charges,
            torch.as_tensor(positions, dtype=charges.dtype),
            owner,
            len(structures),
            self.les_config.moments_without_mean,
        )

    @contextlib.contextmanager
    def _chosen_outputs(self) -> Iterator[None]:
        """Let the model compute what is asked for here, and later what it is configured for."""
        configured = [(x.compute_bec, getattr(x, BEC_METHOD, None)) for x in self.les_modules]
        for module in self.les_modules:
            module.compute_bec, module.bec_method = self.bec, self.bec_method
        try:
            yield
        finally:
            for module, before in zip(self.les_modules, configured, strict=True):
                module.compute_bec, module.bec_method = before


def _settings(loaded: Loaded, les_modules: Sequence[Any]) -> dict[str, Any] | None:
    """What the model says about LES."""
    if loaded.settings is not None or not les_modules:
        return loaded.settings
    metadata: Any = loaded.model.metadata
    settings: dict[str, Any] = json.loads(metadata[METADATA_KEY])
    return settings
