"""ASE calculator for MACE models, with the results that charges make possible."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from mace.calculators import MACECalculator
from mace.data import AtomicData, KeySpecification, config_from_atoms
from mace.modules.models import ScaleShiftMACE
from mace.tools.torch_geometric import Batch
from mace.tools.torch_tools import default_dtype
from numpy.typing import NDArray

from les.backends.batch_calculator import BatchCalculator
from les.backends.batches import divided
from les.backends.calculator import ChargeCalculator
from les.backends.several import OneOrSeveral
from les.data.atoms import has_stress
from les.devices import resolve_device, resolve_dtype
from les.latent_moments import ATOMIC_MOMENTS
from les.response.born import BORN_CHARGES
from les_mace.checkpoint import load_model
from les_mace.cluster import MACECluster
from les_mace.model import MACELES
from les_mace.neighbours import own_cells

if TYPE_CHECKING:
    from ase import Atoms

#: Keywords of upstream's calculator that name models.
SEVERAL_MODELS = ("models", "model_paths", "model_path")

#: Outputs of models with LES that results are made of.
KEPT = ("les_energy", "charges", "dipole", "BEC", "equilibration_parameters", *ATOMIC_MOMENTS)
#: Outputs in upstream's units, and the powers of the length in these.
IN_UNITS = {"energy": 0, "node_energy": 0, "les_energy": 0, "forces": -1, "stress": -3}
#: Outputs under names of their own, and results that are of whole structures.
NAMES = {"node_energy": "energies", "BEC": BORN_CHARGES}
OF_STRUCTURES = ("energy", "stress", "les_energy", "dipole")


class LESCalculator(OneOrSeveral, BatchCalculator, MACECalculator):
    """``MACECalculator`` for models with LES.

    ``stress`` is per volume of the cell as given, for a slab, too. Structures without a periodic
    axis, or without a volume, have none. Results are those of upstream and those of
    ``les.backends.calculator.ChargeCalculator``.

    Args:
        model: a model or a model file; a list of them makes a
            ``les.backends.committee.Committee``.
        allow_pickle: read pickled models, which can run code (see ``load_model``).
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"auto"``, which takes a GPU if there is
            one.
        dtype: ``"float64"``, ``"float32"`` or, empty, that of the model.
        default_dtype: upstream's name of ``dtype``.
        head: name of the head, for a model with several; the default is the head called
            ``default``, or the only one.
        compute_atomic_stresses: upstream's option, for short-range models.
        kwargs: further arguments of ``ChargeCalculator``, such as ``bec`` and ``sign``, and of
            ``MACECalculator``.

    Raises:
        TypeError: for an unknown keyword, with the closest one.
        ValueError: for options that the model does not support, an unknown head, or a device that
            does not exist.
    """

    def __init__(
        self,
        model: torch.nn.Module | str | Path | None = None,
        *,
        allow_pickle: bool = False,
        device: str | torch.device = "cpu",
        dtype: str = "",
        default_dtype: str = "",
        head: str | None = None,
        compute_atomic_stresses: bool = False,
        **kwargs: Any,
    ) -> None:
        for name in SEVERAL_MODELS:
            if name in kwargs:
                raise ValueError(
                    f"give a model or a model file, or a list of them for a committee, as `model` "
                    f"instead of `{name}`"
                )
        self.refuse_unknown_keywords(kwargs)
        if dtype and default_dtype and dtype != default_dtype:
            raise ValueError(f"`dtype` is {dtype!r}, but `default_dtype` {default_dtype!r}")
        device = resolve_device(device)
        own: Any = model
        if isinstance(model, (str, Path)):
            own = load_model(model, allow_pickle=allow_pickle)
        if not isinstance(own, ScaleShiftMACE):
            raise TypeError(
                f"`model` must be a MACE model or a model file, got {type(own).__name__}"
            )
        long_range = isinstance(own, MACELES)
        if long_range and kwargs.get("compile_mode") is not None:
            raise ValueError("`compile_mode` is not supported for models with LES yet")
        if long_range and compute_atomic_stresses:
            raise ValueError(
                "`compute_atomic_stresses` needs a model without LES: stresses of atoms are not "
                "defined for the long-range energy"
            )
        heads = list(getattr(own, "heads", ["Default"]))
        head = _chosen(head, heads)
        own_dtype = next(own.parameters()).dtype
        self.dtype = resolve_dtype(dtype or default_dtype, own_dtype)
        if self.dtype != own_dtype and own is model:
            own = copy.deepcopy(own)  # that of someone else stays as precise as it is
        own = own.to(self.dtype)
        #: Whether the user still has to say which head is meant.
        self.head_is_open = head is None
        # Upstream appends to the list of the class, which all calculators share.
        self.implemented_properties: list[str] = []
        super().__init__(
            models=own,
            device=str(device),
            default_dtype=str(self.dtype).removeprefix("torch."),
            head=head or heads[0],
            compute_atomic_stresses=compute_atomic_stresses,
            **kwargs,
        )
        self.models[0].eval()
        config = self.models[0].les.config() if long_range else None
        key = self.info_keys.setdefault("total_charge", "charge")
        self.total_charge_names = tuple(dict.fromkeys((*self.total_charge_names, key)))
        key = self.info_keys.setdefault("total_spin", "spin")
        self.spin_names = tuple(dict.fromkeys((*self.spin_names, key)))
        self.set_up_charges(config)
        # These have an effect, unlike on other models.
        embedded = getattr(self.models[0], "embedding_specs", None) or {}
        named = {self.info_keys.get(name, name) for name in embedded}
        self.used_labels = {*self.used_labels, *named}

    def elements(self) -> Iterable[int]:
        return self.z_table.zs

    def short_range_part(self) -> MACECluster:
        self.require_charges()
        self.require_head()
        return MACECluster(self.models[0], self.available_heads.index(self.head))

    def structure_of(self, atoms: Atoms | None) -> Atoms:
        """As inherited; also raises ``ValueError`` if none of several heads has been chosen."""
        self.require_head()
        return super().structure_of(atoms)

    def require_head(self) -> None:
        """Raise ``ValueError`` if none of several heads has been chosen."""
        if self.head_is_open:
            raise ValueError(
                f"the model has the heads {', '.join(self.available_heads)}: say which one is "
                "meant with `head`, or --head"
            )

    def evaluate(self, atoms: Atoms, properties: Any, system_changes: Any) -> None:
        placed = self.place(atoms, self.dtype)
        with self._output_kept() as out:
            MACECalculator.calculate(self, placed, properties, system_changes)
        self.atoms = atoms.copy()  # what the results belong to, as it was given
        if not has_stress(atoms):
            self.results.pop("stress", None)
        if self.long_range:
            self.add_charge_results(
                atoms,
                out["les_energy"].item() * self.energy_units_to_eV,
                out["charges"],
                out["dipole"][0],
                out["BEC"] if self.bec else None,
                out.get("equilibration_parameters"),
                out,
            )

    def evaluate_together(self, structures: Sequence[Atoms]) -> Iterator[None]:
        alone = any(self.fragment_tensors(atoms) for atoms in structures)
        if alone or self.use_compile or self.compute_atomic_stresses:
            yield from ChargeCalculator.evaluate_together(self, structures)
            return
        placed = [self.place(atoms, self.dtype) for atoms in structures]
        batch = Batch.from_data_list([self._graph(atoms) for atoms in placed]).to(self.device)
        inputs = {
            key: value.to(self.dtype) if _is_floating(value) else value
            for key, value in batch.to_dict().items()
        }
        with self._output_kept():
            found = self.models[0](inputs, compute_stress=True)
        found = {key: found[key] for key in (*IN_UNITS, *KEPT) if found.get(key) is not None}
        values = {NAMES.get(key, key): self._in_eV(key, x) for key, x in found.items()}
        outputs = divided(values, [len(atoms) for atoms in structures], OF_STRUCTURES)
        for atoms, out in zip(structures, outputs, strict=True):
            self.set_results(atoms, out)
            yield

    def _in_eV(self, key: str, values: torch.Tensor) -> torch.Tensor:
        """An output of the model in eV, A and e."""
        if key not in IN_UNITS:
            return values.detach().cpu()
        unit = self.energy_units_to_eV * self.length_units_to_A ** IN_UNITS[key]
        return values.detach().cpu() * unit

    @contextlib.contextmanager
    def _output_kept(self) -> Iterator[dict[str, torch.Tensor]]:
        """What a model with LES gives besides; upstream passes on only the outputs it knows."""
        kept: dict[str, torch.Tensor] = {}
        if not self.long_range:
            yield kept
            return

        def keep(module: torch.nn.Module, inputs: Any, output: dict[str, Any]) -> None:
            kept.update({key: x.detach() for key in KEPT if (x := output.get(key)) is not None})

        model = self.models[0]
        # Calculators may share a model, and a model may ask for less than all of it.
        model.compute_bec, model.bec_output_index = self.bec, None
        model.bec_method = self.bec_method
        handle = model.register_forward_hook(keep)
        try:
            yield kept
        finally:
            handle.remove()

    def get_hessian(self, atoms: Atoms | None = None) -> NDArray[Any]:
        """Second derivatives of the energy, ``[3 n_atoms, n_atoms, 3]`` [eV/A^2].

        Raises:
            ValueError: as :meth:`calculate`.
        """
        placed = self.place(self.structure_of(atoms), self.dtype)
        if self.long_range:
            self.models[0].compute_bec = False
        hessian: NDArray[Any] = super().get_hessian(placed)
        return hessian

    def _atoms_to_batch(self, atoms: Atoms) -> Any:
        """Upstream's batch, of which all results are made."""
        with own_cells():
            batch = super()._atoms_to_batch(self._with_state(atoms))
        for name, values in self.fragment_tensors(atoms).items():
            batch[name] = values.to(batch["positions"].device)
        return batch

    def _graph(self, atoms: Atoms) -> AtomicData:
        """What upstream's batch of one structure is made of."""
        self.arrays_keys[self.charges_key] = "charges"  # as upstream
        keys = KeySpecification(info_keys=self.info_keys, arrays_keys=self.arrays_keys)
        with own_cells(), default_dtype(self.default_dtype):
            config = config_from_atoms(
                self._with_state(atoms), key_specification=keys, head_name=self.head
            )
            return AtomicData.from_config(
                config, z_table=self.z_table, cutoff=self.r_max, heads=self.available_heads
            )

    def _with_state(self, atoms: Atoms) -> Atoms:
        """The structure with the total charge and the spin where upstream reads them."""
        # What the long-range part has no use for stays as it is, for upstream's own embeddings.
        state = {}
        if self.uses_total_charge:
            state[self.info_keys["total_charge"]] = self.total_charge(atoms)
        if "spin" in self.embedded:
            state[self.info_keys["total_spin"]] = self.spin(atoms)
        if state:
            atoms = atoms.copy()
            atoms.info.update(state)
        return atoms


def _is_floating(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def _chosen(head: str | None, heads: list[str]) -> str | None:
    """The head that is meant, of those that the model has; ``None`` if that is still open."""
    if head is not None and head not in heads:
        raise ValueError(f"`head` must be one of {', '.join(heads)}, got {head!r}")
    if head is None and len(heads) == 1:
        return heads[0]
    return head or next((each for each in heads if each.lower() == "default"), None)
