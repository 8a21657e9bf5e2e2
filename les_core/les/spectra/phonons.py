r"""Phonons of crystals with the splitting of longitudinal and transverse optical modes.

phonopy does the lattice dynamics (A. Togo, L. Chaput, T. Tadano, I. Tanaka, J. Phys. Condens.
Matter 35, 353001 (2023)); it needs Born effective charges and the high-frequency dielectric
constant, as arrays (``nac_params``) or as its file ``BORN``.

Latent charges are screened already: their dipole interaction is that of
:math:`Z^*/\sqrt{\epsilon_\infty}` in vacuum. The term that phonopy adds, with
:math:`Z^* Z^* / \epsilon_\infty`, therefore agrees with the model's own long-range energy near the
zone centre, for any ``eps_inf``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from les.files import replacing
from les.optional_packages import optional
from les.ranges import check_number
from les.response.sum_rules import spread_acoustic_sum
from les.spectra.frames import kept_born_charges, require_charges
from les.units import COULOMB_CONSTANT


def high_frequency_constant(calculator: Any, eps_inf: float | None = None) -> float:
    """The ``eps_inf`` of the Born effective charges of a calculator.

    Args:
        calculator: the calculator of a model, whose own value is the default.
        eps_inf: a value that takes precedence.

    Raises:
        ValueError: for a value that is not positive.
    """
    if eps_inf is None:
        eps_inf = getattr(calculator, "eps_inf", None)
    if eps_inf is None:
        config = getattr(calculator, "les_config", None)
        eps_inf = 1.0 if config is None else config.epsilon_factor
    check_number("eps_inf", eps_inf, "epsilon_factor")
    return float(eps_inf)


def nac_params(calculator: Any, atoms: Any, eps_inf: float | None = None) -> dict[str, Any]:
    """Parameters of the non-analytical term in phonopy: ``phonon.nac_params = ...``.

    Args:
        calculator: a calculator with Born effective charges.
        atoms: the primitive cell, with three periodic axes.
        eps_inf: high-frequency dielectric constant of the Born effective charges; the default is
            that of the calculator.

    Returns:
        ``born`` ``[n_atoms, 3, 3]`` [e], which sum to zero, ``dielectric`` ``[3, 3]`` and
        ``factor`` [eV A / e^2].

    Raises:
        ValueError: for a model without charges, a structure that is no crystal, and an ``eps_inf``
            that is not positive.
    """
    require_charges(calculator)
    _require_crystal(atoms)
    epsilon = high_frequency_constant(calculator, eps_inf)
    charges = kept_born_charges(calculator, atoms)
    return {
        "born": spread_acoustic_sum(torch.from_numpy(charges)).numpy(),
        "dielectric": epsilon * np.eye(3),
        "factor": COULOMB_CONSTANT,
    }


def write_born(
    calculator: Any,
    atoms: Any,
    path: Path,
    eps_inf: float | None = None,
    symprec: float = 1e-5,
) -> NDArray[np.float64]:
    """Write a file ``BORN`` in the format of phonopy.

    Args:
        calculator: a calculator with Born effective charges.
        atoms: the unit cell, which is assumed to be the primitive one.
        path: the file to write.
        eps_inf: as for :func:`nac_params`.
        symprec: distance below which phonopy considers two places the same [A]. Charges of
            equivalent atoms are averaged, and written once.

    Returns:
        The Born effective charges ``[n_atoms, 3, 3]`` [e], before symmetry.

    Raises:
        BackendError: without phonopy.
        ValueError: as :func:`nac_params`.
    """
    lines_of = optional("phonopy.file_IO").get_BORN_lines
    given = nac_params(calculator, atoms, eps_inf)
    lines = lines_of(
        phonopy_atoms(atoms),
        given["born"],
        given["dielectric"],
        primitive_matrix=np.eye(3),
        supercell_matrix=np.eye(3, dtype=int),
        symprec=symprec,
    )
    with replacing(path) as temporary:
        temporary.write_text("\n".join([f"{given['factor']:.6f}", *lines[1:]]) + "\n")
    return given["born"]


def phonons(
    calculator: Any,
    atoms: Any,
    supercell: Sequence[int] = (3, 3, 3),
    eps_inf: float | None = None,
    displacement: float = 0.01,
    splitting: bool = True,
) -> Any:
    """Force constants of a crystal as a ``phonopy.Phonopy``, with the non-analytical term.

    Args:
        calculator: a calculator with Born effective charges.
        atoms: the primitive cell, relaxed.
        supercell: number of repetitions along each lattice vector.
        eps_inf: as for :func:`nac_params`.
        displacement: displacement of the finite differences [A].
        splitting: whether to include the non-analytical term.

    Raises:
        BackendError: without phonopy.
        ValueError: as :func:`nac_params`.
    """
    from ase import Atoms

    require_charges(calculator)
    _require_crystal(atoms)
    phonon = optional("phonopy").Phonopy(
        phonopy_atoms(atoms), supercell_matrix=np.diag(supercell), primitive_matrix=np.eye(3)
    )
    phonon.generate_displacements(distance=displacement)
    forces = []
    for cell in phonon.supercells_with_displacements:
        moved = Atoms(
            numbers=cell.numbers,
            scaled_positions=cell.scaled_positions,
            cell=cell.cell,
            masses=cell.masses,
            pbc=True,
        )
        forces.append(np.array(calculator.get_property("forces", moved)))
    phonon.forces = forces
    phonon.produce_force_constants()
    phonon.symmetrize_force_constants()
    if splitting:
        phonon.nac_params = nac_params(calculator, atoms, eps_inf)
    return phonon


def phonopy_atoms(atoms: Any) -> Any:
    """A structure as phonopy's own class, with its masses."""
    return optional("phonopy.structure.atoms").PhonopyAtoms(
        numbers=atoms.numbers,
        cell=atoms.cell[:],
        scaled_positions=atoms.get_scaled_positions(),
        masses=atoms.get_masses(),
    )


def _require_crystal(atoms: Any) -> None:
    if not atoms.pbc.all():
        raise ValueError(
            f"phonons and BORN files are of crystals with three periodic axes, got pbc "
            f"{atoms.pbc.tolist()}"
        )
