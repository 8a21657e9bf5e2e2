"""The interatomic potential on the CACE representation, with and without latent charges."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from les import ChargeReadout, Edges, Ewald, LESConfig
from les.charge_states import ChargeStateEmbedding
from les.long_range import long_range
from les.readout import AtomReadout
from les.response.arguments import BornSettings
from les.response.born import born_charges_of_model, needs_edges
from les_cace.batches import Batch
from les_cace.derivatives import Deformable
from les_cace.representation import Representation


class CACE(nn.Module):
    r"""Energy, forces, stress and charges of a batch of structures.

    The energy is the sum of atomic energies, which are read from the features of the
    representation, and of reference energies of the elements. With LES the energy of latent
    charges is added, which are read from the same features.

    Args:
        representation: arguments of ``les_cace.Representation``, ``zs`` first of all.
        les_arguments: fields of ``les.LESConfig`` for a model with charges; ``None`` for one
            without.
        n_layers, n_hidden, add_linear_nn: readout of atomic energies, as for
            ``les.ChargeReadout``.
        atomic_energies: reference energy of each element of ``zs`` [eV]; zero by default.
        charge_representation: arguments of another representation for the charges, of the same
            elements, e.g. with a larger receptive field; ``None`` for the same representation.

    Raises:
        ValueError: for settings out of range, another number of ``atomic_energies``, and a
            ``charge_representation`` without ``les_arguments`` or of other elements.
    """

    atomic_energies: Tensor

    def __init__(
        self,
        representation: Mapping[str, Any],
        les_arguments: LESConfig | Mapping[str, Any] | None = None,
        *,
        n_layers: int = 3,
        n_hidden: int | Sequence[int] = (32, 16),
        add_linear_nn: bool = True,
        atomic_energies: Sequence[float] | None = None,
        charge_representation: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {
            "representation": dict(representation),
            "les_arguments": None,
            "n_layers": n_layers,
            "n_hidden": n_hidden if isinstance(n_hidden, int) else list(n_hidden),
            "add_linear_nn": add_linear_nn,
            "atomic_energies": None if atomic_energies is None else list(atomic_energies),
            "charge_representation": charge_representation and dict(charge_representation),
        }
        self.representation = Representation(**representation)
        n_features = self.representation.n_features
        n_hidden = n_hidden if isinstance(n_hidden, int) else tuple(n_hidden)
        self.readout = AtomReadout(
            n_features, n_layers=n_layers, n_hidden=n_hidden, add_linear_nn=add_linear_nn
        )
        zs = self.representation.zs
        energies = [0.0] * len(zs) if atomic_energies is None else list(atomic_energies)
        if len(energies) != len(zs):
            raise ValueError(
                f"`atomic_energies` must have {len(zs)} entries, as `zs`, got {len(energies)}"
            )
        # In double precision whatever the model's: they may be thousands of eV.
        self.register_buffer("atomic_energies", torch.tensor(energies, dtype=torch.float64))
        self.les_config: LESConfig | None = None
        self.charge_readout: ChargeReadout | None = None
        self.ewald: Ewald | None = None
        self.charge_representation: Representation | None = None
        if charge_representation is not None:
            if les_arguments is None:
                raise ValueError("`charge_representation` needs `les_arguments`")
            self.charge_representation = Representation(**charge_representation)
            if self.charge_representation.zs != zs:
                raise ValueError(
                    f"`charge_representation` must have `zs` = {zs}, as the representation, got "
                    f"{self.charge_representation.zs}"
                )
            n_features = self.charge_representation.n_features
        if les_arguments is not None:
            config = LESConfig.for_features(les_arguments, n_features, several_channels=True)
            self.les_config = config
            self.arguments["les_arguments"] = config.settings()
            self.charge_readout = ChargeReadout.of(config, len(zs))
            self.ewald = Ewald(**config.sum_settings())
        #: For each representation, or none.
        self.charge_states = nn.ModuleList(
            embedding
            for each in self.representations()
            if (embedding := ChargeStateEmbedding.of(self.les_config, each.n_atom_basis))
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Unpickle, also what earlier releases wrote, which embedded no charge states."""
        super().__setstate__(state)
        if "charge_states" not in self._modules:
            self.charge_states = nn.ModuleList()

    @property
    def cutoff(self) -> float:
        """Radius within which atoms see each other [A]."""
        return max(x.cutoff for x in self.representations())

    def representations(self) -> list[Representation]:
        """The representation, and that of the charges if they have their own."""
        own = self.charge_representation
        return [self.representation] if own is None else [self.representation, own]

    def charge_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters that affect only charges."""
        for part in (self.charge_readout, self.charge_representation):
            if part is not None:
                yield from part.parameters()

    def copy(self, dtype: torch.dtype, device: torch.device | str) -> CACE:
        """A copy in another precision; reference energies stay in float64."""
        other = copy.deepcopy(self).to(device, dtype)
        other.atomic_energies = self.atomic_energies.to(device)
        return other

    def set_trained_sign(self) -> None:
        """Record that the charges have the sign of the training data."""
        assert self.les_config is not None
        self.les_config = dataclasses.replace(self.les_config, sign="trained")
        self.arguments["les_arguments"] = self.les_config.settings()

    def require_physical_charges(self) -> None:
        """Raise ``ValueError`` for a model without charges, or with several on each atom."""
        if self.les_config is None:
            raise ValueError("Born effective charges need a model with charges")
        if self.les_config.n_channels > 1:
            raise ValueError(
                "Born effective charges need one charge on each atom, this model has "
                f"{self.les_config.n_channels} channels"
            )

    def short_range_energies(self, features: Tensor, element: Tensor) -> Tensor:
        """Energies of atoms without the long-range part ``[n_atoms]`` [eV].

        Args:
            features: features of the representation ``[n_atoms, n_features]``.
            element: index of the element of each atom ``[n_atoms]``, as
                ``Representation.elements`` gives it.
        """
        energies: Tensor = self.readout(features).squeeze(-1)
        return energies + self.atomic_energies[element]

    def forward(
        self,
        batch: Batch,
        *,
        compute_forces: bool = True,
        compute_stress: bool = False,
        compute_bec: bool = False,
        bec_method: str = "exact",
    ) -> dict[str, Tensor]:
        """Evaluate a batch of structures.

        Args:
            batch: the structures. With ``neutrality`` ``"shift"`` the charges sum to their total
                charges; other models do not use total charges.
            compute_forces: compute ``forces``.
            compute_stress: compute ``stress``.
            compute_bec: compute ``born_effective_charges``.
            bec_method: ``"exact"`` or ``"phase"``, see ``les.born_effective_charges``.

        Returns:
            ``energy`` ``[n_structures]`` [eV], ``energies`` ``[n_atoms]``, which sum to it,
            ``forces`` ``[n_atoms, 3]`` [eV/A], ``stress`` ``[n_structures, 3, 3]`` [eV/A^3], zero
            for open structures and cells without a volume; with charges also ``les_energy``
            ``[n_structures]`` [eV] and ``latent_charges`` ``[n_atoms, n_channels]`` [e]; with one
            channel ``charges`` ``[n_atoms]``, latent charges times the square root of
            ``epsilon_factor`` [e], ``dipole`` ``[n_structures, 3]`` [e A] and
            ``born_effective_charges`` ``[n_atoms, 3, 3]`` [e], the component of the
            polarisation first; with ``charge_equilibration`` also ``equilibration_parameters``
            ``[n_atoms, 2]``, electronegativities and hardnesses [eV/e, eV/e^2].

        Raises:
            ValueError: as ``les.Ewald``, and as ``les.charge_states.ChargeStateEmbedding`` for a
                ``total_charge`` and a ``spin`` that the model embeds; for elements that the model
                does not know; for Born effective charges of a model without charges, or with
                several channels, and for an unknown method.
        """
        given, numbers = batch.structures, batch.numbers
        config, on_edges = self.les_config, False
        if compute_bec:
            self.require_physical_charges()
            assert config is not None
            on_edges = needs_edges(config, bec_method, given, batch.sums)
        element = self.representation.elements(numbers)
        gradients = compute_forces or compute_bec
        deformable = Deformable.of(given, gradients=gradients, stress=compute_stress)
        given, structures, _ = deformable
        owner, neighbours = given.batch, batch.neighbours
        vectors = neighbours.vectors(structures.positions, structures.cell, owner, self.cutoff)
        inputs = (vectors, neighbours.sender, element)
        *others, own = self.representations()  # the last is that of the charges
        states = [
            embedding(owner, batch.total_charge, batch.spin) for embedding in self.charge_states
        ]
        state = states.pop() if states else None
        edges: Edges | None = None
        if on_edges:
            of_charges, carried = own.recorded(*inputs, state)
            edges = neighbours.edges(vectors, carried)
        else:
            of_charges = own(*inputs, state)
        of_charges = of_charges.flatten(1)
        features = others[0](*inputs, *states).flatten(1) if others else of_charges
        energies = self.short_range_energies(features, element)
        energy = energies.new_zeros(len(given.cell)).index_add(0, owner, energies)
        out: dict[str, Tensor] = {}
        if config is not None:
            assert self.charge_readout is not None and self.ewald is not None
            charges, sums = self.charge_readout(of_charges, element), batch.sums
            if not config.uses_total_charge:
                sums = sums._replace(total_charge=None)
            added = long_range(self.ewald, config, charges, structures, sums)
            energy, energies = energy + added.energy, energies + added.atom_energies
            out.update(les_energy=added.energy, latent_charges=added.latent_charges)
            if added.dipole is not None:
                out.update(charges=added.charges.squeeze(-1), dipole=added.dipole)
            if added.parameters is not None:
                charges = added.latent_charges
                out["equilibration_parameters"] = added.parameters
            if compute_bec:
                settings = BornSettings(config.remove_mean, config.epsilon_factor, self.training)
                bec = born_charges_of_model(charges, given, sums, settings, bec_method, edges)
                out["born_effective_charges"] = bec
        out.update(energy=energy, energies=energies)
        return out | deformable.derivatives(
            energy, forces=compute_forces, create_graph=self.training
        )
