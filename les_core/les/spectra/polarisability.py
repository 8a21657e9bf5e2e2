r"""The polarisability of molecules at fixed nuclei, by finite fields.

.. math:: \alpha_{ab} = \frac{\mu_a(\mathcal{E}_b = h) - \mu_a(\mathcal{E}_b = -h)}{2h}

Only a model whose charges answer to a field has one. Latent charges that depend on positions alone
do not: their electrons are in ``eps_inf``, and what is left is the part of the nuclei,
``les.spectra.harmonic.HarmonicModes.polarisability``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from les.ranges import is_number

#: Entries of ``Atoms.info`` by which models take a field [V/A].
FIELD_KEYS = ("external_field", "electric_field")


def polarisability(calculator: Any, atoms: Any, strength: float = 0.01) -> NDArray[np.float64]:
    """The electronic polarisability of a molecule.

    Args:
        calculator: of a model that takes a field, which it names as one of :data:`FIELD_KEYS` in
            ``used_labels``, and finds in ``atoms.info``.
        atoms: open structure.
        strength: of the field [V/A].

    Returns:
        ``[3, 3]`` [e^2 A^2 / eV], which is e A^2 / V; times 14.4 eV A / e^2 it is the
        polarisability volume [A^3].

    Raises:
        ValueError: for a periodic structure, a strength that is not positive, and a model whose
            charges do not answer to a field.
    """
    if atoms.pbc.any():
        raise ValueError(
            f"polarisabilities are of molecules, got pbc {atoms.pbc.tolist()}; of a crystal it is "
            "eps_inf"
        )
    if not (is_number(strength) and strength > 0):
        raise ValueError(f"`strength` must be a positive field in V/A, got {strength!r}")
    known = [key for key in FIELD_KEYS if key in getattr(calculator, "used_labels", ())]
    if not known:
        raise ValueError(
            "the charges of this model depend on positions alone and do not answer to a field: it "
            "has no electronic polarisability. That of moving nuclei is among the results of "
            "les.spectra.harmonic"
        )
    columns = []
    for axis in np.eye(3):
        sides = []
        for sign in (1.0, -1.0):
            in_field = atoms.copy()
            in_field.info[known[0]] = sign * strength * axis
            calculator.calculate(in_field)
            sides.append(np.array(calculator.results["dipole"], dtype=np.float64))
        columns.append((sides[0] - sides[1]) / (2.0 * strength))
    return np.array(columns).T
