"""What ``les.Les`` makes of multipoles and induced moments: energies, moments and responses."""

# No postponed annotations: TorchScript takes the types of a NamedTuple from them.

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from les.config import LESConfig
from les.ewald import Ewald
from les.in_field import refuse_charges_that_flow, shares_in_field, shares_of_images
from les.induced import Induced, checked_response, field_at_atoms, induced_in_one_step
from les.long_range import LongRange, scaled
from les.moment_readout import ReadMoments
from les.multipoles import checked_moments, multipole_energies, shares_of_atoms
from les.neutrality import charges_with_sum
from les.response.arguments import BornSettings
from les.response.atomic_dipoles import born_effective_charges_of_dipoles, sum_of_dipoles
from les.response.dipoles import dipole_evaluation, single_channel
from les.response.phase import phase_born_effective_charges
from les.response_solver import Surroundings
from les.self_consistent import self_consistent_energies
from les.structures import NO_SUMS, ChargeSums, Structures
from les.sums.sources import Fields, Moments

#: What is reported of atoms besides charges -> what ``les.Les`` returns, and whether it is scaled
#: like charges and changes sign with them.
ATOMIC_MOMENTS = {
    "atomic_dipoles": ("latent_dipoles", True),
    "atomic_quadrupoles": ("latent_quads", True),
    "atomic_polarisabilities": ("latent_alphas", False),
    "charge_responses": ("latent_kappas", False),
}

#: What ``les.Les`` calls moments and responses.
MOMENT_NAMES = ("latent_charges", "latent_dipoles", "latent_quads")
RESPONSE_NAMES = ("latent_kappas", "latent_alphas")


class Latent(NamedTuple):
    """What a host model passes of its atoms; see ``les.Les``."""

    charges: Tensor
    dipoles: Tensor | None
    quadrupoles: Tensor | None
    kappas: Tensor | None
    alphas: Tensor | None
    external: Tensor | None


class Wanted(NamedTuple):
    """What is asked for."""

    energy: bool
    atom_energies: bool
    field: bool
    dipole: bool
    bec: bool
    bec_component: int | None
    #: Whether results are trained on.
    training: bool


def moments_and_energies(
    ewald: Ewald,
    config: LESConfig,
    latent: Latent,
    structures: Structures,
    sums: ChargeSums,
    wanted: Wanted,
) -> dict[str, Tensor | None]:
    """What ``les.Les`` returns, of models with dipoles, quadrupoles or induced moments.

    Raises:
        ValueError, TypeError, RuntimeError: as ``les.Les``, and for fragments in ``sums``.
    """
    if sums.fragment is not None or sums.fragment_charge is not None:
        raise ValueError(
            "`fragment` and `fragment_charge` have no effect with dipoles, quadrupoles, induced "
            "moments or an external field, they must be None"
        )
    total_charge = sums.total_charge
    positions, cell, batch, _ = structures
    raw, n, factor = latent.charges, len(cell), config.epsilon_factor
    moments = checked_moments(
        raw, positions, latent.dipoles, latent.quadrupoles, names=MOMENT_NAMES
    )
    charges = charges_with_sum(config.neutrality, raw, total_charge, batch, n, factor)
    moments = moments._replace(charges=charges.view(moments.charges.shape))
    induced: Induced | None = None
    fields: Fields | None = None
    if latent.kappas is None and latent.alphas is None:
        if not config.external_field:
            _refuse_field(latent)
        if wanted.field:
            moments = _with_dipoles(moments)
        if wanted.energy or wanted.field:
            energy, fields = multipole_energies(ewald.settings(), moments, *structures)
            shares = None if fields is None else shares_of_atoms(moments, fields)
        if latent.external is not None and wanted.energy:
            assert shares is not None
            at_atoms = factor**0.5 * field_at_atoms(latent.external, positions, batch, n)
            own = None if latent.dipoles is None else latent.dipoles.reshape(-1, 3)
            added = shares_in_field(at_atoms, single_channel(charges), own, structures)
            energy, shares = energy.index_add(0, batch, added), shares + added
    else:
        energy, shares, induced, fields = _induced(
            ewald, config, latent, moments, structures, wanted.field
        )
    dipoles = latent.dipoles
    if induced is not None:
        extra = induced.charges.view(charges.shape)
        raw, charges = raw + extra, charges + extra
        dipoles = induced.dipoles if dipoles is None else dipoles + induced.dipoles.view_as(dipoles)
    results: dict[str, Tensor | None] = {
        "E_lr": energy if wanted.energy else None,
        "E_lr_atoms": shares if wanted.energy and wanted.atom_energies else None,
        "latent_charges": charges,
        "charges": scaled(charges, factor),
        "raw_charges": raw,
        "equilibration_parameters": None,
        "latent_dipoles": dipoles,
        "latent_quads": latent.quadrupoles,
        "latent_alphas": latent.alphas,
        "latent_kappas": latent.kappas,
        "dipole": None,
        "BEC": None,
        "potential": None,
        "field": None,
    }
    if wanted.field and fields is not None:
        results["potential"] = fields.potential.view(charges.shape)
        if fields.gradient is not None:
            results["field"] = -fields.gradient.squeeze(1)
    own = None if dipoles is None else dipoles.reshape(-1, 3)
    if wanted.dipole:
        if not wanted.energy:
            raise ValueError("`compute_dipole` needs `compute_energy`, got false")
        single = single_channel(charges)
        dipole = dipole_evaluation(single, positions, batch, n, config.moments_without_mean, factor)
        if own is not None:
            dipole = dipole + sum_of_dipoles(own, batch, n, factor)
        results["dipole"] = dipole
    if wanted.bec:
        settings = BornSettings(config.remove_mean, factor, wanted.training)
        bec = phase_born_effective_charges(raw, *structures, settings, total_charge)
        if own is not None:
            of_dipoles = born_effective_charges_of_dipoles(own, positions, factor, wanted.training)
            bec = torch.stack([bec, of_dipoles], dim=1)
        if wanted.bec_component is not None:
            bec = bec.select(-2, wanted.bec_component)
        results["BEC"] = bec
    return results


def long_range_of_moments(
    ewald: Ewald,
    config: LESConfig,
    charges: Tensor,
    moments: ReadMoments,
    structures: Structures,
    sums: ChargeSums = NO_SUMS,
    external: Tensor | None = None,
    *,
    compute_dipole: bool = True,
) -> LongRange:
    """As ``les.long_range.long_range``, with moments that the model reads itself.

    Args:
        ewald, config, structures, external, compute_dipole: as there.
        charges: as they are read ``[n_atoms]`` [e].
        moments: what else is read of the atoms.
        sums: what charges sum to; fragments are refused.

    Raises:
        ValueError, TypeError, RuntimeError: as ``les.Les``.
    """
    latent = Latent(charges, *moments, external=external)
    wanted = Wanted(
        energy=True,
        atom_energies=True,
        field=False,
        dipole=compute_dipole,
        bec=False,
        bec_component=None,
        training=False,
    )
    out = moments_and_energies(ewald, config, latent, structures, sums, wanted)
    energy, shares, found, physical = (
        out[name] for name in ("E_lr", "E_lr_atoms", "latent_charges", "charges")
    )
    assert energy is not None and shares is not None
    assert found is not None and physical is not None
    of_atoms = {
        name: out[name] for name in ("raw_charges", *(k for k, _ in ATOMIC_MOMENTS.values()))
    }
    return LongRange(energy, shares, found, physical, out["dipole"], moments=of_atoms)


def reported_moments(
    out: Mapping[str, Tensor | None], epsilon_factor: float
) -> dict[str, Tensor | None]:
    """Moments and responses of atoms under the names of :data:`ATOMIC_MOMENTS`.

    Args:
        out: what ``les.Les`` returned.
        epsilon_factor: dipoles and quadrupoles are scaled by its square root, as charges are.

    Returns:
        ``atomic_dipoles`` ``[n_atoms, 3]`` [e A], induced ones included, ``atomic_quadrupoles``
        ``[n_atoms, 3, 3]`` [e A^2], ``atomic_polarisabilities`` ``[n_atoms]`` or ``[n_atoms, 3,
        3]`` [e^2 A^2/eV] and ``charge_responses`` ``[n_atoms]`` [e^2/eV] to latent fields and
        potentials; ``None`` for what the model does not have.
    """
    found: dict[str, Tensor | None] = {}
    for name, (key, with_charges) in ATOMIC_MOMENTS.items():
        value = out.get(key)
        found[name] = scaled(value, epsilon_factor) if with_charges and value is not None else value
    return found


def _induced(
    ewald: Ewald,
    config: LESConfig,
    latent: Latent,
    moments: Moments,
    structures: Structures,
    compute_fields: bool,
) -> tuple[Tensor, Tensor, Induced, Fields | None]:
    """Energies, shares of them, induced moments, and what permanent moments make atoms feel."""
    positions, cell, batch, pbc = structures
    response = checked_response(moments, latent.kappas, latent.alphas, names=RESPONSE_NAMES)
    external: Tensor | None = None
    if latent.external is not None:
        external = field_at_atoms(latent.external, positions, batch, len(cell))
        if latent.kappas is not None and config.external_field:
            refuse_charges_that_flow(latent.external.view(-1, 3), cell, pbc)
    moments = _with_dipoles(moments)
    if config.self_consistent:
        if external is not None:
            external = config.epsilon_factor**0.5 * external
        around = Surroundings(ewald.settings(), batch, pbc, len(cell))
        energy, induced = self_consistent_energies(
            around, moments, response, positions, cell, external
        )
        if external is not None and config.external_field:
            of_images = shares_of_images(external, moments.charges.squeeze(1), structures)
            energy = energy.index_add(0, batch, -of_images)
            induced = induced._replace(atom_energies=induced.atom_energies - of_images)
        fields = None
        if compute_fields:
            _, fields = multipole_energies(ewald.settings(), moments, *structures)
        return energy, induced.atom_energies, induced, fields
    if latent.alphas is None:
        _refuse_field(latent)
    energy, fields = multipole_energies(ewald.settings(), moments, *structures)
    assert fields is not None
    induced = induced_in_one_step(response, fields, external)
    energy = energy.index_add(0, batch, induced.atom_energies)
    return energy, shares_of_atoms(moments, fields) + induced.atom_energies, induced, fields


def _with_dipoles(moments: Moments) -> Moments:
    """``moments`` with dipoles of zero where there are none, so that fields are computed."""
    if moments.dipoles is not None:
        return moments
    return moments._replace(dipoles=moments.charges.new_zeros(*moments.charges.shape, 3))


def _refuse_field(latent: Latent) -> None:
    if latent.external is not None:
        raise ValueError(
            "`e_ext` has no effect without `latent_alphas`: in the published formulas an external "
            "field acts on induced dipoles alone; on charges and dipoles it acts with the setting "
            "`external_field: true`"
        )


def check_asked_for(
    config: LESConfig, latent: Latent, atomic_numbers: Tensor | None = None
) -> None:
    """What the configuration asks for has to be there.

    Raises:
        ValueError: for a host model that does not pass it.
    """
    for key, name, value in (
        ("use_dipole", "latent_dipoles", latent.dipoles),
        ("use_quadrupole", "latent_quads", latent.quadrupoles),
        ("use_induced_charge", "latent_kappas", latent.kappas),
        ("use_induced_dipole", "latent_alphas", latent.alphas),
    ):
        if getattr(config, key) and value is None:
            raise ValueError(
                f"`{key}` is asked for, but the model passes no `{name}`: it has no such readout"
            )
    alphas = latent.alphas
    if config.use_anisotropic_polarizability and alphas is not None and alphas.dim() != 3:
        raise ValueError(
            "`latent_alphas` must have shape [n_atoms, 3, 3] with "
            f"`use_anisotropic_polarizability`, got {list(alphas.shape)}"
        )
    if config.use_atomic_alpha and (latent.alphas is None or atomic_numbers is None):
        missing = "latent_alphas" if latent.alphas is None else "atomic_numbers"
        raise ValueError(f"`use_atomic_alpha` needs `{missing}`, which the model does not pass")
