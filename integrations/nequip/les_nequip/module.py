"""LES: latent charges and their energy, as a module for the slot ``pair_potential``."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

import torch
from nequip.data import AtomicDataDict
from nequip.nn import GraphModuleMixin, model_modifier
from nequip.nn.utils import scatter
from torch import Tensor

from les import ChargeReadout, Ewald
from les.atom_energies import summable
from les.charge_states import ChargeStateEmbedding
from les.element_baselines import ElementBaselines
from les.fragments import told_fragments
from les.latent_moments import long_range_of_moments, reported_moments
from les.long_range import (
    CaptureLimits,
    LongRange,
    captured_long_range,
    long_range,
    summed_cells,
)
from les.moment_readout import IN_GRAPHS, MomentReadout, ReadMoments
from les.structures import NO_SUMS, ChargeSums, Structures
from les_nequip.born import bec_obstacle, born_effective_charges_of
from les_nequip.boundary import periodic_axes, refuse, refuse_in_graph
from les_nequip.charge_states import Conditioned, n_features
from les_nequip.edges import EdgeRecord
from les_nequip.keys import (
    BEC_METHOD,
    EQUILIBRATION_KEY,
    FRAGMENT_CHARGE_KEY,
    FRAGMENT_KEY,
    LES_DIPOLE_KEY,
    LES_ENERGY_KEY,
    METADATA_KEY,
    READ_KEY,
    TOTAL_CHARGE_KEY,
)
from les_nequip.moments import read_moments
from les_nequip.reach import Reach
from les_nequip.settings import core_config
from les_nequip.upstream import (
    is_exporting,
    is_tracing,
    prepare_for_les,
    refuse_mliap_file,
    refuse_partial_input,
)

logger = logging.getLogger("les")

#: Typical number of neighbours, to scale the sum of Allegro's edge features.
NEIGHBOURS: Final[float] = 20.0


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
    ``spin`` ``[n_structures, 1]``, a multiplicity, in the data.

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
        self.feature_key, n_scalars = _scalar_features(irreps_in)
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
        if self.config.reads_moments and is_exporting():
            raise ValueError(IN_GRAPHS)
        if self.charge_states is not None and is_exporting():
            raise ValueError(
                f"a model that embeds the {self.config.embedded[0].replace('_', ' ')} of a "
                "structure cannot be compiled by nequip-compile: its programs do not pass it; use "
                "the model as it was trained"
            )
        obstacle = bec_obstacle(self)
        if obstacle is not None and is_exporting():
            logger.warning("the compiled model has no Born effective charges: %s", obstacle)
        method = {BEC_METHOD: None if obstacle else self.bec_method}
        settings = {**self.reach.to_dict(), **self.config.to_dict(), **method}
        return {METADATA_KEY: json.dumps(settings)}

    def forward(self, data: AtomicDataDict.Type) -> AtomicDataDict.Type:
        """Add charges and their energy to ``data``.

        Raises:
            ValueError: for input without positions or, where the model is exported, without a
                cell; for structures that contradict ``boundary``; as ``les.Ewald``; for Born
                effective charges of a model without forces, or exact ones of a model of which it is
                not known where it takes features from other atoms.
        """
        refuse_partial_input(data)
        positions = data[AtomicDataDict.POSITIONS_KEY]
        n_structures = AtomicDataDict.num_frames(data)
        batch = data.get(AtomicDataDict.BATCH_KEY)
        cell = data.get(AtomicDataDict.CELL_KEY)
        if cell is None:
            cell = positions.new_zeros([n_structures, 3, 3])
        cell = cell.view(-1, 3, 3).to(positions.dtype)
        structure = torch.zeros_like(positions[:, 0], dtype=torch.long) if batch is None else batch
        types = data[AtomicDataDict.ATOM_TYPE_KEY].view(-1)
        scalars = self._atom_features(data)
        charges = self.readout(scalars, types).squeeze(-1).to(positions.dtype)
        if self.config.use_fixed_atomic_charges:
            assert self.elements is not None
            charges = self.elements.with_charges(charges, types)
        if READ_KEY in data:
            data[AtomicDataDict.CHARGE_KEY] = charges.unsqueeze(-1)
            return data
        sums = self._sums(data)
        moments: ReadMoments | None = None
        if self.config.reads_moments:
            if is_tracing() or is_exporting():
                raise ValueError(IN_GRAPHS)
            moments = read_moments(self, scalars, data).in_precision(positions.dtype)
            if self.config.use_atomic_alpha:
                assert self.elements is not None
                moments = moments._replace(alphas=self.elements.with_alphas(moments.alphas, types))

        setting = self.reach.setting
        if is_tracing():
            boundary = self.reach.boundary()
            extent = self.reach.extent(self.ewald.dl) if boundary != "open" else []
            slabs = self.reach.slabs(AtomicDataDict.PBC_KEY in data)
            pbc = periodic_axes(data, cell, setting, boundary, refuse_in_graph, slabs=slabs)
            structures = Structures(positions, cell, structure, pbc)
            limits = CaptureLimits(boundary, extent, slabs, single=batch is None)
            found = captured_long_range(
                self.ewald, self.config, charges, structures, limits, sums.total_charge
            )
        else:
            # nequip-compile compares its graph with this, on input that may lack `pbc`.
            boundary = self.reach.boundary() if is_exporting() else setting
            slabs = not is_exporting() or self.reach.slabs(AtomicDataDict.PBC_KEY in data)
            pbc = periodic_axes(data, cell, setting, boundary, refuse, slabs=slabs)
            structures = Structures(positions, cell, structure, pbc)
            self.reach.see(summed_cells(self.ewald, structures), pbc)
            found = self._long_range(charges, structures, sums, moments)
            shares = summable(found.atom_energies, found.energy, structure)
            found = found._replace(atom_energies=shares)

        energies = data[AtomicDataDict.PER_ATOM_ENERGY_KEY]
        shares = found.atom_energies.unsqueeze(-1)
        data[AtomicDataDict.PER_ATOM_ENERGY_KEY] = energies + shares.to(energies.dtype)
        data[LES_ENERGY_KEY] = found.energy.unsqueeze(-1)
        data[AtomicDataDict.CHARGE_KEY] = found.charges.unsqueeze(-1)
        if found.dipole is not None:
            data[LES_DIPOLE_KEY] = found.dipole
        # A compiled graph drops what its target does not ask for.
        exporting = is_exporting() and positions.requires_grad and bec_obstacle(self) is None
        if self.config.charge_equilibration:
            charges = found.latent_charges
            data[EQUILIBRATION_KEY] = found.parameters
        if found.moments is not None:
            reported = reported_moments(found.moments, self.config.epsilon_factor)
            data.update({name: x for name, x in reported.items() if x is not None})
        if self.compute_bec or exporting:
            data[AtomicDataDict.BORN_CHARGE_KEY] = born_effective_charges_of(
                self, data, charges, structures, sums, found.moments
            )
        return data

    def _sums(self, data: AtomicDataDict.Type) -> ChargeSums:
        """What charges sum to, as far as the model uses it and it is told."""
        if not self.config.uses_total_charge:
            return NO_SUMS
        keys = (TOTAL_CHARGE_KEY, FRAGMENT_KEY, FRAGMENT_CHARGE_KEY)
        total, *parts = (data[key].view(-1) if key in data else None for key in keys)
        return ChargeSums(total, *(parts if is_tracing() else told_fragments(*parts)))

    def _long_range(
        self,
        charges: Tensor,
        structures: Structures,
        sums: ChargeSums,
        moments: ReadMoments | None = None,
    ) -> LongRange:
        """The long-range part, where no graph is captured."""
        batch = structures.batch
        if not bool((batch[1:] < batch[:-1]).any()):
            core, dipole = (self.ewald, self.config, charges), self.compute_dipole
            if moments is None:
                return long_range(*core, structures, sums, compute_dipole=dipole)
            return long_range_of_moments(*core, moments, structures, sums, compute_dipole=dipole)
        # Upstream allows any order of atoms.
        order = torch.argsort(batch, stable=True)
        if moments is not None:
            moments = moments.in_order(order)
        found = self._long_range(
            charges[order], structures.in_order(order), sums.in_order(order), moments
        )
        return found.in_order(torch.argsort(order))

    def _atom_features(self, data: AtomicDataDict.Type) -> Tensor:
        """Scalar features of each atom ``[n_atoms, n_features]``."""
        features = data[self.feature_key]
        if self.feature_key == AtomicDataDict.NODE_FEATURES_KEY:
            return features
        # Summed before the readout: edge features vanish at the cutoff, biases do not.
        centres = data[AtomicDataDict.EDGE_INDEX_KEY][0]
        n_atoms = data[AtomicDataDict.POSITIONS_KEY].shape[0]
        return scatter(features, centres, dim=0, dim_size=n_atoms) / math.sqrt(NEIGHBOURS)

    @model_modifier(persistent=True, private=False)
    @classmethod
    def set_les_max_cell(cls, model: torch.nn.Module, max_cell: float | Sequence[float]) -> Any:
        """Set ``max_cell``, the longest lattice vectors of a compiled model [A]."""
        modules: Iterable[Any] = model.modules()
        for module in modules:
            if getattr(module, "is_les", False):
                module.reach.set_max_cell(max_cell)
        return model


def _scalar_features(irreps_in: dict[str, Any]) -> tuple[str, int]:
    """Key and number of the scalar features to read charges from."""
    for key in (AtomicDataDict.NODE_FEATURES_KEY, AtomicDataDict.EDGE_FEATURES_KEY):
        irreps = irreps_in.get(key)
        if irreps is not None:
            if any(irrep != (0, 1) for _, irrep in irreps):
                raise ValueError(f"LES reads charges from scalars, `{key}` here are {irreps}")
            return key, irreps.dim
    raise ValueError(
        "LES needs a model with node features (NequIP) or edge features (Allegro) before its "
        f"`pair_potential`, this one has only {sorted(irreps_in)}"
    )


prepare_for_les()
