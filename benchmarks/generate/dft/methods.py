"""The electronic structure methods of the three parts, as CP2K knows them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

#: Fixed parts of the input that all methods share, see :mod:`dft.cp2k`.
D3 = """\
&VDW_POTENTIAL
  POTENTIAL_TYPE PAIR_POTENTIAL
  &PAIR_POTENTIAL
    TYPE DFTD3
    PARAMETER_FILE_NAME dftd3.dat
    REFERENCE_FUNCTIONAL revPBE
    R_CUTOFF 15.0
  &END PAIR_POTENTIAL
&END VDW_POTENTIAL"""

REVPBE_D3 = f"""\
&XC_FUNCTIONAL
  &PBE
    PARAMETRIZATION REVPBE
  &END PBE
&END XC_FUNCTIONAL
{D3}"""

PBE = """\
&XC_FUNCTIONAL PBE
&END XC_FUNCTIONAL"""

#: For insulators whose starting density is that of free atoms.
DIAGONALISATION = """\
MAX_SCF 40
MAX_DIIS 8
EPS_DIIS 0.1
&DIAGONALIZATION
  ALGORITHM STANDARD
&END DIAGONALIZATION
&MIXING
  METHOD DIRECT_P_MIXING
  ALPHA 0.4
&END MIXING"""

#: For insulators whose orbitals are nearly right; three times as many steps without that.
ORBITAL_TRANSFORMATION = """\
MAX_SCF 30
&OT
MINIMIZER {minimiser}
PRECONDITIONER FULL_ALL
ENERGY_GAP 0.08
&END OT
&OUTER_SCF
EPS_SCF {{convergence}}
MAX_SCF 3
&END OUTER_SCF"""
DIIS = ORBITAL_TRANSFORMATION.format(minimiser="DIIS")
CONJUGATE_GRADIENTS = ORBITAL_TRANSFORMATION.format(minimiser="CG")

#: For a metal on an oxide: gold's levels and those of the dopants are close to one another.
FERMI_DIRAC = """\
ADDED_MOS 60
&SMEAR ON
  METHOD FERMI_DIRAC
  ELECTRONIC_TEMPERATURE [K] 600
&END SMEAR"""
SMEARED = """\
MAX_SCF 120
&DIAGONALIZATION
  ALGORITHM STANDARD
&END DIAGONALIZATION
&MIXING
  METHOD BROYDEN_MIXING
  ALPHA 0.2
  NBROYDEN {history}
&END MIXING"""


#: Fields of a method that change how soon a result is there, not what it is.
WAYS = (
    "self_consistency",
    "self_consistency_in_field",
    "first_self_consistency",
    "first_cutoff",
)


@dataclass(frozen=True)
class Method:
    """All that an energy depends on, except for the structure, its charge and a field.

    Attributes:
        level: what the data card and the manifest call it.
        exchange_correlation: content of CP2K's ``&XC``.
        self_consistency: ways to the self-consistent density, contents of ``&SCF``; the next one
            is tried where one fails.
        self_consistency_in_field: the same with an electric field, for which CP2K wants orbitals
            that are minimised.
        first_self_consistency: the same of a cheap first calculation on a coarse grid, whose
            orbitals are where the one that counts begins.
        first_cutoff: the coarse grid's cutoff, Ry; None does without that calculation.
        periodic: three-dimensional periodicity with stress; otherwise open boundaries
            with a dipole.
        cutoff: of the finest grid, Ry.
        relative_cutoff: REL_CUTOFF, Ry.
        occupations: part of ``&SCF``, if they are not fixed.
        quickstep: ``GPW``, or ``GAPW_XC``, which adds what the grid misses of the exchange and
            correlation near the nuclei.
        precision: EPS_DEFAULT.
        convergence: EPS_SCF; ``convergence_in_field`` that of small differences in a field.
        potentials: element to pseudopotential, where it is not ``GTH-PBE``.
        bases: element to basis, where it is not ``DZVP-MOLOPT-SR-GTH``.
    """

    level: str
    exchange_correlation: str
    self_consistency: tuple[str, ...]
    self_consistency_in_field: tuple[str, ...]
    periodic: bool
    cutoff: float
    relative_cutoff: float
    occupations: str = ""
    quickstep: str = "GPW"
    precision: float = 1e-8
    convergence: float = 3e-6
    convergence_in_field: float = 1e-6
    first_self_consistency: str = ""
    first_cutoff: int | None = None
    potentials: tuple[tuple[str, str], ...] = ()
    bases: tuple[tuple[str, str], ...] = ()

    @property
    def surface(self) -> dict[str, object]:
        """What the energy surface depends on: not the way to self-consistency."""
        return {name: value for name, value in asdict(self).items() if name not in WAYS}

    @property
    def first(self) -> Method | None:
        """The method of the cheap first calculation, if there is one."""
        if self.first_cutoff is None:
            return None
        return replace(
            self,
            self_consistency=(self.first_self_consistency,),
            cutoff=self.first_cutoff,
            relative_cutoff=self.first_cutoff / 10,
            quickstep="GPW",
            precision=1e-6,
            convergence=1e-5,
        )

    def potential(self, element: str) -> str:
        """Name of the pseudopotential of ``element``."""
        return dict(self.potentials).get(element, "GTH-PBE")

    def basis(self, element: str) -> str:
        """Name of the basis set of ``element``."""
        return dict(self.bases).get(element, "DZVP-MOLOPT-SR-GTH")


WATER = Method(
    level="revPBE-D3/DZVP-MOLOPT-SR-GTH",
    exchange_correlation=REVPBE_D3,
    self_consistency=(DIIS, CONJUGATE_GRADIENTS),
    self_consistency_in_field=(DIIS, CONJUGATE_GRADIENTS),
    first_self_consistency=DIAGONALISATION,
    first_cutoff=300,
    periodic=True,
    cutoff=900,
    relative_cutoff=40,
)
MOLECULES = Method(
    level="revPBE-D3/DZVP-MOLOPT-SR-GTH, open",
    exchange_correlation=REVPBE_D3,
    self_consistency=(DIIS, CONJUGATE_GRADIENTS),
    self_consistency_in_field=(DIIS, CONJUGATE_GRADIENTS),
    first_self_consistency=DIAGONALISATION,
    first_cutoff=200,
    periodic=False,
    quickstep="GAPW_XC",
    cutoff=500,
    relative_cutoff=40,
)
#: Two valence electrons of magnesium: with ten, a cutoff of more than 1000 Ry would be needed.
AU2_MGO = Method(
    level="PBE/DZVP-MOLOPT-SR-GTH, Fermi-Dirac 600 K",
    exchange_correlation=PBE,
    occupations=FERMI_DIRAC,
    self_consistency=(SMEARED.format(history=8), SMEARED.format(history=4)),
    self_consistency_in_field=(),
    periodic=True,
    cutoff=450,
    relative_cutoff=50,
    potentials=(("Mg", "GTH-PBE-q2"),),
    bases=(("Mg", "DZVP-MOLOPT-SR-GTH-q2"),),
)
