"""Infrared spectrum of liquid water, from molecular dynamics.

``les ir run`` does the same in one command. Without a model file, a classical model shows how it
goes, in a minute::

    python infrared_of_water.py water.pt --structure water.xyz --production 20
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ase.io import read
from models import calculator

from les.spectra.classical import FlexibleWater, water_box
from les.spectra.dielectric import static_dielectric_constant
from les.spectra.dynamics import run
from les.spectra.experiment import check_overlap, read_experiment
from les.spectra.infrared import infrared_spectrum
from les.spectra.peaks import peaks
from les.spectra.pictures import draw_spectrum
from les.spectra.protocol import Protocol

#: End of the spectrum [1/cm].
HIGHEST = 4500.0


def main(argv: list[str] | None = None) -> None:
    """Run, or go on, and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--structure", type=Path, help="(8 molecules)")
    parser.add_argument("--equilibration", type=float, default=0.2, help="[ps]")
    parser.add_argument("--production", type=float, default=1.0, help="[ps]")
    parser.add_argument("--resolution", type=float, default=100.0, help="[1/cm]")
    parser.add_argument("--eps-inf", type=float, default=1.78)
    parser.add_argument("--experiment", type=Path)
    parser.add_argument("--output", type=Path, default=Path("."), help="folder")
    arguments = parser.parse_args(argv)

    measured = None
    if arguments.experiment:
        measured = read_experiment(arguments.experiment)
        check_overlap(measured, HIGHEST, arguments.experiment)
    atoms = read(arguments.structure) if arguments.structure else water_box()
    model = calculator(arguments.model, FlexibleWater, arguments.eps_inf)
    protocol = Protocol(
        temperature=300.0,
        equilibration=arguments.equilibration,
        production=arguments.production,
        friction=0.05,
    )
    # Whatever ends this, the same command goes on.
    result = run(model, atoms, protocol, arguments.output / "currents.csv")
    series = result.series
    print(f"{series.duration / 1000:g} ps at {series.mean_temperature:.0f} K")
    print(f"drift of the energy {1000 * result.drift:.2g} meV/ps")

    spectrum = infrared_spectrum(series, arguments.resolution, arguments.eps_inf, HIGHEST)
    for peak in peaks(spectrum):
        print(f"maximum at {peak.wavenumber:.0f} +- {peak.error:.0f} 1/cm")
    constant = static_dielectric_constant(series, arguments.eps_inf)
    print(f"static dielectric constant {constant.value:.1f} +- {constant.error:.1f}")
    spectrum.write(arguments.output / "spectrum.csv")
    title = f"{len(atoms) // 3} molecules of water, {series.duration / 1000:g} ps"
    draw_spectrum(spectrum, arguments.output / "infrared_of_water.png", title, measured)


if __name__ == "__main__":
    main()
