"""Phonons of a rock-salt crystal, with and without the splitting of optical modes.

The reference is known: ``omega_LO^2 - omega_TO^2 = 4 pi k_e Z^2 / (eps_inf V mu)``. Without a model
file the crystal is one of point charges; a model trained on it comes from
``rock_salt_labels.py``::

    python phonons_with_splitting.py rock_salt.pt
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ase import units
from ase.build import bulk
from ase.filters import FrechetCellFilter
from ase.io import read
from ase.optimize import BFGS
from models import calculator
from phonopy.phonon.band_structure import get_band_qpoints_and_path_connections

from les.figures import new_figure, save
from les.spectra.classical import RigidIons
from les.spectra.phonons import phonons, write_born
from les.units import COULOMB_CONSTANT

#: From X to the zone centre to L of a face-centred lattice.
PATH = [[[0.5, 0.0, 0.5], [0.0, 0.0, 0.0], [0.5, 0.5, 0.5]]]


def main(argv: list[str] | None = None) -> None:
    """Compute force constants, print the splitting and draw both band structures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--structure", type=Path, help="primitive cell (sodium chloride)")
    parser.add_argument("--relax", action="store_true", help="the cell, too, if there is a stress")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--eps-inf", type=float, help="(that of the model)")
    parser.add_argument("--output", type=Path, default=Path("."), help="folder")
    arguments = parser.parse_args(argv)

    crystal = bulk("NaCl", "rocksalt", a=5.69)
    if arguments.structure:
        crystal = read(arguments.structure)
    model = calculator(arguments.model, RigidIons, arguments.eps_inf)
    if arguments.relax:
        crystal.calc = model
        with BFGS(FrechetCellFilter(crystal), logfile=None) as optimiser:
            optimiser.run(fmax=1e-4, steps=200)
        print(f"edge of the cubic cell {(4 * crystal.get_volume()) ** (1 / 3):.3f} A")
    charges = write_born(model, crystal, arguments.output / "BORN")
    for symbol, tensor in zip(crystal.symbols, charges, strict=True):
        print(f"{symbol} {np.trace(tensor) / 3:+.4f} e")

    phonon = phonons(model, crystal, 3 * [arguments.repeats])
    epsilon = phonon.nac_params["dielectric"][0, 0]
    phonon.run_qpoints([[0, 0, 0]], nac_q_direction=[1, 0, 0])
    transverse, longitudinal = phonon.qpoints.frequencies[0][[3, 5]]
    masses = crystal.get_masses()
    squared = 4 * np.pi * COULOMB_CONSTANT * (np.trace(charges[0]) / 3) ** 2
    squared /= epsilon * crystal.get_volume() * np.prod(masses) / masses.sum()
    splitting = np.sqrt(squared) / (2 * np.pi) * units.s * 1e-12
    print(f"TO {transverse:.3f} THz, LO {longitudinal:.3f} THz")
    print(f"sqrt(LO^2 - TO^2) {np.sqrt(longitudinal**2 - transverse**2):.3f} THz")
    print(f"from the charges  {splitting:.3f} THz")

    points, connections = get_band_qpoints_and_path_connections(PATH, npoints=41)
    figure = new_figure(5.0, 4.0)
    axes = figure.subplots()
    for nac_params, style, label in (
        (phonon.nac_params, "C0-", "with Born effective charges"),
        (None, "C3:", "without"),
    ):
        phonon.nac_params = nac_params
        phonon.run_band_structure(points, path_connections=connections)
        bands = phonon.band_structure
        for distances, frequencies in zip(bands.distances, bands.frequencies, strict=True):
            lines = axes.plot(distances, frequencies, style)
        lines[0].set_label(label)
    ticks = [bands.distances[0][0], bands.distances[0][-1], bands.distances[1][-1]]
    axes.set_xticks(ticks, ["X", r"$\Gamma$", "L"])
    axes.set(ylabel="frequency [THz]", xlim=(ticks[0], ticks[-1]), title=str(crystal.symbols))
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.legend(loc="lower center")
    save(figure, arguments.output / "phonons_with_splitting.png")


if __name__ == "__main__":
    main()
