"""ASE calculator for MACE models, with the results that charges make possible."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from mace.calculators import MACECalculator
from mace.modules.models import ScaleShiftMACE
from numpy.typing import NDArray

from les.backends.batch_calculator import BatchCalculator
from les.backends.calculator import ChargeCalculator
from les.backends.loading import model_given
from les.backends.several import OneOrSeveral
from les.devices import resolve_device, resolve_dtype
from les_mace.checkpoint import load_model
from les_mace.cluster import MACECluster
from les_mace.heads import CalculatorOfHead, chosen_head
from les_mace.input import CalculatorInput
from les_mace.model import MACELES
from les_mace.outputs import outputs_by_structure, outputs_kept

if TYPE_CHECKING:
    from ase import Atoms

#: Keywords of upstream's calculator that name models.
SEVERAL_MODELS = ("models", "model_paths", "model_path")


class LESCalculator(OneOrSeveral, CalculatorOfHead, CalculatorInput, BatchCalculator):
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
                    f"`{name}` must be given as `model`: a model or a model file, "
                    "or a list of them for a committee"
                )
        self.refuse_unknown_keywords(kwargs)
        if dtype and default_dtype and dtype != default_dtype:
            raise ValueError(
                f"`dtype` and `default_dtype` must be the same, got {dtype!r} and {default_dtype!r}"
            )
        device = resolve_device(device)
        kind = "MACE model or a model file"
        own = model_given(model, load_model, ScaleShiftMACE, kind, allow_pickle=allow_pickle)
        long_range = isinstance(own, MACELES)
        if long_range and kwargs.get("compile_mode") is not None:
            raise ValueError("`compile_mode` is not supported for models with LES yet")
        if long_range and compute_atomic_stresses:
            raise ValueError(
                "`compute_atomic_stresses` needs a model without LES: stresses of atoms are not "
                "defined for the long-range energy"
            )
        heads = list(getattr(own, "heads", ["Default"]))
        head = chosen_head(head, heads)
        own_dtype = next(own.parameters()).dtype
        self.dtype = resolve_dtype(dtype or default_dtype, own_dtype)
        if self.dtype != own_dtype and own is model:
            own = copy.deepcopy(own)  # that of someone else stays as precise as it is
        own = own.to(self.dtype)
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
        self.set_up_charges(config)

    def elements(self) -> Iterable[int]:
        return self.z_table.zs

    def short_range_part(self) -> MACECluster:
        self.require_charges()
        self.require_head()
        return MACECluster(self.models[0], self.available_heads.index(self.head))

    def evaluate(self, atoms: Atoms, properties: Any, system_changes: Any) -> None:
        placed = self.place(atoms, self.dtype)
        with outputs_kept(self._asked_model()) as found:
            MACECalculator.calculate(self, placed, properties, system_changes)
        self.atoms = atoms.copy()  # what the results belong to, as it was given
        if self.long_range:
            self.add_charge_outputs(atoms, *self._by_structure(found, [atoms]))

    def evaluate_together(self, structures: Sequence[Atoms]) -> Iterator[None]:
        alone = any(self.fragment_tensors(atoms) for atoms in structures)
        alone = alone or self.use_compile or self.compute_atomic_stresses
        way = ChargeCalculator if alone else BatchCalculator
        return way.evaluate_together(self, structures)

    def outputs_of(self, structures: Sequence[Atoms]) -> list[dict[str, torch.Tensor]]:
        inputs = self.input_of([self.place(atoms, self.dtype) for atoms in structures])
        return self._by_structure(self._asked_model()(inputs, compute_stress=True), structures)

    def _asked_model(self) -> Any:
        """The model, told what is asked for: it may be shared, and may ask for less by itself."""
        model = self.models[0]
        if self.long_range:
            model.compute_bec, model.bec_output_index = self.bec, None
            model.bec_method = self.bec_method
        return model

    def _by_structure(
        self, found: Mapping[str, Any], structures: Sequence[Atoms]
    ) -> list[dict[str, torch.Tensor]]:
        """The outputs of the model for each structure, in eV, A and e."""
        units = (self.energy_units_to_eV, self.length_units_to_A)
        return outputs_by_structure(found, [len(atoms) for atoms in structures], *units)

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
