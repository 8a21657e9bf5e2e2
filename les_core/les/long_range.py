"""The long-range part of a model: energies of latent charges, and what follows from these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from les.atom_energies import atom_energies
from les.config import LESConfig
from les.conjugate_gradients import Convergence
from les.equilibration import equilibrate
from les.ewald import Ewald
from les.fragments import charges_of_fragments, fragments_of
from les.in_field import refuse_charges_that_flow, shares_in_field
from les.induced import field_at_atoms
from les.neutrality import charges_with_sums, check_total_charge, shifted_charges
from les.response.dipoles import dipole_evaluation
from les.structures import NO_SUMS, ChargeSums, Structures
from les.sums.checks import check_tensors
from les.sums.plain import Bounds, traceable_potential
from les.sums.reciprocal.lattice import exactly
from les.sums.reciprocal.slab import slab_cells


class LongRange(NamedTuple):
    """The long-range part of a batch of structures.

    Attributes:
        energy: ``[n_structures]`` [eV].
        atom_energies: shares of it ``[n_atoms]`` [eV], which sum to it.
        latent_charges: those that the energy is of, in the shape of the charges that were read.
        charges: latent charges times the square root of ``epsilon_factor`` [e].
        dipole: ``[n_structures, 3]`` [e A]; ``None`` where it was not asked for, with
            several charges on each atom, and of captured graphs.
        parameters: electronegativities and hardnesses ``[n_atoms, 2]`` [eV/e, eV/e^2] of charges
            that were equilibrated, else ``None``.
        moments: of a model that has any, ``raw_charges``, before they were shifted and with induced
            ones, and ``latent_dipoles``, ``latent_quads``, ``latent_alphas`` and ``latent_kappas``
            as ``les.Les`` returns them.
    """

    energy: Tensor
    atom_energies: Tensor
    latent_charges: Tensor
    charges: Tensor
    dipole: Tensor | None
    parameters: Tensor | None = None
    moments: Mapping[str, Tensor | None] | None = None

    def in_order(self, order: Tensor) -> LongRange:
        """The same with atoms in the order of the indices ``order`` ``[n_atoms]``."""
        parameters, moments = self.parameters, self.moments
        return self._replace(
            atom_energies=self.atom_energies[order],
            latent_charges=self.latent_charges[order],
            charges=self.charges[order],
            parameters=None if parameters is None else parameters[order],
            moments=moments
            and {name: None if x is None else x[order] for name, x in moments.items()},
        )


def long_range(
    ewald: Ewald,
    config: LESConfig,
    charges: Tensor,
    structures: Structures,
    sums: ChargeSums = NO_SUMS,
    external: Tensor | None = None,
    *,
    compute_dipole: bool = True,
) -> LongRange:
    """The long-range part of a model that reads latent charges itself.

    Args:
        ewald: the sum.
        config: ``neutrality``, and ``remove_mean`` and ``epsilon_factor`` of what follows from the
            charges.
        charges: as they are read ``[n_atoms]`` or ``[n_atoms, n_channels]`` [e]; with
            ``charge_equilibration`` electronegativities and hardnesses ``[n_atoms, 2]``.
        structures: where the atoms are.
        sums: what charges sum to, as for ``les.Les``.
        external: field that the structures are in ``[n_structures, 3]`` [V/A], of a configuration
            with ``external_field``; see ``les.in_field`` for periodic ones.
        compute_dipole: compute dipoles, where there is one charge on each atom.

    Raises:
        ValueError, TypeError: as ``les.Ewald``, and as ``les.Les`` for ``sums``.
        RuntimeError: where charge equilibration does not converge.
    """
    positions, cell, batch, pbc = structures
    parameters = None
    if config.charge_equilibration:
        parameters = charges
        charges, shares, energy = equilibrated(ewald, config, charges, structures, sums, external)
    else:
        charges = charges_with_sums(
            config.neutrality, charges, sums, batch, len(cell), config.epsilon_factor
        )
        energy, potential = ewald(charges, positions, cell, batch, pbc, True)
        assert potential is not None
        shares = atom_energies(charges, potential)
        if external is not None:
            energy, shares = in_external_field(
                energy, shares, charges, external, structures, config.epsilon_factor
            )
    dipole = None
    if compute_dipole and (charges.dim() == 1 or charges.shape[1] == 1):
        dipole = dipole_evaluation(
            charges.reshape(-1),
            positions,
            batch,
            len(cell),
            config.moments_without_mean,
            config.epsilon_factor,
        )
    physical = scaled(charges, config.epsilon_factor)
    return LongRange(energy, shares, charges, physical, dipole, parameters)


def in_external_field(
    energy: Tensor,
    shares: Tensor,
    charges: Tensor,
    external: Tensor,
    structures: Structures,
    epsilon_factor: float,
) -> tuple[Tensor, Tensor]:
    """Energies and shares of charges ``[n_atoms]``, or ``[n_atoms, 1]``, in an ``external`` field.

    Other arguments are as for :func:`long_range`.
    """
    positions, cell, batch, _ = structures
    field = epsilon_factor**0.5 * field_at_atoms(external, positions, batch, len(cell))
    added = shares_in_field(field, charges.reshape(-1), None, structures)
    return energy.index_add(0, batch, added), shares + added


def equilibrated(
    ewald: Ewald,
    config: LESConfig,
    parameters: Tensor,
    structures: Structures,
    sums: ChargeSums,
    external: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Equilibrated latent charges, energies of atoms, and energies of structures.

    ``parameters`` are electronegativities and hardnesses ``[n_atoms, 2]``; other arguments as for
    :func:`long_range`. A field takes its product with the position of an atom off the
    electronegativity, and is refused for periodic structures.
    """
    if parameters.dim() != 2 or parameters.shape[1] != 2:
        raise ValueError(
            "`latent_charges` must be electronegativities and hardnesses, of shape [n_atoms, 2], "
            f"with `charge_equilibration`, got {list(parameters.shape)}"
        )
    electronegativity, hardness = parameters.unbind(1)
    n_structures, scale = len(structures.cell), config.epsilon_factor**0.5
    if external is not None:
        positions, cell, batch, pbc = structures
        at_atoms = field_at_atoms(external, positions, batch, len(cell))
        refuse_charges_that_flow(external.detach().view(-1, 3), cell, pbc)
        electronegativity = electronegativity - scale * (positions * at_atoms).sum(dim=1)
    total_charge, fragment, fragment_charge = sums
    check_total_charge(total_charge, electronegativity, n_structures, values=False)
    if scale != 1.0:  # messages are of the charges as they are given
        fragments = fragments_of(fragment, structures.batch, n_structures)
        charges_of_fragments(
            fragments, fragment_charge, total_charge, structures.batch, n_structures
        )
    if total_charge is not None:
        total_charge = exactly(total_charge) / scale
    if fragment_charge is not None:
        check_tensors(fragment_charge=fragment_charge)
        fragment_charge = exactly(fragment_charge) / scale
    found = equilibrate(
        electronegativity,
        hardness,
        structures,
        ewald.settings(),
        ChargeSums(total_charge, fragment, fragment_charge),
        Convergence(config.equilibration_tolerance, config.equilibration_iterations),
    )
    shares, owner = found.atom_energies, structures.batch
    energy = exactly(shares).new_zeros(n_structures).index_add(0, owner, exactly(shares))
    return found.charges, shares, energy.to(shares.dtype)


class CaptureLimits(NamedTuple):
    """Which structures a captured graph is for.

    Attributes:
        boundary: as for ``les.sums.plain.traceable_potential``, where slabs are periodic.
        extent: largest k-points along the vectors of :func:`summed_cells`, as there.
        slabs: whether structures may have two periodic axes.
        single: whether there is one structure at a time.
    """

    boundary: str
    extent: Sequence[int]
    slabs: bool
    single: bool = False


def captured_long_range(
    ewald: Ewald,
    config: LESConfig,
    charges: Tensor,
    structures: Structures,
    limits: CaptureLimits,
    total_charge: Tensor | None = None,
) -> LongRange:
    """As :func:`long_range`, without dipoles, in a graph that is captured or compiled.

    Args:
        ewald, config, charges: as for :func:`long_range`.
        structures: where the atoms are, with ``pbc`` told.
        limits: which structures the graph is for.
        total_charge: ``[n_structures]`` [e], of a configuration that uses it.

    Raises:
        ValueError, RuntimeError: as ``les.sums.plain.traceable_potential``; for
            ``charge_equilibration``, which takes as many steps as it needs.
    """
    if config.charge_equilibration:
        raise ValueError(not_in_graphs())
    positions, cell, batch, pbc = structures
    assert pbc is not None
    boundary, extent, slabs, single = limits
    periodic, half_height, places = pbc.all(dim=1), None, positions
    if slabs and boundary != "open":
        periodic = pbc.any(dim=1)
        cell, half_height, places = slab_cells(cell, pbc, positions, batch, ewald.sigma)
    if config.uses_total_charge:
        charges = shifted_charges(
            charges, total_charge, batch, cell.shape[0], config.epsilon_factor
        )
    bounds = Bounds(boundary, list(extent), periodic, half_height)
    owner = None if single else batch
    potential = traceable_potential(ewald.settings(), charges, places, cell, owner, bounds)
    shares = atom_energies(charges, potential)
    energy = shares.new_zeros(cell.shape[0]).index_add(0, batch, shares)
    return LongRange(energy, shares, charges, scaled(charges, config.epsilon_factor), None)


def summed_cells(ewald: Ewald, structures: Structures) -> Tensor:
    """The cells ``[n_structures, 3, 3]`` [A] that ``ewald`` sums in: slabs have other ones."""
    positions, cell, batch, pbc = structures
    if pbc is None or not bool((pbc.sum(dim=1) == 2).any()):
        return cell.detach()
    return slab_cells(cell.detach(), pbc, positions.detach(), batch, ewald.sigma)[0]


def scaled(charges: Tensor, epsilon_factor: float) -> Tensor:
    """Latent ``charges`` [e] times the square root of the dielectric constant."""
    return charges if epsilon_factor == 1.0 else epsilon_factor**0.5 * charges


def not_in_graphs() -> str:
    """The message where a model with charge equilibration is scripted, compiled or exported."""
    return (
        "a model with `charge_equilibration` can be neither compiled nor exported: how many steps "
        "equilibration takes depends on the structure"
    )
