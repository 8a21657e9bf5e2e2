"""Results that follow from the charges of one structure, and the options that they have."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from les.latent_moments import ATOMIC_MOMENTS
from les.ranges import check_number
from les.response.born import BORN_CHARGES, METHODS
from les.response.dipoles import dipole_moments
from les.response.quadrupoles import quadrupole_evaluation
from les.response.sum_rules import ACOUSTIC_SUMS, spread_acoustic_sum

if TYPE_CHECKING:
    from ase import Atoms

    from les.config import LESConfig


def check_charge_options(
    config: LESConfig | None, bec: bool | str, acoustic_sum: str, eps_inf: float | None
) -> None:
    """Refuse options of ``les.backends.calculator.ChargeCalculator`` that a model cannot have.

    Raises:
        ValueError: for values that there are not; for ``bec`` and ``eps_inf`` with a model that has
            no charges, or several on each atom; for the method ``"phase"`` with one that
            equilibrates charges; and for an ``acoustic_sum`` to be spread without ``bec``.
    """
    for name, given in (("bec", bec), ("eps_inf", eps_inf is not None)):
        if given and config is None:
            raise ValueError(f"`{name}` needs a model with LES: this one is without charges")
        if given and config is not None and config.n_channels > 1:
            raise ValueError(
                f"`{name}` needs a model with one charge on each atom, this has {config.n_channels}"
            )
    if isinstance(bec, str) and bec not in METHODS:
        raise ValueError(f"`bec` must be true, false or one of {', '.join(METHODS)}, got {bec!r}")
    if bec == "phase" and config is not None and config.charge_equilibration:
        raise ValueError(
            "`bec='phase'` has no effect on equilibrated charges, whose Born effective charges are "
            "derivatives of the dipoles of molecules: give bec=True"
        )
    if acoustic_sum not in ACOUSTIC_SUMS:
        raise ValueError(
            f"`acoustic_sum` must be one of {', '.join(ACOUSTIC_SUMS)}, got {acoustic_sum!r}"
        )
    if acoustic_sum == "spread" and not bec:
        raise ValueError("`acoustic_sum='spread'` has no effect without `bec`")
    if eps_inf is not None:
        check_number("eps_inf", eps_inf, "epsilon_factor")


def scale_of_charges(config: LESConfig, eps_inf: float | None) -> float:
    """The factor of all that is linear in the charges, for another dielectric constant."""
    return 1.0 if eps_inf is None else math.sqrt(eps_inf / config.epsilon_factor)


def charge_results(
    atoms: Atoms,
    charges: Tensor,
    dipole: Tensor,
    bec: Tensor | None,
    remove_mean: bool,
    factor: float,
    acoustic_sum: str,
    moments: Mapping[str, Tensor] | None = None,
) -> dict[str, NDArray[Any]]:
    """Results of one structure with one charge on each atom.

    Args:
        atoms: the structure.
        charges: ``[n_atoms]`` [e].
        dipole: ``[3]`` [e A].
        bec: Born effective charges of any shape that has ``[n_atoms, 3, 3]`` [e] numbers, or
            ``None``.
        remove_mean: take the mean charge off before the quadrupole is made.
        factor: factor of all results, their sign included.
        acoustic_sum: one of ``les.response.sum_rules.ACOUSTIC_SUMS``.
        moments: those of atoms, of a model that has any (``les.latent_moments.reported_moments``).

    Returns:
        ``charges``, ``dipole``, of an open structure ``quadrupole`` ``[3, 3]`` [e A^2], and with
        ``bec`` ``born_effective_charges`` ``[n_atoms, 9]`` [e]; and ``moments``, matrices of atoms
        row by row ``[n_atoms, 9]``.
    """
    moments = moments or {}
    results = {"charges": factor * array_of(charges), "dipole": factor * array_of(dipole)}
    if not atoms.pbc.any():
        q = charges.detach().cpu().reshape(-1).double()
        positions = torch.as_tensor(atoms.positions, dtype=q.dtype, device=q.device)
        one = torch.zeros_like(q, dtype=torch.long)
        whole = quadrupole_evaluation(q, positions, one, 1, remove_mean, 1.0)[0]
        whole = whole + second_moment(moments, positions - positions.mean(dim=0))
        results["quadrupole"] = factor * array_of(whole)
    if bec is not None:
        bec = bec.reshape(-1, 3, 3)
        if acoustic_sum == "spread":
            bec = spread_acoustic_sum(bec)
        results[BORN_CHARGES] = factor * array_of(bec.reshape(-1, 9))
    for name, values in moments.items():
        values = values.reshape(-1, 9) if values.dim() == 3 else values
        results[name] = (factor if ATOMIC_MOMENTS[name][1] else 1.0) * array_of(values)
    return results


def dipoles_of(charges: Tensor, structures: Sequence[Atoms], remove_mean: bool) -> Tensor:
    """Dipoles ``[n_structures, 3]`` [e A], for models that give none.

    Args:
        charges: those of all atoms, one structure after the other ``[n_atoms]`` or ``[n_atoms, 1]``
            [e], with the square root of ``epsilon_factor`` in them.
        structures: where the atoms are.
        remove_mean: take the mean charge of each structure off first.
    """
    charges = charges.cpu()
    positions = np.concatenate([atoms.positions for atoms in structures])
    sizes = torch.tensor([len(atoms) for atoms in structures])
    owner = torch.repeat_interleave(torch.arange(len(structures)), sizes)
    places = torch.as_tensor(positions, dtype=charges.dtype)
    return dipole_moments(charges, places, owner, len(structures), remove_mean)


def second_moment(moments: Mapping[str, Tensor], arms: Tensor) -> Tensor:
    """What dipoles and quadrupoles of atoms add to the quadrupole of a structure ``[3, 3]``.

    Args:
        moments: ``atomic_dipoles`` ``[n_atoms, 3]``, ``atomic_quadrupoles`` ``[n_atoms, 3, 3]``, or
            neither.
        arms: positions of the atoms relative to the centre ``[n_atoms, 3]`` [A].
    """
    total = arms.new_zeros(3, 3)
    if "atomic_dipoles" in moments:
        product = moments["atomic_dipoles"].detach().to(arms).T @ arms
        total = total + product + product.T
    if "atomic_quadrupoles" in moments:
        total = total + moments["atomic_quadrupoles"].detach().to(arms).sum(dim=0)
    return total


def equilibration_results(parameters: Tensor, sign: int) -> dict[str, NDArray[Any]]:
    """``electronegativity`` [eV/e] and ``hardness`` [eV/e^2] ``[n_atoms]``, of latent charges.

    Args:
        parameters: both of each atom ``[n_atoms, 2]``.
        sign: that of the charges that are reported, which electronegativities share.
    """
    electronegativity, hardness = array_of(parameters).T
    return {"electronegativity": sign * electronegativity, "hardness": hardness.copy()}


def array_of(tensor: Tensor) -> NDArray[Any]:
    """The values of a tensor, wherever it is."""
    array: NDArray[Any] = tensor.detach().cpu().numpy()
    return array
