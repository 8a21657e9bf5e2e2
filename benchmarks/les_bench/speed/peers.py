"""Sums of other packages that ``les.Ewald`` can be measured against, and their settings.

LES has Gaussian charges. To the peers these are a device: they add the short-range part that
turns them into points. Here it is left out, and the width is that of LES, so that what remains
is the sum of LES but for a constant where the cell is charged: the peers also subtract
``pi k_e sigma^2 Q^2 / V``. Forces do not feel it; it is left in, since taking it out takes time.

Every contestant is a few families of settings that differ in one number, the coarsest first;
the families of a mesh are its orders of interpolation, the highest first.
Each gets charges, positions, cells and the batch index and computes everything else in the call.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from les import Ewald
from les.units import COULOMB_CONSTANT
from les_bench.speed.cases import Energy, energies_of
from les_bench.speed.naive import naive_energy

SIGMA = 1.0

#: Spacing of meshes, half the shortest wavelength of k-points [A]; 16 to the octave.
SPACINGS = tuple(1.6 * 2.0 ** (-i / 16) for i in range(49))

#: ``accuracy`` of les, 16 to the decade.
ACCURACIES = tuple(10.0 ** (-1.0 - i / 16) for i in range(97))

#: Atoms of a structure above which tables of all atoms and k-points do not fit in memory.
DENSE_ATOMS = 2000

#: The same for the meshes of torch-pme's PME, finer than others at the same error.
PME_ATOMS = 50000


@dataclass(frozen=True)
class Family:
    """Settings of one contestant that differ in ``ladder``'s number alone, coarse to fine."""

    name: str
    make: Callable[[float], Energy]
    #: The setting in words, with a place for the number.
    text: str
    ladder: tuple[float, ...] = SPACINGS
    most_atoms: float = math.inf


def les_families() -> list[Family]:
    """``les.Ewald`` with the sharp cutoff: no peer has a smooth one."""

    def make(accuracy: float) -> Energy:
        return energies_of(Ewald(SIGMA, cutoff="sharp", accuracy=accuracy))

    return [Family("les", make, "accuracy={:.2g}", ACCURACIES)]


def plain_families() -> list[Family]:
    """The plain sum."""

    def make(dl: float) -> Energy:
        return functools.partial(naive_energy, sigma=SIGMA, dl=dl)

    ladder = tuple(2.0 * spacing for spacing in SPACINGS)
    return [Family("plain", make, "dl={:.3g}", ladder, DENSE_ATOMS)]


def torch_pme_families(dtype: torch.dtype) -> list[Family]:
    """Ewald, PME and P3M of torch-pme, one structure after the other.

    Its meshes take no batches, and its Ewald sum is slower with ``vmap`` on a CPU.

    Its ``lr_wavelength`` keeps half the k-points along each axis that it is documented to keep:
    it is the spacing, half the shortest wavelength. ``mesh_spacing`` is twice that of the mesh,
    before the number of points is rounded up to a power of two.
    """
    torchpme = importlib.import_module("torchpme")

    def one_by_one(calculator: Any) -> Energy:
        calculator = calculator.to(dtype)

        def energy(charges: Tensor, positions: Tensor, cell: Tensor, batch: Tensor) -> Tensor:
            sizes = torch.bincount(batch, minlength=len(cell)).tolist()
            structures = zip(charges.split(sizes), positions.split(sizes), cell, strict=True)
            energies = []
            for q, r, vectors in structures:
                # Its forward() adds the sum over neighbours to this.
                potential = calculator._compute_kspace(q[:, None], vectors, r)
                energies.append(q @ potential[:, 0])
            return torch.stack(energies)

        return energy

    def potential() -> Any:
        return torchpme.CoulombPotential(smearing=SIGMA, prefactor=COULOMB_CONSTANT)

    def ewald(wavelength: float) -> Energy:
        return one_by_one(torchpme.EwaldCalculator(potential(), lr_wavelength=wavelength))

    def mesh(kind: str, nodes: int) -> Family:
        def make(spacing: float) -> Energy:
            calculator = getattr(torchpme, f"{kind}Calculator")
            return one_by_one(calculator(potential(), spacing, interpolation_nodes=nodes))

        text = f"{nodes} nodes, mesh_spacing={{:.3g}}"
        ladder = tuple(2.0 * spacing for spacing in SPACINGS)
        most_atoms = PME_ATOMS if kind == "PME" else math.inf
        return Family(f"torch-pme {kind}", make, text, ladder, most_atoms)

    return [
        Family("torch-pme Ewald", ewald, "lr_wavelength={:.3g}", SPACINGS, DENSE_ATOMS),
        *(mesh("PME", nodes) for nodes in (7, 6, 5, 4)),
        *(mesh("P3M", nodes) for nodes in (5, 4, 3)),
    ]


def nvalchemi_families(dtype: torch.dtype) -> list[Family]:
    """Ewald and PME of nvalchemi-toolkit-ops; PME of orders 7 and 8 returns no forces at all."""
    sums = importlib.import_module("nvalchemiops.torch.interactions.electrostatics")
    alpha = 1.0 / (math.sqrt(2.0) * SIGMA)

    def system(batch: Tensor, cell: Tensor) -> dict[str, Any]:
        index = batch.to(torch.int32) if len(cell) > 1 else None
        return {"batch_idx": index, "energy_reduction": "system"}

    def ewald(k_max: float) -> Energy:
        def energy(charges: Tensor, positions: Tensor, cell: Tensor, batch: Tensor) -> Tensor:
            k = sums.generate_k_vectors_ewald_summation(cell, k_max)
            width = torch.full_like(cell[:, 0, 0], alpha)
            found = sums.ewald_reciprocal_space(
                positions, charges, cell, k, width, **system(batch, cell)
            )
            return COULOMB_CONSTANT * found

        return energy

    def mesh(order: int) -> Family:
        def make(spacing: float) -> Energy:
            def energy(charges: Tensor, positions: Tensor, cell: Tensor, batch: Tensor) -> Tensor:
                found = sums.pme_reciprocal_space(
                    positions,
                    charges,
                    cell,
                    alpha,
                    mesh_spacing=spacing,
                    spline_order=order,
                    **system(batch, cell),
                )
                return COULOMB_CONSTANT * found

            return energy

        return Family("nvalchemi PME", make, f"order {order}, mesh_spacing={{:.3g}}")

    k_max = tuple(math.pi / spacing for spacing in SPACINGS)
    return [
        Family("nvalchemi Ewald", ewald, "k_cutoff={:.3g}", k_max, DENSE_ATOMS),
        *(mesh(order) for order in (6, 5, 4)),
    ]


#: Packages that need not be there, and their families.
PEERS = {"torch-pme": torch_pme_families, "nvalchemi-toolkit-ops": nvalchemi_families}


def contestants(dtype: torch.dtype) -> tuple[list[Family], list[str]]:
    """Families of all that is installed, those of les last; versions, and what is missing."""
    families, notes = plain_families(), []
    for package, make in PEERS.items():
        try:
            families += make(dtype)
            notes.append(f"{package} {importlib.metadata.version(package)}")
        except ImportError as error:
            notes.append(
                f"{package} is left out ({error}): `pip install {package}`, "
                'or `pip install "les[peers]"` for all'
            )
    return families + les_families(), notes
