"""ASE calculator for NequIP and Allegro models, with the results that charges make possible."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from ase import Atoms
from nequip.data import AtomicDataDict
from nequip.data._nl import DEFAULT_NEIGHBORLIST_BACKEND
from nequip.integrations.ase import NequIPCalculator

from les.backends.calculator import ChargeCalculator
from les.backends.several import OneOrSeveral
from les.data.atoms import LONG_RANGE_AXES, spanning_cell
from les.devices import resolve_device
from les_nequip.cluster import NequIPCluster
from les_nequip.keys import LES_ENERGY_KEY, STATE_KEYS
from les_nequip.limits import check_bec_method, check_compiled_for
from les_nequip.loading import load, types_of_numbers
from les_nequip.metadata import config_of, settings_of
from les_nequip.neighbours import keeping
from les_nequip.outputs import charge_outputs, outputs_by_structure, outputs_chosen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager


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
        neighborlist_backend: program that finds neighbours, with ``neighborlist_backend_kwargs``;
            with ``"alchemiops"``, and with transforms of one's own, in every step, whatever the
            ``skin``.
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
        self.transforms: list[Any] = keeping(self.transforms, self.neighbours)
        self.precision = loaded.precision
        self._compiled = bool(loaded.outputs)
        modules: Iterable[Any] = loaded.model.modules()
        self.les_modules = [module for module in modules if getattr(module, "is_les", False)]
        metadata = getattr(loaded.model, "metadata", {})
        self.settings = settings_of(metadata, loaded.settings, self.les_modules)
        if self.settings is not None and not self.les_modules:
            slabs = loaded.takes_pbc and self.settings.get("slabs", False)
            self.long_range_axes = LONG_RANGE_AXES if slabs else (0, 3)
        self.set_up_charges(config_of(self.settings))
        if self.bec:
            assert self.settings is not None
            has = (self.settings, self.les_modules, loaded.outputs)
            check_bec_method(self.bec_method, model, *has)

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
        """Atomic numbers that the model knows; all there are if nothing says which."""
        types = types_of_numbers(self.transforms)
        if types is None:
            return range(1, 119)
        known: list[int] = torch.nonzero(types >= 0).flatten().tolist()
        return known

    def short_range_part(self) -> NequIPCluster:
        self.require_charges()
        return NequIPCluster.of(self)

    def evaluate(self, atoms: Atoms, properties: Any, system_changes: Any) -> None:
        if self.settings is not None and not self.les_modules:
            charge, told = self.total_charge(atoms), self.fragments(atoms) is not None
            check_compiled_for(atoms, charge, self.settings["boundary"], fragments=told)
        with self._chosen_outputs():
            NequIPCalculator.calculate(self, atoms, properties, system_changes)
        self.results["energy"] = self.results["free_energy"] = float(self.results["energy"])

    def evaluate_together(self, structures: Sequence[Atoms]) -> Iterator[None]:
        # Compiled models are for single structures, and so are fragments, by their numbers.
        if self._compiled or any(self.fragment_tensors(atoms) for atoms in structures):
            yield from super().evaluate_together(structures)
            return
        batch = AtomicDataDict.batched_from_list([self.atoms_to_data(x) for x in structures])
        with self._chosen_outputs():
            found = self.call_model(batch)
        outputs = outputs_by_structure(found, structures, self.les_config)
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
        told = {name: x.unsqueeze(-1) for name, x in self.fragment_tensors(atoms).items()}
        for name, value in self.charge_state(atoms).items():
            told[STATE_KEYS[name]] = torch.as_tensor(value, dtype=torch.float64).view(1, -1)
        device = data[AtomicDataDict.POSITIONS_KEY].device
        return data | {key: values.to(device) for key, values in told.items()}

    def save_extra_outputs(self, out: AtomicDataDict.Type) -> None:
        """Keep the results that upstream does not know."""
        if self.les_config is None or not {AtomicDataDict.CHARGE_KEY, LES_ENERGY_KEY} <= set(out):
            return
        unit = self.energy_units_to_eV
        self.add_charge_outputs(self.atoms, charge_outputs(out, self.atoms, self.les_config, unit))

    def _chosen_outputs(self) -> AbstractContextManager[None]:
        return outputs_chosen(self.les_modules, self.bec, self.bec_method)
