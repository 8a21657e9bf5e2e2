"""LES: latent charges and their energy, as a module for the slot ``pair_potential``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import torch
from nequip.data import AtomicDataDict
from nequip.nn import GraphModuleMixin, model_modifier
from torch import Tensor

from les import ChargeReadout, Ewald
from les.charge_states import ChargeStateEmbedding
from les.element_baselines import ElementBaselines
from les.long_range import captured_long_range, summed_cells
from les.moment_readout import IN_GRAPHS, MomentReadout, ReadMoments
from les.structures import NO_SUMS
from les_nequip.any_order import long_range_in_any_order
from les_nequip.born import bec_obstacle, born_effective_charges_of
from les_nequip.charge_states import Conditioned, n_features
from les_nequip.edges import EdgeRecord
from les_nequip.in_field import external_field, with_pull
from les_nequip.keys import LES_ENERGY_KEY, READ_KEY
from les_nequip.metadata import metadata_of
from les_nequip.moments import read_moments
from les_nequip.reach import Reach
from les_nequip.results import add_long_range
from les_nequip.scalars import atom_features, scalar_features
from les_nequip.settings import core_config
from les_nequip.structures import structures_of, sums_of
from les_nequip.upstream import (
    is_exporting,
    is_tracing,
    prepare_for_les,
    refuse_mliap_file,
    refuse_partial_input,
)


class LES(GraphModuleMixin, torch.nn.Module):
    r"""Adds the energy of latent charges to the atomic energies of NequIP and Allegro.

    A readout of NequIP's node features, or of Allegro's edge features summed over the
    neighbours of an atom, gives a charge :math:`q_i` per atom, and :math:`q_i\phi_i/2` is added
    to its energy. Forces and stress are upstream's derivatives of the sum.

    Adds to the data ``charges`` ``[n_atoms, 1]`` (latent charges times the square root of
    ``epsilon_factor``) [e], ``les_energy`` ``[n_structures, 1]`` [eV] and with ``compute_bec``
    ``born_effective_charges`` ``[n_atoms, 3, 3]`` [e], the component of the polarisation first;
    with ``compute_dipole`` ``les_dipole`` ``[n_structures, 3]`` [e A]. With ``neutrality``
    ``"shift"`` charges sum to ``total_charge`` ``[n_structures, 1]`` [e] in the data, 0 without it.
    Models with moments of atoms (``use_dipole``, ...) add what
    ``les.latent_moments.reported_moments`` names, and can be neither compiled nor exported.
    Models that embed them (``embed_total_charge``, ``embed_spin``) need ``total_charge`` and
    ``spin`` ``[n_structures, 1]``, a multiplicity, in the data. With ``external_field`` energies
    and forces are those in the field ``external_field`` ``[n_structures, 3]`` [V/A] there, none
    without it; energies and stresses of periodic structures are without the part of their charges,
    which is not unique (``les.in_field``). Such models can be neither compiled nor exported.

    Args:
        type_names: names of the model's atom types (upstream passes them).
        irreps_in: representations of the fields of the modules before this one (upstream passes
            them).
        boundary: ``"periodic"``, ``"open"`` or ``"mixed"``: the boundary conditions of the
            structures, which the data must not contradict; ``"auto"`` takes those of the data,
            and for compiled models those of the data seen before. Slabs, with two periodic axes,
            need ``"auto"`` or ``"mixed"``; a compiled model accepts them if it has seen some
            before, and if its program passes ``pbc``.
        max_cell: longest lattice vector, or one number per lattice vector, that a compiled
            model accepts [A]; its cost grows with their product. The default is 1.1 times the
            longest seen before. For a slab, the last number is twice its height plus 14
            ``sigma``, whichever axis is open.
        compute_bec: compute Born effective charges with every evaluation, exactly, unless the
            attribute ``bec_method`` is changed.
        compute_dipole: compute dipoles with every evaluation of a model that is not compiled.
        settings: fields of ``les.LESConfig``: ``sigma``, ``dl``, ``cutoff``, ``n_hidden``, ...
            If they are missing, ``neutrality`` is ``"none"`` and ``element_charges`` is false, as
            in earlier releases, whose model files have no such settings; ``les train`` writes
            the settings of new models.

    Raises:
        ValueError: for an unknown or impossible setting, or a model without scalar features.
    """

    #: Recognises this class also where it comes from a package with a copy of this code.
    is_les: Final[bool] = True

    reach: Reach
    #: How Born effective charges are evaluated, see ``les.born_effective_charges``.
    bec_method: str = "exact"
    #: Of the model that this is part of.
    edge_record: EdgeRecord | None = None
    #: Adds the embedding of total charge and spin to the features of models that have one.
    conditioned: Conditioned | None = None
    #: Whether dipoles are computed; models of earlier releases had none.
    compute_dipole: bool = False
    #: Whether ``READ_KEY`` in the data is heeded; copies of earlier releases do not.
    can_read_alone: Final[bool] = True

    def __init__(
        self,
        type_names: Sequence[str],
        irreps_in: dict[str, Any] | None = None,
        *,
        boundary: str = "auto",
        max_cell: float | Sequence[float] | None = None,
        compute_bec: bool = False,
        compute_dipole: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__()
        self.reach = Reach(boundary, max_cell)
        self.compute_bec, self.compute_dipole = bool(compute_bec), bool(compute_dipole)

        irreps_in = AtomicDataDict._fix_irreps_dict(irreps_in or {})
        self.feature_key, n_scalars = scalar_features(irreps_in)
        self.config = core_config(settings, n_scalars)
        self.ewald = Ewald(**self.config.sum_settings())
        self.readout = ChargeReadout.of(self.config, len(type_names))
        self.charge_states: ChargeStateEmbedding | None = None
        if self.config.embedded:
            self.charge_states = ChargeStateEmbedding.of(self.config, n_features(irreps_in))
        self.elements = ElementBaselines.of(self.config, type_names)
        # Reads moments of atoms off the features of layers; made when the model has been built.
        self.moments: MomentReadout | None = None
        self.layer_irreps: list[str] = []
        outputs = {
            AtomicDataDict.PER_ATOM_ENERGY_KEY: "0e",
            AtomicDataDict.CHARGE_KEY: "0e",
            LES_ENERGY_KEY: "0e",
        }
        if self.compute_bec:
            outputs[AtomicDataDict.BORN_CHARGE_KEY] = "1o"
        self._init_irreps(  # type: ignore[operator]  # where nequip is not installed
            irreps_in=irreps_in, required_irreps_in=[self.feature_key], irreps_out=outputs
        )

    def get_extra_state(self) -> Tensor:
        return self.reach.to_tensor()

    def set_extra_state(self, state: Tensor) -> None:
        self.reach.load_tensor(state)

    def _get_metadata_contributions(self) -> dict[str, str]:
        refuse_mliap_file()
        return metadata_of(self, exporting=is_exporting())

    def forward(self, data: AtomicDataDict.Type) -> AtomicDataDict.Type:
        """Add charges and their energy to ``data``.

        Raises:
            ValueError: for input without positions or, where the model is exported, without a
                cell; for structures that contradict ``boundary``; as ``les.Ewald``; for Born
                effective charges of a model without forces, or exact ones of a model of which it is
                not known where it takes features from other atoms.
        """
        refuse_partial_input(data)
        tracing, exporting = is_tracing(), is_exporting()
        positions = data[AtomicDataDict.POSITIONS_KEY]
        types = data[AtomicDataDict.ATOM_TYPE_KEY].view(-1)
        scalars = atom_features(data, self.feature_key)
        charges = self.readout(scalars, types).squeeze(-1).to(positions.dtype)
        if self.elements is not None:
            charges = self.elements.with_charges(charges, types)
        if READ_KEY in data:
            data[AtomicDataDict.CHARGE_KEY] = charges.unsqueeze(-1)
            return data
        sums = sums_of(data, tracing=tracing) if self.config.uses_total_charge else NO_SUMS
        field = external_field(self, data, captured=tracing or exporting)
        moments: ReadMoments | None = None
        if self.config.reads_moments:
            if tracing or exporting:
                raise ValueError(IN_GRAPHS)
            moments = read_moments(self, scalars, types, data)

        structures = structures_of(data, self.reach, tracing=tracing, exporting=exporting)
        if tracing:
            told, single = AtomicDataDict.PBC_KEY in data, AtomicDataDict.BATCH_KEY not in data
            limits = self.reach.limits(self.ewald.dl, told, single)
            core = (self.ewald, self.config, charges, structures)
            found = captured_long_range(*core, limits, sums.total_charge)
        else:
            assert structures.pbc is not None
            self.reach.see(summed_cells(self.ewald, structures), structures.pbc)
            found = long_range_in_any_order(self, charges, structures, sums, moments, field)
            found = with_pull(self, data, charges, structures, sums, field, found)

        add_long_range(data, found, self.config.epsilon_factor)
        # A compiled graph drops what its target does not ask for.
        exported = exporting and positions.requires_grad and bec_obstacle(self) is None
        if self.compute_bec or exported:
            data[AtomicDataDict.BORN_CHARGE_KEY] = born_effective_charges_of(
                self, data, charges, found, structures, sums
            )
        return data

    @model_modifier(persistent=True, private=False)
    @classmethod
    def set_les_max_cell(cls, model: torch.nn.Module, max_cell: float | Sequence[float]) -> Any:
        """Set ``max_cell``, the longest lattice vectors of a compiled model [A]."""
        modules: Iterable[Any] = model.modules()
        for module in modules:
            if getattr(module, "is_les", False):
                module.reach.set_max_cell(max_cell)
        return model


prepare_for_les()
