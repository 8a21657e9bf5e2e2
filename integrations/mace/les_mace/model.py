"""MACELES: a MACE model whose energy includes that of latent charges.

All coupling to the inner workings of mace-torch is in this module and ``checkpoint``.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import mace  # noqa: F401  (before e3nn: it makes e3nn 0.4 importable on current torch)
import torch
from e3nn.util.jit import compile_mode
from mace.modules.models import ScaleShiftMACE
from torch import Tensor

from les import Les, LESConfig
from les.charge_states import ChargeStateEmbedding
from les.latent_moments import reported_moments
from les_mace import lammps
from les_mace.born import born_charges, short_range_on_edges
from les_mace.configuration import born_options, check_request, configuration
from les_mace.derivatives import Asked, derivatives, strained
from les_mace.in_field import field_on_charges, pull_of_field
from les_mace.joint_embedding import JointEmbedding, embedding_specs
from les_mace.moments import moment_readout
from les_mace.reading import ChargeReader
from les_mace.readouts import charge_readouts, layer_widths


@compile_mode("script")
class MACELES(ChargeReader):
    """``ScaleShiftMACE`` plus the energy of latent charges read from its node features.

    The charge of an atom is the sum over layers of the charge readouts. With
    ``charge_equilibration`` there are twice as many: the first ones give electronegativities, the
    others hardnesses. mace-torch looks for this name of the class, and for the attributes ``les``
    and ``les_readouts``.

    Args:
        les_arguments: a ``LESConfig``, or a dictionary as for ``les.Les``, which may also
            hold ``compute_bec`` and ``bec_output_index``.
        kwargs: as for ``ScaleShiftMACE``.
    """

    def __init__(
        self, les_arguments: LESConfig | Mapping[str, Any] | None = None, **kwargs: Any
    ) -> None:
        specs = embedding_specs(configuration(les_arguments))
        if specs and kwargs.get("embedding_specs") == specs:  # of a model that is built again
            kwargs = {**kwargs, "embedding_specs": None}
        super().__init__(**kwargs)
        self._add_charges(les_arguments)

    def _add_charges(self, les_arguments: LESConfig | Mapping[str, Any] | None) -> None:
        self.compute_bec, self.bec_output_index = born_options(les_arguments)
        self.bec_method = "exact"
        self.les = Les(configuration(les_arguments), host_embeds=True)
        config = self.les.config()
        sources = [*self.readouts] * (2 if config.charge_equilibration else 1)
        self.les_readouts = charge_readouts(sources, config.initial_charge_scale)
        self.layer_widths = layer_widths(self.products)
        moments = moment_readout(self, config)
        if moments is not None:
            self.les_readouts.append(moments)  # which upstream trains
        n_features = self.node_embedding.linear.irreps_out.dim
        charge_states = ChargeStateEmbedding.of(config, n_features)
        if charge_states is not None:
            if hasattr(self, "joint_embedding"):
                raise ValueError(
                    f"`embed_{config.embedded[0]}` takes the place of upstream's "
                    "`embedding_specs`, which this model has already"
                )
            self.embedding_specs = embedding_specs(config)
            self.joint_embedding = JointEmbedding(charge_states)

    @classmethod
    def from_short_range(
        cls,
        model: ScaleShiftMACE,
        les_arguments: LESConfig | Mapping[str, Any] | None = None,
    ) -> MACELES:
        """A trained short-range model with charges added, which start small and random.

        Raises:
            TypeError: if ``model`` is not a ``ScaleShiftMACE``, or has charges already.
        """
        if type(model) is not ScaleShiftMACE:
            raise TypeError(
                f"`model` must be a short-range ScaleShiftMACE, got {type(model).__name__}"
            )
        longer = copy.deepcopy(model)
        longer.__class__ = cls
        dtype = next(model.parameters()).dtype
        device = next(model.parameters()).device
        longer._add_charges(les_arguments)
        longer.les_readouts.to(dtype=dtype, device=device)
        longer.les.to(device=device)
        if longer.les.config().embedded:
            longer.joint_embedding.to(dtype=dtype, device=device)
        return longer

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Unpickle, also what upstream's own class of this name wrote."""
        options = {"compute_bec": False, "bec_output_index": None, "bec_method": "exact"}
        state = {**options, **state}
        if "layer_widths" not in state:
            state["layer_widths"] = layer_widths(state["_modules"]["products"])
        super().__setstate__(state)
        # Upstream's converter for LAMMPS begins by reading the model.
        lammps.guard_converters(MACELES)

    def forward(
        self,
        data: dict[str, Tensor],
        training: bool = False,
        compute_force: bool = True,
        compute_virials: bool = False,
        compute_stress: bool = False,
        compute_displacement: bool = False,
        compute_hessian: bool = False,
        compute_edge_forces: bool = False,
        compute_atomic_stresses: bool = False,
        lammps_mliap: bool = False,
        compute_bec: bool = False,
    ) -> dict[str, Tensor | None]:
        """As ``ScaleShiftMACE.forward``, for the energy with the long-range part.

        Returns:
            What upstream returns, with ``energy``, ``interaction_energy``, ``node_energy``,
            ``forces``, ``virials``, ``stress`` and ``hessian`` including the long-range
            part, and besides: ``les_energy`` ``[n_graphs]`` [eV], ``latent_charges``
            ``[n_atoms]``, ``charges``, latent charges times the square root of
            ``epsilon_factor`` [e], ``dipole`` ``[n_graphs, 3]`` [e A], and with
            ``compute_bec`` also ``BEC`` ``[n_atoms, 3, 3]`` [e]. With ``neutrality`` ``"shift"``
            charges sum to ``total_charge`` ``[n_graphs]`` in ``data``, and those of fragments,
            ``fragment`` ``[n_atoms]`` there, to ``fragment_charge`` ``[n_atoms]``. With
            ``charge_equilibration``, ``equilibration_parameters`` ``[n_atoms, 2]`` are
            electronegativities and hardnesses. Models with moments of atoms have what
            ``les.latent_moments.reported_moments`` names. With ``external_field`` energies and
            forces are those in the field ``external_field`` ``[n_graphs, 3]`` [V/A] in ``data``;
            energies and stresses of periodic structures are without the part of their charges,
            which is not unique (``les.in_field``).

        Raises:
            ValueError: for hessians of periodic structures in a field, for LAMMPS, edge forces and
                atomic stresses, to which the long-range energy does not belong, and as ``les.Les``.
        """
        check_request("pbc" in data, lammps_mliap, compute_edge_forces or compute_atomic_stresses)
        self.require_embedded(data)
        positions, cell = data["positions"], data["cell"].view(-1, 3, 3)
        need_strain = compute_virials or compute_stress or compute_displacement
        compute_bec = compute_bec or self.compute_bec
        field = self.external_field(data)
        if torch.jit.is_scripting():
            if compute_bec:
                raise ValueError(
                    "Born effective charges are not available from a model compiled by "
                    "TorchScript; use the model it was made of"
                )
            out = self.short_range(
                data, training=training, compute_force=False, compute_displacement=need_strain
            )
        else:
            felt = field_on_charges(self, data, field, compute_hessian)
            # The forces of the field follow from exact Born effective charges.
            methods = [self.bec_method] * compute_bec + ["exact"] * (felt is not None)
            out, edges = short_range_on_edges(self, data, training, need_strain, methods)
        displacement, node_feats = out["displacement"], out["node_feats"]
        energy, interaction_energy = out["energy"], out["interaction_energy"]
        node_energy = out["node_energy"]
        assert energy is not None and interaction_energy is not None and node_energy is not None
        dipoles: Tensor | None = None
        quadrupoles: Tensor | None = None
        kappas: Tensor | None = None
        alphas: Tensor | None = None
        if not torch.jit.is_scripting():
            dipoles, quadrupoles, kappas, alphas = self._read_moments(node_feats)
        sums = self.charge_sums(data)
        les_out = self.les(
            data["positions"],  # which upstream has strained
            strained(cell, displacement if need_strain else None),
            e_ext=field,
            latent_charges=self.raw_charges(node_feats, data),
            latent_dipoles=dipoles,
            latent_quads=quadrupoles,
            latent_kappas=kappas,
            latent_alphas=alphas,
            atomic_numbers=self.atomic_numbers[torch.argmax(data["node_attrs"], dim=1)],
            batch=data["batch"],
            pbc=data["pbc"].view(-1, 3),
            compute_atom_energies=True,
            compute_dipole=True,
            total_charge=sums.total_charge,
            fragment=sums.fragment,
            fragment_charge=sums.fragment_charge,
        )
        les_energy, atom_energies = les_out["E_lr"], les_out["E_lr_atoms"]
        assert les_energy is not None and atom_energies is not None
        bec: Tensor | None = None
        if not torch.jit.is_scripting():
            if compute_bec:
                bec = born_charges(self, les_out, data, training, edges)
            if felt is not None:
                les_energy = les_energy + pull_of_field(self, les_out, data, training, edges, felt)
        interaction_energy = interaction_energy + les_energy
        asked = Asked(compute_force, compute_virials, compute_stress, compute_hessian, training)
        found = derivatives(interaction_energy, positions, cell, displacement, asked)
        results: dict[str, Tensor | None] = {
            "energy": energy + les_energy,
            "node_energy": node_energy + atom_energies,
            "interaction_energy": interaction_energy,
            "les_energy": les_energy,
            "forces": found.forces,
            "edge_forces": None,
            "virials": found.virials,
            "stress": found.stress,
            "atomic_virials": None,
            "atomic_stresses": None,
            "hessian": found.hessian,
            "displacement": displacement,
            "node_feats": node_feats,
            "latent_charges": les_out["latent_charges"],
            "charges": les_out["charges"],
            "dipole": les_out["dipole"],
            "BEC": bec,
            "equilibration_parameters": les_out["equilibration_parameters"],
        }
        if not torch.jit.is_scripting() and self.les.multipoles:
            results.update(reported_moments(les_out, self.les.epsilon_factor))
        return results
