r"""The polarisability of molecules, and of cells of them, at fixed nuclei.

Only a model whose charges or dipoles answer to a field has one. Equilibrated charges do, and
induced moments that feel one another; theirs is exact (``les.response.polarisability``,
``les.self_consistent.polarisabilities``). Of another model that takes a field it is found by
finite ones:

.. math:: \alpha_{ab} = \frac{\mu_a(\mathcal{E}_b = h) - \mu_a(\mathcal{E}_b = -h)}{2h}

Latent charges that depend on positions alone do not answer: their electrons are in ``eps_inf``, and
what is left is the part of the nuclei, ``les.spectra.harmonic.HarmonicModes.polarisability``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from les.conjugate_gradients import Convergence
from les.data.external_field import FIELD_KEYS
from les.data.fragments import FRAGMENT
from les.ewald import Ewald
from les.induced import Response
from les.ranges import is_number
from les.response import polarisability as response
from les.response_solver import Surroundings
from les.self_consistent import polarisabilities
from les.spectra.phonons import high_frequency_constant
from les.structures import Structures

#: Of finite fields [V/A].
STRENGTH = 0.01

#: The result of models with ``charge_equilibration`` that says how charges answer [eV/e^2].
HARDNESS = "hardness"


def require_polarisability(calculator: Any, atoms: Any) -> None:
    """Raise ``ValueError`` where a model, or a structure, has no polarisability."""
    equilibrates = _equilibrates(calculator)
    if _is_polarised(calculator) and not atoms.pbc.any():
        return
    if atoms.pbc.any() and not (equilibrates and FRAGMENT in atoms.arrays):
        raise ValueError(
            f"polarisabilities are of molecules, got pbc {atoms.pbc.tolist()}; of a crystal it is "
            "eps_inf, and of a periodic structure of molecules what a model with "
            f"`charge_equilibration` has where atoms.arrays say which they are, as {FRAGMENT!r}"
        )
    if not (equilibrates or _field_key(calculator)):
        config = getattr(calculator, "les_config", None)
        if config is not None and (config.use_induced_dipole or config.use_induced_charge):
            raise ValueError(
                "the induced moments of this model follow from fields in one step and do not feel "
                "one another, so that there is no polarisability of the whole: models whose "
                "induced moments are `self_consistent` have it, got `self_consistent` false"
            )
        raise ValueError(
            "the charges of this model depend on positions alone and do not answer to a field: it "
            "has no electronic polarisability; models with `charge_equilibration` have, and with "
            "`self_consistent` induced moments. That of moving nuclei is among the "
            "results of les.spectra.harmonic"
        )


def polarisability(
    calculator: Any, atoms: Any, strength: float | None = None
) -> NDArray[np.float64]:
    """The electronic polarisability of a structure.

    Args:
        calculator: of a model with ``charge_equilibration``, with ``self_consistent`` induced
            moments, or of one that takes a field, which it names as one of :data:`FIELD_KEYS` in
            ``used_labels``, and finds in ``atoms.info``.
        atoms: open structure; with ``charge_equilibration`` also a periodic one whose fragments
            are told (``les.data.fragments``), which has that of its cell in the macroscopic field.
        strength: of finite fields [V/A], 0.01 without it; equilibrated charges need none.

    Returns:
        ``[3, 3]`` [e^2 A^2 / eV], which is e A^2 / V; times 14.4 eV A / e^2 it is the
        polarisability volume [A^3].

    Raises:
        ValueError: for another periodic structure, a strength that is not positive or
            has no effect, and a model
            whose charges do not answer to a field.
    """
    require_polarisability(calculator, atoms)
    if strength is not None and not (is_number(strength) and strength > 0):
        raise ValueError(f"`strength` must be a positive field in V/A, got {strength!r}")
    for answers, evaluate, what in (
        (_equilibrates, _of_equilibrated_charges, "`charge_equilibration`"),
        (_is_polarised, _of_induced_moments, "`self_consistent` induced moments"),
    ):
        if answers(calculator):
            if strength is not None:
                raise ValueError(
                    f"`strength` has no effect with {what}, got {strength!r}: their polarisability "
                    "needs no finite fields"
                )
            return evaluate(calculator, atoms)
    strength = STRENGTH if strength is None else strength
    key = _field_key(calculator)
    columns = []
    for axis in np.eye(3):
        sides = []
        for sign in (1.0, -1.0):
            in_field = atoms.copy()
            in_field.info[key] = sign * strength * axis
            calculator.calculate(in_field)
            sides.append(np.array(calculator.results["dipole"], dtype=np.float64))
        columns.append((sides[0] - sides[1]) / (2.0 * strength))
    return np.array(columns).T


def _equilibrates(calculator: Any) -> bool:
    return HARDNESS in getattr(calculator, "implemented_properties", ())


def _is_polarised(calculator: Any) -> bool:
    config = getattr(calculator, "les_config", None)
    return config is not None and config.self_consistent


def _field_key(calculator: Any) -> str:
    """The entry of ``Atoms.info`` by which a model takes a field; empty if it takes none.

    Latent charges that do not respond take one, too, but have no polarisability.
    """
    config = getattr(calculator, "les_config", None)
    if config is not None and config.external_field:
        return ""
    labels = getattr(calculator, "used_labels", ())
    return next((key for key in FIELD_KEYS if key in labels), "")


def _of_equilibrated_charges(calculator: Any, atoms: Any) -> NDArray[np.float64]:
    config = calculator.les_config
    periodic = bool(atoms.pbc.any())
    hardness = np.array(calculator.get_property(HARDNESS, atoms), dtype=np.float64)
    with torch.device("cpu"):
        structures = Structures(
            torch.from_numpy(np.array(atoms.positions, dtype=np.float64)),
            torch.from_numpy(np.array(atoms.cell[:] if periodic else np.zeros((3, 3)))[None]),
            torch.zeros(len(atoms), dtype=torch.long),
            torch.from_numpy(atoms.pbc[None]),
        )
        found = response.polarisability(
            Ewald(**config.sum_settings()),
            torch.from_numpy(hardness),
            structures,
            calculator.fragment_tensors(atoms).get(FRAGMENT),
            high_frequency_constant(calculator),
            Convergence(config.equilibration_tolerance, config.equilibration_iterations),
        )
    array: NDArray[np.float64] = found[0].numpy()
    return array


def _of_induced_moments(calculator: Any, atoms: Any) -> NDArray[np.float64]:
    properties = calculator.implemented_properties
    found: list[torch.Tensor | None] = []
    with torch.device("cpu"):
        for name in ("charge_responses", "atomic_polarisabilities"):
            values = calculator.get_property(name, atoms) if name in properties else None
            found.append(None if values is None else torch.tensor(values, dtype=torch.float64))
        kappas, alphas = found
        if alphas is not None and alphas.dim() == 2:
            alphas = alphas.view(-1, 3, 3)
        batch = torch.zeros(len(atoms), dtype=torch.long)
        settings = Ewald(**calculator.les_config.sum_settings()).settings()
        tensors = polarisabilities(
            Surroundings(settings, batch, torch.zeros(1, 3, dtype=torch.bool), 1),
            Response(kappas, alphas),
            torch.from_numpy(np.array(atoms.positions, dtype=np.float64)),
            torch.zeros(1, 3, 3, dtype=torch.float64),
        )
    array: NDArray[np.float64] = high_frequency_constant(calculator) * tensors[0].numpy()
    return array
