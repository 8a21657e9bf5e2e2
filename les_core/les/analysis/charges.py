"""Charges of a model on a file of structures: what they are, sum to, and agree with."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from les.analysis.environments import environments
from les.analysis.references import References, survey
from les.analysis.statistics import Sample, Spread
from les.backends.attempt import attempt
from les.data.atoms import ANY_AXES, UnusedLabels, check_atoms, unused_labels_told
from les.data.structure_files import entries
from les.data.total_charge import total_charge
from les.response.agreement import Agreements
from les.response.dipoles import dipole_moments
from les.response.quadrupoles import quadrupole_moments

logger = logging.getLogger("les")

Array = NDArray[np.float64]


class Kind(NamedTuple):
    """Atoms that are looked at together.

    Attributes:
        total_charge: total charge of their structures [e].
        element: their chemical symbol.
        environment: see :func:`environments`; empty for all of the element.
    """

    total_charge: float
    element: str
    environment: str = ""


@dataclass
class Group:
    """Charges of the atoms of one :class:`Kind` [e].

    Attributes:
        charges: those of the model.
        reference: the references, of the atoms that have one.
        error: charges less references.
    """

    charges: Spread = field(default_factory=Spread)
    reference: Spread = field(default_factory=Spread)
    error: Spread = field(default_factory=Spread)


@dataclass
class Structure:
    """What is known of one structure.

    Attributes:
        frame: its place in the file.
        atoms: ``ase.Atoms``.
        total_charge: as the file says [e], 0 where it says nothing.
        charges: ``[n_atoms]`` [e].
        dipole: ``[3]`` [e A], of open structures; about the mean of the positions, of charges that
            are shifted evenly to sum to the total charge.
        quadrupole: ``[3, 3]`` [e A^2] with its trace, of the same charges about the same point.
        labels: ``charges``, ``dipole`` and ``quadrupole`` of the file, ``None`` for none.
    """

    frame: int
    atoms: Any
    total_charge: float
    charges: Array
    dipole: Array | None
    quadrupole: Array | None
    labels: dict[str, Any]


@dataclass
class ChargeAnalysis:
    """Charges of all structures of a file, in memory that does not grow with the file.

    Attributes:
        references: what they are compared with.
        groups: kind of atoms -> their charges, of elements and of environments.
        sums: total charge -> sums of the charges of the structures that have it [e].
        deviations: sums of charges less total charges [e].
        agreements: figures of merit against the references.
        sample: atomic number, reference and charge of some atoms.
        n_periodic: number of structures that have no moments because they are periodic.
        n_ions: number of open structures whose moments depend on the origin.
    """

    references: References
    groups: dict[Kind, Group] = field(default_factory=lambda: defaultdict(Group))
    sums: dict[float, Spread] = field(default_factory=lambda: defaultdict(Spread))
    deviations: Spread = field(default_factory=Spread)
    agreements: Agreements = field(default_factory=Agreements)
    sample: Sample = field(default_factory=Sample)
    n_periodic: int = 0
    n_ions: int = 0

    def add(self, structure: Structure) -> None:
        """Count one structure."""
        atoms, charges, total = structure.atoms, structure.charges, structure.total_charge
        reference = structure.labels["charges"]
        symbols = atoms.get_chemical_symbols()
        rows: dict[Kind, list[int]] = defaultdict(list)
        for index, (symbol, name) in enumerate(zip(symbols, environments(atoms), strict=True)):
            rows[Kind(total, symbol)].append(index)
            rows[Kind(total, symbol, name)].append(index)
        for kind, members in rows.items():
            group = self.groups[kind]
            group.charges.add(charges[members])
            if reference is not None:
                group.reference.add(reference[members])
                group.error.add(charges[members] - reference[members])
        self.sums[total].add(charges.sum(keepdims=True))
        self.deviations.add(charges.sum(keepdims=True) - total)
        if reference is not None:
            self.sample.add(atoms.numbers.astype(float), reference, charges)
        results = {"charges": charges}
        if structure.dipole is None or structure.quadrupole is None:
            self.n_periodic += 1
        else:
            results |= {"dipole": structure.dipole, "quadrupole": structure.quadrupole}
            self.n_ions += total != 0.0
        self.agreements.add(atoms, results, structure.labels)

    def kinds(self) -> list[Kind]:
        """Kinds of atoms: elements, each before its environments, the frequent ones first."""
        found: Counter[Kind] = Counter({kind: x.charges.n for kind, x in self.groups.items()})

        def place(kind: Kind) -> tuple[Any, ...]:
            return kind.total_charge, kind.element, kind.environment != "", -found[kind], kind

        return sorted(found, key=place)

    def warn(self, structures: Path) -> None:
        """Log what was not compared, and why."""
        if self.references.unused:
            told = ", ".join(sorted(self.references.unused))
            logger.warning(
                "%s also has %s, which is not used here: --reference-charges NAME compares other "
                "charges, `les predict --bec` Born effective charges",
                structures,
                told,
            )
        self.agreements.warn(structures)


def analyse_charges(
    calculator: Any,
    structures: str | Path,
    reference_charges: str | None = None,
    each: Callable[[Structure], None] | None = None,
) -> ChargeAnalysis:
    """Look at the charges that a calculator gives to the structures of a file.

    Nothing is fitted to a reference: neither the sign of the charges nor their scale.

    Args:
        calculator: any ASE calculator whose results have ``charges`` [e].
        structures: a file of any format that ASE reads, of which one structure at a time is kept.
        reference_charges: the key of the charges to compare with, see
            :func:`les.analysis.references.survey`.
        each: is called with each structure.

    Raises:
        DataError: as :func:`les.analysis.references.survey`.
        ValueError: for a calculator that has no charges, and for a structure that cannot be
            evaluated; the message names file and frame.
    """
    from tqdm import tqdm

    structures = Path(structures)
    _require_charges(calculator)
    analysis = ChargeAnalysis(survey(structures, reference_charges))
    unused = UnusedLabels(getattr(calculator, "used_labels", ()))
    use = partial(_of_atoms, calculator, analysis.references)
    with tqdm(total=analysis.references.n_structures, unit="structure") as progress:
        for frame, (where, load) in enumerate(entries(structures)):
            structure = attempt(where, load, partial(use, where, frame))
            unused.add(structure.atoms)
            analysis.add(structure)
            if each is not None:
                each(structure)
            progress.update()
    unused.warn(structures)
    analysis.warn(structures)
    return analysis


def _of_atoms(
    calculator: Any, references: References, where: str, frame: int, atoms: Any
) -> Structure:
    check_atoms(atoms, ANY_AXES)
    total = total_charge(atoms, *getattr(calculator, "total_charge_names", ()))
    labels = references.labels(atoms, where)
    with unused_labels_told():
        charges = np.array(calculator.get_property("charges", atoms), dtype=np.float64)
    if charges.size != len(atoms):
        raise ValueError(
            f"the calculator must give one charge for each of {len(atoms)} atoms, got charges of "
            f"shape {list(charges.shape)}"
        )
    charges = charges.reshape(-1)
    dipole = quadrupole = None
    if not atoms.pbc.any():
        dipole, quadrupole = _moments(charges, atoms.positions, total)
    return Structure(frame, atoms, total, charges, dipole, quadrupole, labels)


def _moments(charges: Array, positions: Array, total: float) -> tuple[Array, Array]:
    """Dipole ``[3]`` and quadrupole ``[3, 3]`` about the mean of the positions."""
    with torch.device("cpu"):
        q = torch.from_numpy(charges - (charges.sum() - total) / len(charges))
        arms = torch.from_numpy(positions - positions.mean(axis=0))
        owner = torch.zeros(len(charges), dtype=torch.long)
        dipole = dipole_moments(q, arms, owner, 1, remove_mean=False)
        quadrupole = quadrupole_moments(q, arms, owner, 1, remove_mean=False)
    return dipole[0].numpy(), quadrupole[0].numpy()


def _require_charges(calculator: Any) -> None:
    """Raise ``ValueError`` for a calculator that has no charges, and say what it has."""
    there = list(getattr(calculator, "implemented_properties", ()))
    if "charges" in there:
        return
    if "latent_charges" in there:
        raise ValueError(
            "the model has several charges on each atom, latent_charges, and so none to look at"
        )
    if getattr(calculator, "les_config", calculator) is None:
        raise ValueError("the model has no LES, and so no charges")
    raise ValueError(f"the calculator has no charges, only {', '.join(there) or 'no results'}")
