"""The long-range part of a model: energies of latent charges, and what follows from these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from les.config import LESConfig
from les.equilibration import equilibrate
from les.ewald import Ewald
from les.neutrality import charges_with_sum, check_total_charge, shifted_charges
from les.response.dipoles import dipole_evaluation
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
    """

    energy: Tensor
    atom_energies: Tensor
    latent_charges: Tensor
    charges: Tensor
    dipole: Tensor | None
    parameters: Tensor | None = None


def long_range(
    ewald: Ewald,
    config: LESConfig,
    charges: Tensor,
    positions: Tensor,
    cell: Tensor,
    batch: Tensor,
    pbc: Tensor,
    compute_dipole: bool = True,
    total_charge: Tensor | None = None,
    fragment: Tensor | None = None,
    fragment_charge: Tensor | None = None,
) -> LongRange:
    """The long-range part of a model that reads latent charges itself.

    Args:
        ewald: the sum.
        config: ``neutrality``, and ``remove_mean`` and ``epsilon_factor`` of what follows from the
            charges.
        charges: as they are read ``[n_atoms]`` or ``[n_atoms, n_channels]`` [e]; with
            ``charge_equilibration`` electronegativities and hardnesses ``[n_atoms, 2]``.
        positions, cell, batch, pbc: as for ``les.Ewald``.
        compute_dipole: compute dipoles, where there is one charge on each atom.
        total_charge: ``[n_structures]`` [e], as for ``les.Les``.
        fragment, fragment_charge: ``[n_atoms]``, as for ``les.Les``.

    Raises:
        ValueError, TypeError: as ``les.Ewald``, and as ``les.Les`` for a ``total_charge``.
        RuntimeError: where charge equilibration does not converge.
    """
    parameters = None
    if config.charge_equilibration:
        parameters = charges
        charges, shares, energy = equilibrated(
            ewald,
            config,
            charges,
            positions,
            cell,
            batch,
            pbc,
            total_charge,
            fragment,
            fragment_charge,
        )
    else:
        refuse_fragments(fragment, fragment_charge)
        charges = charges_with_sum(
            config.neutrality, charges, total_charge, batch, len(cell), config.epsilon_factor
        )
        energy, potential = ewald(charges, positions, cell, batch, pbc, True)
        assert potential is not None
        shares = atom_energies(charges, potential)
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


def equilibrated(
    ewald: Ewald,
    config: LESConfig,
    parameters: Tensor,
    positions: Tensor,
    cell: Tensor,
    batch: Tensor,
    pbc: Tensor | None,
    total_charge: Tensor | None,
    fragment: Tensor | None = None,
    fragment_charge: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Equilibrated latent charges, energies of atoms, and energies of structures.

    ``parameters`` are electronegativities and hardnesses ``[n_atoms, 2]``; other arguments as for
    :func:`long_range`.
    """
    if parameters.dim() != 2 or parameters.shape[1] != 2:
        raise ValueError(
            "`latent_charges` must be electronegativities and hardnesses, of shape [n_atoms, 2], "
            f"with `charge_equilibration`, got {list(parameters.shape)}"
        )
    electronegativity, hardness = parameters.unbind(1)
    check_total_charge(total_charge, electronegativity, len(cell), values=False)
    if total_charge is not None:
        total_charge = exactly(total_charge) / config.epsilon_factor**0.5
    if fragment_charge is not None:
        check_tensors(fragment_charge=fragment_charge)
        fragment_charge = exactly(fragment_charge) / config.epsilon_factor**0.5
    found = equilibrate(
        electronegativity,
        hardness,
        positions,
        cell,
        batch,
        pbc,
        total_charge,
        ewald.settings(),
        config.equilibration_tolerance,
        config.equilibration_iterations,
        fragment,
        fragment_charge,
    )
    shares = found.atom_energies
    energy = exactly(shares).new_zeros(len(cell)).index_add(0, batch, exactly(shares))
    return found.charges, shares, energy.to(shares.dtype)


def refuse_fragments(fragment: Tensor | None, fragment_charge: Tensor | None) -> None:
    """Raise ``ValueError`` for fragments where charges are not equilibrated."""
    if fragment is not None or fragment_charge is not None:
        raise ValueError(
            "`fragment` and `fragment_charge` have no effect without `charge_equilibration`, they "
            "must be None"
        )


class CaptureLimits(NamedTuple):
    """Which structures a captured graph is for.

    Attributes:
        boundary: as for ``les.sums.plain.traceable_potential``, where slabs are periodic.
        extent: largest k-points along the vectors of :func:`summed_cells`, as there.
        slabs: whether structures may have two periodic axes.
    """

    boundary: str
    extent: Sequence[int]
    slabs: bool


def captured_long_range(
    ewald: Ewald,
    config: LESConfig,
    charges: Tensor,
    positions: Tensor,
    cell: Tensor,
    batch: Tensor | None,
    pbc: Tensor,
    limits: CaptureLimits,
    total_charge: Tensor | None = None,
) -> LongRange:
    """As :func:`long_range`, without dipoles, in a graph that is captured or compiled.

    Args:
        ewald, config, charges, positions, cell: as for :func:`long_range`.
        batch: structure of each atom ``[n_atoms]``, ascending; ``None`` for one structure.
        pbc: ``[n_structures, 3]``, boolean.
        limits: which structures the graph is for.
        total_charge: ``[n_structures]`` [e], of a configuration that uses it.

    Raises:
        ValueError, RuntimeError: as ``les.sums.plain.traceable_potential``; for
            ``charge_equilibration``, which takes as many steps as it needs.
    """
    if config.charge_equilibration:
        raise ValueError(not_in_graphs())
    boundary, extent, slabs = limits
    owner = torch.zeros_like(positions[:, 0], dtype=torch.long) if batch is None else batch
    periodic, half_height, places = pbc.all(dim=1), None, positions
    if slabs and boundary != "open":
        periodic = pbc.any(dim=1)
        cell, half_height, places = slab_cells(cell, pbc, positions, owner, ewald.sigma)
    if config.uses_total_charge:
        charges = shifted_charges(
            charges, total_charge, owner, cell.shape[0], config.epsilon_factor
        )
    bounds = Bounds(boundary, list(extent), periodic, half_height)
    potential = traceable_potential(ewald.settings(), charges, places, cell, batch, bounds)
    shares = atom_energies(charges, potential)
    energy = shares.new_zeros(cell.shape[0]).index_add(0, owner, shares)
    return LongRange(energy, shares, charges, scaled(charges, config.epsilon_factor), None)


def summed_cells(
    ewald: Ewald, positions: Tensor, cell: Tensor, batch: Tensor, pbc: Tensor
) -> Tensor:
    """The cells ``[n_structures, 3, 3]`` [A] that ``ewald`` sums in: slabs have other ones."""
    if not bool((pbc.sum(dim=1) == 2).any()):
        return cell.detach()
    return slab_cells(cell.detach(), pbc, positions.detach(), batch, ewald.sigma)[0]


def atom_energies(charges: Tensor, potential: Tensor) -> Tensor:
    r"""Energies of atoms :math:`q_i\phi_i/2` ``[n_atoms]`` [eV], summed over channels.

    ``charges`` [e] and their ``potential`` [eV/e] are ``[n_atoms]`` or ``[n_atoms, n_channels]``.
    """
    shares = 0.5 * charges * potential
    return shares.sum(dim=-1) if shares.dim() == 2 else shares


def scaled(charges: Tensor, epsilon_factor: float) -> Tensor:
    """Latent ``charges`` [e] times the square root of the dielectric constant."""
    return charges if epsilon_factor == 1.0 else epsilon_factor**0.5 * charges


def not_in_graphs() -> str:
    """The message where a model with charge equilibration is scripted, compiled or exported."""
    return (
        "a model with `charge_equilibration` can be neither compiled nor exported: how many steps "
        "equilibration takes depends on the structure"
    )
