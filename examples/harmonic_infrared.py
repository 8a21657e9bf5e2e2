"""Harmonic infrared spectrum of a molecule, and what its nuclei add to the polarisability.

``les ir harmonic`` does the same in one command::

    python harmonic_infrared.py model.pt --structure molecule.xyz
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ase.io import read
from models import calculator

from les.spectra.classical import FlexibleWater, water_molecule
from les.spectra.harmonic import harmonic_modes, relaxed
from les.spectra.pictures import draw_modes
from les.units import COULOMB_CONSTANT


def main(argv: list[str] | None = None) -> None:
    """Relax the molecule, print its modes and draw them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--structure", type=Path, help="(a water molecule)")
    parser.add_argument("--output", type=Path, default=Path("."), help="folder")
    arguments = parser.parse_args(argv)

    atoms = read(arguments.structure) if arguments.structure else water_molecule()
    model = calculator(arguments.model, FlexibleWater)
    molecule = relaxed(model, atoms)
    modes = harmonic_modes(model, molecule)
    for wavenumber, intensity in zip(modes.wavenumber, modes.intensity, strict=True):
        print(f"{wavenumber:8.1f} 1/cm {intensity:8.1f} km/mol")
    volumes = COULOMB_CONSTANT * np.linalg.eigvalsh(modes.polarisability)
    print(f"polarisability volume of the nuclei {volumes.round(3).tolist()} A^3")
    draw_modes(
        modes, arguments.output / "harmonic_infrared.png", 30.0, f"{molecule.symbols}, harmonic"
    )


if __name__ == "__main__":
    main()
