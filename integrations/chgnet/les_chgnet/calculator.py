"""ASE calculator for CHGNet models, with the results that charges make possible."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from ase.calculators.calculator import all_changes
from chgnet.model import CHGNet, CHGNetCalculator

from les.backends.batch_calculator import BatchCalculator
from les.backends.loading import model_given
from les.backends.several import OneOrSeveral
from les.data.atoms import has_stress
from les.devices import resolve_dtype
from les.response.born import BORN_CHARGES
from les_chgnet.atomic_energies import AtomicEnergies
from les_chgnet.checkpoint import load_model
from les_chgnet.data import ELEMENTS
from les_chgnet.device import device_of_arguments
from les_chgnet.graphs import GraphConverter
from les_chgnet.model import CHGNetLES
from les_chgnet.weights import quiet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ase import Atoms
    from torch import Tensor


#: Output of the model -> result.
RESULTS = {
    "e": "energy",
    "site_energies": "energies",
    "f": "forces",
    "s": "stress",
    "m": "magmoms",
    "les_energy": "les_energy",
    "charges": "charges",
    "dipole": "dipole",
    "bec": BORN_CHARGES,
    "equilibration_parameters": "equilibration_parameters",
}


class LESCalculator(OneOrSeveral, BatchCalculator, CHGNetCalculator):
    """``CHGNetCalculator`` for models with LES, also for molecules.

    Results are ``energy``, ``forces``, ``energies``, which sum to the energy, ``magmoms``, which
    are magnitudes, and those of ``les.backends.calculator.ChargeCalculator``. Periodic structures
    whose cell has a volume have ``stress`` in the order of Voigt. There are no features of the
    crystal, which upstream's calculator computes in every call.

    Args:
        model: a model, a model file or the name of a pretrained model; a list of them makes a
            ``les.backends.committee.Committee``.
        device: ``"cpu"``, ``"cuda"``, or ``"auto"``, which takes a GPU if there is one. The default
            is the device in the environment variable ``CHGNET_DEVICE``, or else ``"cpu"``. That
            variable also determines ``"auto"``.
        dtype: ``"float64"``, ``"float32"`` or, empty, that of the model.
        allow_pickle: read files that run code when they are loaded (see ``load_model``).
        on_isolated_atoms: ``"ignore"``, ``"warn"`` or ``"error"``.
        use_device: upstream's name of ``device``.
        kwargs: further arguments of ``ChargeCalculator``, such as ``bec`` and ``sign``, and of
            ``CHGNetCalculator``.

    Raises:
        TypeError: for unknown keywords, and a ``model`` of another kind.
        ValueError: for options out of range or not possible here or for this model, and as
            ``les_chgnet.load_model``.
    """

    unsigned_labels = frozenset({"magmoms"})
    _task = "efsm"

    def __init__(
        self,
        model: CHGNet | str | Path = "0.3.0",
        *,
        device: str | torch.device | None = None,
        dtype: str = "",
        allow_pickle: bool = False,
        on_isolated_atoms: str = "ignore",
        use_device: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.refuse_unknown_keywords(kwargs)
        place = device_of_arguments(device, use_device)
        given = model_given(model, load_model, CHGNet, "CHGNet", allow_pickle=allow_pickle)
        model = _in_precision(given, dtype)
        # The model's own may be upstream's, and calculators may share the model.
        self.graph_converter = GraphConverter.like(model.graph_converter)
        self.graph_converter.set_isolated_atom_response(on_isolated_atoms)
        self.graph_converter.to(next(model.parameters()).dtype)
        of_the_model = model.graph_converter.on_isolated_atoms
        with quiet():
            super().__init__(model, use_device=str(place), **kwargs)
        model.graph_converter.set_isolated_atom_response(of_the_model)
        self.graph_converter.neighbours = self.neighbours
        config = model.les.config() if isinstance(model, CHGNetLES) else None
        self.set_up_charges(config)
        self.implemented_properties.append("free_energy")

    @classmethod
    def from_file(cls, path: str, use_device: str | None = None, **kwargs: Any) -> LESCalculator:
        """From a model file; arguments as for the class."""
        return cls(Path(path), use_device=use_device, **kwargs)

    def elements(self) -> Iterable[int]:
        return ELEMENTS

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] | None = None,
        task: str = "efsm",
    ) -> None:
        """Calculate as inherited, only the results of upstream's ``task``."""
        self._task = task
        super().calculate(atoms, properties, system_changes or all_changes)

    def outputs_of(self, structures: Sequence[Atoms]) -> Iterator[dict[str, Tensor]]:
        self.model.eval()
        stressed = any(has_stress(atoms) for atoms in structures)
        task = self._task if stressed else self._task.replace("s", "")
        options = {"return_bec": self.bec and self.bec_method} if self.long_range else {}
        dtype = next(self.model.parameters()).dtype
        graphs = [
            self.graph_converter(self.place(atoms, dtype)).to(self.device) for atoms in structures
        ]
        out = self.model(graphs, task=task, return_site_energies=True, **options)
        out |= {key: out[key].reshape(-1) for key in ("e", "les_energy") if key in out}
        for number, atoms in enumerate(structures):
            own = {name: out[key][number] for key, name in RESULTS.items() if key in out}
            own["energy"] = own["energy"] * (len(atoms) if self.model.is_intensive else 1)
            if "stress" in own:
                own["stress"] = own["stress"] * self.stress_weight
            yield own


def _in_precision(model: CHGNet, dtype: str) -> CHGNet:
    """``model`` in ``dtype``, a copy if it has another one; upstream's is made fit for it."""
    own = next(model.parameters()).dtype
    wanted = resolve_dtype(dtype, own)
    energies = model.composition_model
    # Upstream's own reference energies are for float32.
    fit = wanted == torch.float32 or energies is None or isinstance(energies, AtomicEnergies)
    if wanted == own and fit:
        return model
    model = copy.deepcopy(model).to(wanted)
    model.composition_model = AtomicEnergies.like(model.composition_model)
    return model
