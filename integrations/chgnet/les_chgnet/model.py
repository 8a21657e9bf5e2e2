"""CHGNet with the energy of latent charges."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from ase import Atoms
from chgnet.graph import CrystalGraph
from chgnet.model.model import BatchedGraph
from pymatgen.core import Molecule
from torch import Tensor, nn

from les import Edges, Les, LESConfig
from les.atom_energies import summable
from les.charge_states import ChargeStateEmbedding
from les.equilibration import refuse_periodic_response
from les.response.arguments import BornSettings
from les.response.born import born_charges_of_model
from les_chgnet.atomic_energies import AtomicEnergies
from les_chgnet.batches import GraphBatch, batch_of
from les_chgnet.edges import recorded_edges
from les_chgnet.graphs import (
    GraphConverter,
    fragments_of,
    periodic_axes,
    require_states,
    spins,
    with_common_positions,
)
from les_chgnet.model_arguments import FURTHER, OUTDATED, refuse_unknown_arguments
from les_chgnet.origins import StoredCHGNet
from les_chgnet.weights import quiet

# Of volumes that upstream takes from tensors of its graphs; nothing is lost there.
warnings.filterwarnings(
    "ignore", "Converting a tensor with requires_grad=True", UserWarning, r"chgnet\.model"
)

#: Scale of the charges that training starts from, relative to those of ``les.ChargeReadout``.
#: Upstream normalises the features: the readout's own start would give all atoms of a structure
#: much the same charge of up to a tenth of e, and a molecule of fifty atoms an energy of eV.
INITIAL_CHARGE_SCALE = 0.1


class CHGNetLES(StoredCHGNet):
    r"""``CHGNet`` plus the energy of latent charges read from its atomic features.

    The charges :math:`q_i` are read from the features from which upstream reads energies, and
    :math:`q_i\phi_i/2` is added to the energy of each atom; forces and stress are upstream's
    derivatives of the sum. The model has a ``graph_converter`` that also takes molecules and
    ``ase.Atoms``.

    Args:
        les_arguments: a ``LESConfig``, or a dictionary of its fields.
        kwargs: as for ``CHGNet``.

    Raises:
        ValueError: for unknown arguments, a model without energies per atom
            (``mlp_first=False``), or bad ``les_arguments``.
    """

    composition_model: AtomicEnergies | None
    graph_converter: GraphConverter

    def __init__(
        self, *, les_arguments: LESConfig | Mapping[str, Any] | None = None, **kwargs: Any
    ) -> None:
        refuse_unknown_arguments(kwargs, FURTHER | OUTDATED)
        with quiet():
            super().__init__(**kwargs)
        if not self.mlp_first:
            raise ValueError("`mlp_first` must be true with LES, which adds to atomic energies")
        self.composition_model = AtomicEnergies.like(self.composition_model)
        self.graph_converter = GraphConverter.like(self.graph_converter)
        config = LESConfig.for_features(les_arguments, self.atom_fea_dim)
        self.les = Les(config, host_embeds=True)
        assert self.les.atomwise is not None
        self.les.atomwise.scale_weights(INITIAL_CHARGE_SCALE)
        self.register_load_state_dict_post_hook(_follow_settings)
        _follow_settings(self)
        self.mlp.register_forward_hook(self._add_long_range)
        self.charge_states = ChargeStateEmbedding.of(config, self.atom_fea_dim)
        self.atom_embedding.register_forward_hook(self._add_charge_state)
        self._graphs: Sequence[CrystalGraph] = ()
        self._batch: GraphBatch | None = None
        self._long_range: dict[str, Tensor | None] = {}

    def predict_structure(self, structure: Any, **options: Any) -> Any:
        """Predict as upstream does, also for ``ase.Atoms`` and molecules of pymatgen.

        Charges are not among the results, which upstream chooses: see :meth:`forward` and
        ``les_chgnet.LESCalculator``.
        """
        single = isinstance(structure, (Atoms, Molecule))
        return super().predict_structure([structure] if single else structure, **options)

    def forward(
        self,
        graphs: Sequence[CrystalGraph],
        *,
        task: str = "e",
        return_site_energies: bool = False,
        return_atom_feas: bool = False,
        return_crystal_feas: bool = False,
        return_bec: bool | str = False,
    ) -> dict[str, Any]:
        """As ``CHGNet.forward``, for the energy with the long-range part.

        Args:
            graphs: graphs as upstream's; all other arguments except the last are upstream's, too.
            return_bec: also compute exact Born effective charges; a string names another
                method of ``les.born_effective_charges``. In training they are differentiable.

        Returns:
            What upstream returns, where the stress of an open structure is zero, and besides:
            ``les_energy`` ``[n_structures]`` [eV], ``charges``, latent charges times the square
            root of ``epsilon_factor``, a tuple of ``[n_atoms]`` [e], ``dipole``
            ``[n_structures, 3]`` [e A], with ``charge_equilibration``
            ``equilibration_parameters``, electronegativities and hardnesses, a tuple of
            ``[n_atoms, 2]``, and with ``return_bec`` also ``bec``, a tuple of
            ``[n_atoms, 3, 3]`` [e], the component of the polarisation first.

        Raises:
            ValueError: for one periodic axis, graphs that do not say whether they are
                periodic, as ``les.Les``, and with ``return_bec`` as ``les.born_effective_charges``
                and :func:`les_chgnet.edges.recorded_edges`.
        """
        method = return_bec if isinstance(return_bec, str) else "exact" * bool(return_bec)
        fragment = fragments_of(graphs)[0]
        if method and self.les.charge_equilibration:
            pbc = torch.stack([periodic_axes(graph) for graph in graphs])
            cells = torch.stack([graph.lattice for graph in graphs])
            refuse_periodic_response(cells, pbc, fragment)
        if method and (self.les.charge_equilibration or fragment is not None):
            method = "phase"  # which is exact here, and needs no edges
        leaf: Tensor | None = None
        if method == "phase":
            graphs, leaf = with_common_positions(graphs)
        exactly = recorded_edges(self, graphs) if method == "exact" else contextlib.nullcontext()
        with self._on(graphs), exactly as edges:
            prediction = super().forward(
                graphs,
                task=task,
                return_site_energies=return_site_energies,
                return_atom_feas=return_atom_feas,
                return_crystal_feas=return_crystal_feas,
            )
            self._add_results(prediction)
            if method:
                self._add_born_effective_charges(prediction, method, leaf, edges)
        return prediction

    @contextlib.contextmanager
    def _on(self, graphs: Sequence[CrystalGraph]) -> Iterator[None]:
        """Keep what upstream does not pass on to where the charges are read."""
        self._graphs = graphs
        try:
            yield
        finally:
            self._graphs, self._batch, self._long_range = (), None, {}

    def _compute(self, g: BatchedGraph, **options: Any) -> dict[str, Any]:
        self._batch = batch = batch_of(self._graphs, g, self.graph_converter.uses_total_charge)
        _, cell, _, pbc = batch.structures
        assert pbc is not None
        volumes = torch.stack([torch.dot(a, torch.linalg.cross(b, c)) for a, b, c in cell.detach()])
        # Upstream divides by it: an open structure has no volume, and so no stress.
        g.volumes = torch.where(pbc.any(dim=1), volumes.abs(), math.inf)
        return super()._compute(g, **options)

    def _add_charge_state(self, module: nn.Module, inputs: Any, features: Tensor) -> Tensor:
        """Hook of the embedding of elements: add that of the charge states of structures."""
        if self.charge_states is None or self._batch is None:
            return features
        require_states(self._graphs, self.graph_converter.embedded)
        spin = spins(self._graphs).to(features.device)
        structures, sums = self._batch
        state: Tensor = self.charge_states(structures.batch, sums.total_charge, spin)
        return features + state

    def _add_long_range(self, mlp: nn.Module, inputs: tuple[Tensor], energies: Tensor) -> Tensor:
        """Hook of the energy readout: add the long-range energies of atoms to its output."""
        if self._batch is None:
            return energies
        structures, sums = self._batch
        self._long_range = self.les(
            desc=inputs[0],
            atomic_numbers=torch.cat([graph.atomic_number for graph in self._graphs]).long(),
            compute_atom_energies=True,
            compute_dipole=True,
            **structures._asdict(),
            **sums._asdict(),
        )
        energy, shares = self._long_range["E_lr"], self._long_range["E_lr_atoms"]
        assert energy is not None and shares is not None
        return energies + summable(shares, energy, structures.batch).unsqueeze(-1)

    def _add_results(self, prediction: dict[str, Any]) -> None:
        sizes = prediction["atoms_per_graph"].tolist()
        prediction["les_energy"] = self._long_range["E_lr"]
        prediction["charges"] = torch.split(self._of_atoms("charges"), sizes)
        prediction["dipole"] = self._long_range["dipole"]
        parameters = self._long_range["equilibration_parameters"]
        if parameters is not None:
            prediction["equilibration_parameters"] = torch.split(parameters, sizes)

    def _add_born_effective_charges(
        self,
        prediction: dict[str, Any],
        method: str,
        leaf: Tensor | None,
        edges: Callable[[], Edges] | None,
    ) -> None:
        """Add them, from the common ``leaf`` of positions or the ``edges`` of the evaluation."""
        assert self._batch is not None
        structures, sums = self._batch
        structures = structures._replace(cell=structures.cell.detach())
        if leaf is not None:
            structures = structures._replace(positions=leaf)
        settings = BornSettings(self.les.remove_mean, self.les.epsilon_factor, self.training)
        found = None if edges is None else edges()
        charges = self._of_atoms("raw_charges")
        bec = born_charges_of_model(charges, structures, sums, settings, method, found)
        prediction["bec"] = torch.split(bec, prediction["atoms_per_graph"].tolist())

    def _of_atoms(self, name: str) -> Tensor:
        """One number of each atom ``[n_atoms]``, from what ``les`` returned."""
        values = self._long_range[name]
        assert values is not None
        return values.squeeze(-1)


def _follow_settings(model: CHGNetLES, *_: object) -> None:
    """Let graphs have the charge states that the model uses, also of loaded settings."""
    config = model.les.config()
    model.graph_converter.uses_total_charge = config.uses_total_charge
    model.graph_converter.embedded = config.embedded
