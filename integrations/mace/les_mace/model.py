"""MACELES: a MACE model whose energy includes that of latent charges.

All coupling to the inner workings of mace-torch is in this module and ``checkpoint``.
"""

from __future__ import annotations

import copy
import types
from collections.abc import Mapping
from typing import Any

import mace  # noqa: F401  (before e3nn: it makes e3nn 0.4 importable on current torch)
import torch
from e3nn.util.jit import compile_mode
from mace.modules.models import ScaleShiftMACE
from mace.modules.utils import compute_forces, compute_forces_virials, compute_hessians_vmap
from torch import Tensor

from les import Les, LESConfig
from les.charge_states import ChargeStateEmbedding
from les.electronegativity import electronegativity_and_hardness
from les.fragments import told_fragments
from les.latent_moments import reported_moments
from les.moment_readout import ReadMoments
from les.structures import ChargeSums
from les_mace import lammps
from les_mace.born import born_charges, born_charges_of_moments, with_born_charges
from les_mace.configuration import born_options, check_request, configuration
from les_mace.joint_embedding import JointEmbedding, embedding_specs
from les_mace.moments import moment_readout, read_moments
from les_mace.readouts import charge_readouts, layer_widths, read


@compile_mode("script")
class MACELES(ScaleShiftMACE):
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

    #: Upstream's forward under a name of its own, because TorchScript knows no
    #: ``super().forward``, and takes a method's name from the function.
    short_range = types.FunctionType(
        ScaleShiftMACE.forward.__code__,
        ScaleShiftMACE.forward.__globals__,
        "short_range",
        ScaleShiftMACE.forward.__defaults__,
    )
    short_range.__annotations__ = ScaleShiftMACE.forward.__annotations__

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
            ``les.latent_moments.reported_moments`` names.

        Raises:
            ValueError: for LAMMPS, edge forces and atomic stresses, to which the long-range
                energy does not belong, and as ``les.Les``.
        """
        check_request("pbc" in data, lammps_mliap, compute_edge_forces or compute_atomic_stresses)
        if hasattr(self, "joint_embedding"):
            for name in self.embedding_specs.keys():  # noqa: SIM118 (for TorchScript)
                if name not in data:
                    raise ValueError("the input must have `" + name + "`, which this model embeds")
        positions, cell = data["positions"], data["cell"].view(-1, 3, 3)
        need_strain = compute_virials or compute_stress or compute_displacement
        bec: Tensor | None = None
        compute_bec = compute_bec or self.compute_bec
        if compute_bec:
            if torch.jit.is_scripting():
                raise ValueError(
                    "Born effective charges are not available from a model compiled by "
                    "TorchScript; use the model it was made of"
                )
            out, raw_charges, bec = self._with_born_charges(data, training, need_strain)
        else:
            out = self.short_range(
                data, training=training, compute_force=False, compute_displacement=need_strain
            )
            raw_charges = self.raw_charges(out["node_feats"], data)
        displacement = out["displacement"]
        strained_cell = cell
        if need_strain and displacement is not None:
            symmetric = 0.5 * (displacement + displacement.transpose(-1, -2))
            strained_cell = cell + torch.matmul(cell, symmetric)
        # Upstream has put the strained positions here; without strain they are unchanged.
        strained_positions = data["positions"]

        node_feats = out["node_feats"]
        energy, interaction_energy = out["energy"], out["interaction_energy"]
        node_energy = out["node_energy"]
        assert node_energy is not None  # for TorchScript
        assert energy is not None and interaction_energy is not None
        dipoles: Tensor | None = None
        quadrupoles: Tensor | None = None
        kappas: Tensor | None = None
        alphas: Tensor | None = None
        if not torch.jit.is_scripting():
            dipoles, quadrupoles, kappas, alphas = self._read_moments(out["node_feats"])
        sums = self.charge_sums(data)
        les_out = self.les(
            strained_positions,
            strained_cell,
            latent_charges=raw_charges,
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
        if not torch.jit.is_scripting():  # it would compile what follows
            if compute_bec and self.les.charge_equilibration:
                bec = born_charges(self, les_out["latent_charges"], data, training)
            elif compute_bec and self.les.multipoles:
                bec = born_charges_of_moments(self, bec, les_out, data, training)
        les_energy, atom_energies = les_out["E_lr"], les_out["E_lr_atoms"]
        assert les_energy is not None and atom_energies is not None
        interaction_energy = interaction_energy + les_energy

        forces: Tensor | None = None
        virials: Tensor | None = None
        stress: Tensor | None = None
        hessian: Tensor | None = None
        keep_graph = training or compute_hessian
        if (compute_virials or compute_stress) and displacement is not None:
            forces, virials, stress = compute_forces_virials(
                interaction_energy, positions, displacement, cell, keep_graph, compute_stress
            )
        elif compute_force:
            forces = compute_forces(interaction_energy, positions, keep_graph)
        if compute_hessian:
            assert forces is not None, "forces are needed for the hessian"
            # Upstream takes a view of them.
            hessian = compute_hessians_vmap(forces.contiguous(), positions)

        results: dict[str, Tensor | None] = {
            "energy": energy + les_energy,
            "node_energy": node_energy + atom_energies,
            "interaction_energy": interaction_energy,
            "les_energy": les_energy,
            "forces": forces,
            "edge_forces": None,
            "virials": virials,
            "stress": stress,
            "atomic_virials": None,
            "atomic_stresses": None,
            "hessian": hessian,
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

    @torch.jit.unused
    def _with_born_charges(
        self, data: dict[str, Tensor], training: bool, need_strain: bool
    ) -> tuple[dict[str, Tensor | None], Tensor, Tensor | None]:
        return with_born_charges(self, data, training, need_strain)

    def charge_sums(self, data: dict[str, Tensor]) -> ChargeSums:
        """The sums of the charges, if the model fixes them; 0 unless ``data`` has others."""
        if self.les.neutrality == "none":
            return ChargeSums(None, None, None)
        total_charge: Tensor | None = None
        if "total_charge" in data:
            total_charge = data["total_charge"].view(-1)
        if "fragment" not in data:
            return ChargeSums(total_charge, None, None)
        if torch.jit.is_scripting():
            if bool((data["fragment"] != -1).any()):  # which is told by nobody
                raise ValueError(
                    "`fragment` in the data is not for a model compiled by TorchScript, which "
                    "takes structures as a whole; use the model it was made of"
                )
            return ChargeSums(total_charge, None, None)
        return self._sums_of_fragments(total_charge, data)

    @torch.jit.unused
    def _sums_of_fragments(
        self, total_charge: Tensor | None, data: dict[str, Tensor]
    ) -> ChargeSums:
        told = told_fragments(data["fragment"], data.get("fragment_charge"))
        return ChargeSums(total_charge, *told)

    def raw_charges(self, node_feats: Tensor | None, data: dict[str, Tensor]) -> Tensor:
        """Charges ``[n_atoms]`` [e] as read from upstream's concatenated layer features.

        With ``charge_equilibration`` these are electronegativities and hardnesses
        ``[n_atoms, 2]`` [eV/e, eV/e^2].
        """
        assert node_feats is not None  # for TorchScript
        node_heads = torch.zeros_like(data["batch"])
        if "head" in data:
            node_heads = data["head"][data["batch"]]
        layers = torch.split(node_feats, self.layer_widths, dim=-1)
        n_readouts = len(self.readouts)
        nothing = torch.zeros_like(node_feats[:, 0])
        numbers = [nothing, nothing]
        n_charges = n_readouts * (2 if self.les.charge_equilibration else 1)
        for i, readout in enumerate(self.les_readouts):
            if i < n_charges:  # others read moments
                layer = layers[-1] if n_readouts == 1 else layers[i % n_readouts]
                if torch.jit.is_scripting():
                    values = readout(layer, node_heads)
                else:
                    values = self._read(readout, layer, node_heads)
                which = i // n_readouts
                numbers[which] = numbers[which] + _of_head(values, node_heads)
        if self.les.charge_equilibration:
            return electronegativity_and_hardness(torch.stack(numbers, dim=1))
        return numbers[0]

    @torch.jit.unused
    def _read_moments(self, node_feats: Tensor | None) -> ReadMoments:
        return read_moments(self, node_feats)

    @torch.jit.unused
    def _read(self, readout: Any, features: Tensor, heads: Tensor) -> Tensor:
        return read(readout, features, heads)


def _of_head(values: Tensor, heads: Tensor) -> Tensor:
    """Those of each atom's own head ``[n_atoms]``, of ``values`` ``[n_atoms, n_heads]``."""
    if values.shape[1] == 1:
        return values[:, 0]
    return values.gather(1, heads.unsqueeze(1)).squeeze(1)
