"""Les: latent charges, or features to read them from, to long-range energies.

The name and path of this module are fixed: host models and their pickled checkpoints
refer to ``les.les.Les``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from les.atom_energies import atom_energies
from les.element_baselines import check_atomic_numbers
from les.equilibration import refuse_periodic_response
from les.given_charges import GivenCharges
from les.latent_moments import Latent, Wanted, check_asked_for, moments_and_energies
from les.long_range import equilibrated, in_external_field, not_in_graphs, scaled
from les.neutrality import charges_with_sum, charges_with_sums
from les.response.arguments import BornSettings
from les.response.born import born_effective_charges
from les.response.dipoles import dipole_evaluation, single_channel
from les.response.phase import phase_born_effective_charges
from les.structures import ChargeSums, Structures, whole
from les.sums.checks import as_indices, check_charges, check_tensors, is_compiling


class Les(GivenCharges):
    """The long-range energy of latent charges, as a part of a host model.

    Args:
        les_arguments: a :class:`LESConfig`; or a dictionary, or the path of a YAML file,
            with the keys of published LES (see ``LESConfig.from_legacy``); ``None`` for
            ``LESConfig()``.
        host_embeds: whether the host model embeds the states that the configuration requires
            (``les.charge_states``); other hosts cannot have such a configuration.

    Raises:
        ValueError: as ``LESConfig``, and for a host that does not embed the required states.

    **``Les()`` is not ``Les({})``.** The first has the defaults of :class:`LESConfig`, a smooth
    cutoff and neutral structures. A dictionary or a file, even an empty one, has the meaning that
    it has in published LES: the cutoff is sharp unless it says ``cutoff: smooth``, and the sum of
    charges is free unless it says ``neutrality: shift``. Models that were trained that way depend
    on it. Use a :class:`LESConfig` for a new model.

    The configuration is also kept in a small buffer, and is read back when a state dict
    that has it is loaded. State dicts without it load as well.
    """

    def forward(
        self,
        positions: Tensor,
        cell: Tensor | None = None,
        e_ext: Tensor | None = None,
        desc: Tensor | None = None,
        latent_charges: Tensor | None = None,
        latent_dipoles: Tensor | None = None,
        latent_quads: Tensor | None = None,
        latent_kappas: Tensor | None = None,
        latent_alphas: Tensor | None = None,
        atomic_numbers: Tensor | None = None,
        batch: Tensor | None = None,
        compute_energy: bool = True,
        compute_field: bool = False,
        compute_bec: bool = False,
        bec_output_index: int | None = None,
        pbc: Tensor | None = None,
        compute_atom_energies: bool = False,
        compute_dipole: bool = False,
        total_charge: Tensor | None = None,
        fragment: Tensor | None = None,
        fragment_charge: Tensor | None = None,
    ) -> dict[str, Tensor | None]:
        r"""Long-range energies of a batch of structures.

        Pass all arguments after ``cell`` by keyword. The order is that of published LES, so charges
        that are given as a third argument are refused.

        Args:
            positions: ``[n_atoms, 3]`` [A].
            cell: ``[n_structures, 3, 3]`` [A]; zero for open structures if ``pbc`` is absent.
                Without it all structures are open.
            latent_charges: ``[n_atoms]`` or ``[n_atoms, n_channels]`` [e]; with
                ``charge_equilibration`` ``[n_atoms, 2]``, electronegativities [eV/e] and
                hardnesses [eV/e^2], which determine the charges.
            desc: atomic features ``[n_atoms, n_features]``, read out with ``use_atomwise``
                if no ``latent_charges`` are given.
            batch: structure of each atom ``[n_atoms]``, ascending.
            pbc: ``[n_structures, 3]``, boolean; without it the volume of the cell decides.
            atomic_numbers: whole numbers up to 118 ``[n_atoms]``, needed with ``desc`` and
                ``element_charges``, with ``use_fixed_atomic_charges`` and with
                ``use_atomic_alpha``.
            latent_dipoles: ``[n_atoms, 3]`` [e A] (``les.multipoles``).
            latent_quads: traceless quadrupoles ``[n_atoms, 3, 3]`` [e A^2]; with several channels
                dipoles and quadrupoles have a dimension for them after that of atoms.
            latent_alphas: polarisabilities ``[n_atoms]`` or ``[n_atoms, 3, 3]`` [e^2 A^2/eV] for
                induced dipoles, which follow the published formulas (``les.induced``), or
                minimise the energy with ``self_consistent`` (``les.self_consistent``).
            latent_kappas: responses ``[n_atoms]`` [e^2/eV] for induced charges.
            e_ext: external field ``[3]`` or ``[n_structures, 3]`` [V/A], which acts on induced
                dipoles, with ``self_consistent`` on all charges and dipoles; with
                ``external_field`` on these of any model (``les.in_field``).
            compute_energy: compute ``E_lr``.
            compute_bec: compute Born effective charges by the published formula, an approximation
                for large cells; ``positions`` must require gradients. Exact ones need the graph of
                the host model: see :func:`les.born_effective_charges`.
            bec_output_index: keep only this component of the polarisation in ``BEC``, 0, 1 or 2.
            compute_atom_energies: compute ``E_lr_atoms``.
            compute_dipole: compute ``dipole`` from the charges, less their mean with
                ``remove_mean``; needs ``compute_energy``.
            compute_field: return ``potential`` and ``field`` of the permanent charges and moments
                at the atoms.
            total_charge: ``[n_structures]`` [e]; with ``neutrality`` ``"shift"`` it is the sum of
                the charges of a structure, times the square root of ``epsilon_factor``. The
                default is zero, the only value that several channels allow.
            fragment: label of the fragment of each atom ``[n_atoms]``, whole numbers that differ
                between the fragments of a structure. With ``neutrality`` ``"shift"`` charges then
                sum to the total charge of each fragment.
            fragment_charge: the total charge of the fragment of each atom ``[n_atoms]`` [e]; zero
                without it.

        Returns:
            A dictionary; a value is ``None`` if it was not requested.

            - ``E_lr`` ``[n_structures]`` [eV], the long-range energy;
            - ``E_lr_atoms`` ``[n_atoms]`` [eV], the shares :math:`q_i\phi_i/2` that sum to it; with
              ``charge_equilibration`` those of ``les.equilibration``;
            - ``latent_charges`` and ``latent_dipoles`` as used, induced ones included;
            - ``raw_charges`` before they were shifted, which
              :func:`les.born_effective_charges` needs;
            - ``charges``, latent charges times the square root of ``epsilon_factor`` [e];
            - ``dipole`` ``[n_structures, 3]`` [e A];
            - ``BEC`` ``[n_atoms, 3, 3]`` [e], or ``[n_atoms, 3]`` for one component; with dipoles
              of atoms ``[n_atoms, 2, 3, 3]`` or ``[n_atoms, 2, 3]``, the part of charges first,
              and then that of dipoles;
            - ``equilibration_parameters`` ``[n_atoms, 2]``, the electronegativities and hardnesses
              that determine charges with ``charge_equilibration``;
            - ``latent_quads`` and ``latent_kappas`` as passed, and ``latent_alphas`` with those of
              elements added;
            - with ``compute_field`` ``potential`` ``[n_atoms]`` [V] and ``field``
              ``[n_atoms, 3]`` [V/A]; with several channels both have a dimension for them after
              that of atoms.

        Raises:
            ValueError, TypeError: as ``les.Ewald``; if there are neither ``latent_charges``
                nor a ``desc`` that can be read; for multipoles that the configuration asks for and
                that are not passed, quadrupoles that are not traceless, and multipoles within
                TorchScript and compiled code; for a
                ``total_charge`` that is not one finite number for each structure, or given to a
                model on which it has no effect; with ``charge_equilibration`` within TorchScript
                and compiled code, and for Born effective charges of periodic structures without
                fragments; as ``les.fragments`` for fragments, and for those of other models.
            RuntimeError: where charge equilibration or induced moments do not converge, and for a
                polarisation catastrophe.
        """
        if not torch.jit.is_scripting():
            check_tensors(positions=positions)
            check_tensors(True, cell=cell, latent_charges=latent_charges, desc=desc)
            check_tensors(True, batch=batch, pbc=pbc, atomic_numbers=atomic_numbers)
        if bec_output_index is not None and (bec_output_index < 0 or bec_output_index > 2):
            raise ValueError(f"`bec_output_index` must be 0, 1 or 2, got {bec_output_index}")
        atomic_numbers = as_indices(atomic_numbers)
        if atomic_numbers is not None:
            check_atomic_numbers(atomic_numbers, positions, values=not is_compiling())
        raw_charges = self._charges(latent_charges, desc, atomic_numbers)
        given = False
        for value in (latent_dipoles, latent_quads, latent_alphas, latent_kappas):
            given = given or value is not None
        if e_ext is not None and not self.external_field:
            given = True
        if given or self.multipoles or compute_field:
            if is_compiling() or torch.jit.is_scripting():
                raise ValueError(
                    "a model with dipoles, quadrupoles, induced moments or an external field can "
                    "be neither compiled nor exported"
                )
            return self._with_moments(
                Latent(
                    charges=raw_charges,
                    dipoles=latent_dipoles,
                    quadrupoles=latent_quads,
                    kappas=latent_kappas,
                    alphas=latent_alphas,
                    external=e_ext,
                ),
                whole(positions, cell, batch, pbc),
                ChargeSums(total_charge, fragment, fragment_charge),
                atomic_numbers,
                Wanted(
                    energy=compute_energy,
                    atom_energies=compute_atom_energies,
                    field=compute_field,
                    dipole=compute_dipole,
                    bec=compute_bec,
                    bec_component=bec_output_index,
                    training=self.training,
                ),
            )
        parameters: Tensor | None = None
        energy: Tensor | None = None
        shares: Tensor | None = None
        if self.charge_equilibration:
            if is_compiling() or torch.jit.is_scripting():
                raise ValueError(not_in_graphs())
            sums = ChargeSums(total_charge, fragment, fragment_charge)
            charges, of_atoms, of_structures = self._equilibrated(
                raw_charges, whole(positions, cell, batch, pbc), sums, compute_bec, e_ext
            )
            parameters, raw_charges = raw_charges, charges
            energy = of_structures if compute_energy else None
            shares = of_atoms if compute_energy and compute_atom_energies else None
        else:
            charges = raw_charges
            if fragment is not None or fragment_charge is not None:
                if is_compiling() or torch.jit.is_scripting():
                    raise ValueError("structures with fragments cannot be in a compiled graph")
                structures = whole(positions, cell, batch, pbc)
                sums = ChargeSums(total_charge, fragment, fragment_charge)
                charges = self._with_sums(raw_charges, structures, sums)
            elif self.neutrality != "none" or total_charge is not None:
                structures = whole(positions, cell, batch, pbc)
                charges = self._with_sum(raw_charges, structures, total_charge)
        if compute_energy and not self.charge_equilibration:
            energy, potential = self.ewald(
                charges, positions, cell, batch, pbc, compute_atom_energies
            )
            if potential is not None:
                shares = atom_energies(charges, potential)
            if e_ext is not None:
                if is_compiling() or torch.jit.is_scripting():
                    raise ValueError("structures in a field cannot be in a compiled graph")
                structures = whole(positions, cell, batch, pbc)
                energy, shares = self._in_field(energy, shares, charges, e_ext, structures)
        dipole: Tensor | None = None
        if compute_dipole:
            if energy is None:
                raise ValueError("`compute_dipole` needs `compute_energy`, got false")
            owner = as_indices(batch)
            if owner is None:
                owner = torch.zeros_like(positions[:, 0], dtype=torch.long)
            dipole = dipole_evaluation(
                single_channel(charges),
                positions,
                owner,
                energy.shape[0],
                self.remove_mean and self.neutrality == "none",
                self.epsilon_factor,
            )
        bec: Tensor | None = None
        if compute_bec and fragment is None:
            settings = BornSettings(self.remove_mean, self.epsilon_factor, self.training)
            bec = phase_born_effective_charges(
                raw_charges, positions, cell, batch, pbc, settings, total_charge
            )
        if not torch.jit.is_scripting():  # noqa: SIM102  (TorchScript would compile what follows)
            if compute_bec and fragment is not None:
                structures = whole(positions, cell, batch, pbc)
                bec = self._born_of_fragments(charges, structures, fragment)
        if bec is not None and bec_output_index is not None:
            bec = bec[:, bec_output_index]
        return {
            "E_lr": energy,
            "E_lr_atoms": shares,
            "latent_charges": charges,
            "charges": scaled(charges, self.epsilon_factor),
            "dipole": dipole,
            "raw_charges": raw_charges,
            "equilibration_parameters": parameters,
            "latent_dipoles": latent_dipoles,
            "latent_quads": latent_quads,
            "latent_alphas": latent_alphas,
            "latent_kappas": latent_kappas,
            "BEC": bec,
            "potential": None,
            "field": None,
        }

    @torch.jit.unused
    def _with_moments(
        self,
        given: Latent,
        structures: Structures,
        sums: ChargeSums,
        atomic_numbers: Tensor | None,
        wanted: Wanted,
    ) -> dict[str, Tensor | None]:
        """What ``les.latent_moments`` returns."""
        config = self.config()
        check_asked_for(config, given, atomic_numbers)
        if self.atomic_alpha is not None:
            assert given.alphas is not None and atomic_numbers is not None
            given = given._replace(alphas=self.atomic_alpha.add(given.alphas, atomic_numbers))
        if config.charge_equilibration:
            raise ValueError(
                "multipoles, induced moments and external fields are not supported with "
                "`charge_equilibration`"
            )
        return moments_and_energies(self.ewald, config, given, structures, sums, wanted)

    @torch.jit.unused
    def _equilibrated(
        self,
        parameters: Tensor,
        structures: Structures,
        sums: ChargeSums,
        compute_bec: bool,
        external: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What ``les.long_range.equilibrated`` returns."""
        if compute_bec:
            refuse_periodic_response(structures.cell, structures.pbc, sums.fragment)
        return equilibrated(self.ewald, self.config(), parameters, structures, sums, external)

    @torch.jit.unused
    def _in_field(
        self,
        energy: Tensor,
        shares: Tensor | None,
        charges: Tensor,
        external: Tensor,
        structures: Structures,
    ) -> tuple[Tensor, Tensor | None]:
        """What ``les.long_range.in_external_field`` returns."""
        given = torch.zeros_like(charges) if shares is None else shares
        found = in_external_field(
            energy, given.reshape(-1), charges, external, structures, self.epsilon_factor
        )
        return found[0], None if shares is None else found[1]

    def _with_sum(
        self, charges: Tensor, structures: Structures, total_charge: Tensor | None
    ) -> Tensor:
        """``charges`` with the sum that the configuration asks for."""
        if not is_compiling():
            check_charges("latent_charges", charges, structures.positions)
        return charges_with_sum(
            self.neutrality,
            charges,
            total_charge,
            structures.batch,
            structures.cell.shape[0],
            self.epsilon_factor,
        )

    @torch.jit.unused
    def _with_sums(self, charges: Tensor, structures: Structures, sums: ChargeSums) -> Tensor:
        """``charges`` with the sums that fragments ask for."""
        check_charges("latent_charges", charges, structures.positions)
        n_structures = structures.cell.shape[0]
        return charges_with_sums(
            self.neutrality, charges, sums, structures.batch, n_structures, self.epsilon_factor
        )

    @torch.jit.unused
    def _born_of_fragments(
        self, charges: Tensor, structures: Structures, fragment: Tensor
    ) -> Tensor:
        """Born effective charges of charges whose fragments keep their sums."""
        return born_effective_charges(
            charges,
            *structures,
            epsilon_factor=self.epsilon_factor,
            create_graph=self.training,
            fragment=fragment,
        )


class _DummyAtomwise(nn.Module):
    """Placeholder that pickles of published LES refer to; it carries nothing."""
