"""ASE calculator for CACE models."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from les.backends.batch_calculator import BatchCalculator
from les.backends.batches import divided
from les.backends.loading import model_given
from les.backends.several import OneOrSeveral
from les.data.atoms import has_stress
from les.devices import resolve_device, resolve_dtype
from les_cace.batches import Structure, collate, to_structure
from les_cace.checkpoint import load_model
from les_cace.cluster import CACECluster
from les_cace.model import CACE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from ase import Atoms
    from torch import Tensor

#: Outputs of the model with one entry for each structure.
OF_STRUCTURES = ("energy", "les_energy", "stress", "dipole")


class LESCalculator(OneOrSeveral, BatchCalculator):
    """Energies, forces and stress of a CACE model, and with LES charges and responses.

    Results are ``energy``, ``forces``, ``energies``, which sum to the energy, and those of
    ``les.backends.calculator.ChargeCalculator``. If the cell has a volume, there is ``stress``.

    Args:
        model: a model, which is moved to ``device`` and set to evaluation, or a model file;
            a list of them makes a ``les.backends.committee.Committee``.
        device: ``"auto"`` (a GPU if there is one), ``"cpu"`` or ``"cuda"``.
        dtype: ``"float64"``, ``"float32"`` or, empty, that of the model.
        allow_pickle: also read published models, which run the code they hold when they are loaded.
        compile: compile a copy of the representation with ``torch.compile``: a minute or two in
            the first calculation, and again for the first structure with a single atom or
            without neighbours.
        kwargs: further arguments of ``ChargeCalculator``, such as ``bec`` and ``sign``, and of
            ASE's ``Calculator``.

    Raises:
        TypeError: for unknown keywords, and a ``model`` of another kind.
        ValueError: for options out of range or not possible here or for this model, and as
            ``les_cace.load_model``.
    """

    implemented_properties = [  # noqa: RUF012 (ASE's own)
        *("energy", "free_energy", "energies", "forces", "stress"),
    ]

    def __init__(
        self,
        model: CACE | str | Path,
        *,
        device: str = "cpu",
        dtype: str = "",
        allow_pickle: bool = False,
        compile: bool = False,
        **kwargs: Any,
    ) -> None:
        self.refuse_unknown_keywords(kwargs)
        super().__init__(**kwargs)
        self.device = resolve_device(device)
        given = model_given(model, load_model, CACE, "CACE", allow_pickle=allow_pickle)
        self.set_up_charges(given.les_config)
        own = given.representation.sender_embedding.dtype
        self.dtype = resolve_dtype(dtype, own)
        as_it_is = self.dtype == own and not compile
        self.model = given.to(self.device) if as_it_is else given.copy(self.dtype, self.device)
        self.compiled = compile
        if compile:
            for representation in self.model.representations():
                representation.compile(dynamic=True, fullgraph=True)

    def elements(self) -> Iterable[int]:
        return self.model.representation.zs

    def short_range_part(self) -> CACECluster:
        self.require_charges()
        return CACECluster(self.model.eval())

    def outputs_of(self, structures: Sequence[Atoms]) -> Iterable[Mapping[str, Tensor]]:
        self.model.eval()
        batch = collate([self._structure(atoms) for atoms in structures])
        with _compiled_for_several_gradients() if self.compiled else nullcontext():
            found = self.model(
                batch.to(self.device, self.dtype),
                compute_stress=any(has_stress(atoms) for atoms in structures),
                compute_bec=self.bec,
                bec_method=self.bec_method,
            )
        found = {name: value.detach().cpu() for name, value in found.items()}
        return divided(found, [len(atoms) for atoms in structures], OF_STRUCTURES)

    def _structure(self, atoms: Atoms) -> Structure:
        placed = self.place(atoms, self.dtype)
        state = (self.total_charge(atoms), self.spin(atoms), self.fragments(atoms))
        return to_structure(placed, self.model.cutoff, *state, neighbours=self.neighbours)


def _compiled_for_several_gradients() -> AbstractContextManager[None]:
    """Here, what is compiled keeps its buffers for more than one derivative.

    Born effective charges take those of several sums, one after the other.
    """
    from torch._functorch import config

    if not hasattr(config, "donated_buffer"):  # releases that always keep them
        return nullcontext()
    return config.patch(donated_buffer=False)
