"""A molecule in a static electric field: its total energy stays, its dipole turns.

python molecule_in_a_field.py model.pt --structure molecule.xyz
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ase import units
from ase.io import read
from ase.md.verlet import VelocityVerlet
from models import calculator

from les.figures import new_figure, save
from les.spectra.classical import FlexibleWater, water_molecule
from les.spectra.field import HomogeneousField


def main(argv: list[str] | None = None) -> None:
    """Run molecular dynamics in the field and draw what it does."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--structure", type=Path, help="(a water molecule)")
    parser.add_argument("--field", type=float, default=0.1, help="along x [V/A]")
    parser.add_argument("--duration", type=float, default=1.0, help="[ps]")
    parser.add_argument("--timestep", type=float, default=0.25, help="[fs]")
    parser.add_argument("--output", type=Path, default=Path("."), help="folder")
    arguments = parser.parse_args(argv)

    atoms = read(arguments.structure) if arguments.structure else water_molecule()
    model = calculator(arguments.model, FlexibleWater)
    atoms.calc = HomogeneousField(model, [arguments.field, 0.0, 0.0])
    dynamics = VelocityVerlet(atoms, arguments.timestep * units.fs)
    rows = []

    def note() -> None:
        bare = model.results["energy"] + atoms.get_kinetic_energy()
        dipole = atoms.calc.results["dipole"][0]
        time = dynamics.get_time() / (1000 * units.fs)
        rows.append((time, atoms.get_total_energy(), bare, dipole))

    dynamics.attach(note, interval=4)
    dynamics.run(round(1000 * arguments.duration / arguments.timestep))
    time, total, bare, dipole = np.array(rows).T
    print(f"{time[-1]:g} ps in {arguments.field:g} V/A")
    print(f"work of the field up to {np.abs(bare - bare[0]).max():.3g} eV")
    print(f"total energy: {np.polyfit(time, total, 1)[0]:.2g} eV/ps, scatter {total.std():.2g} eV")

    figure = new_figure(6.0, 5.0)
    energies, turning = figure.subplots(2, sharex=True)
    energies.plot(time, bare - bare[0], "C3", label="of the molecule alone")
    energies.plot(time, total - total[0], "C0", label="with that in the field")
    energies.set_ylabel("total energy [eV]")
    energies.set_ylim(top=1.3 * np.abs(bare - bare[0]).max())
    energies.legend(loc="upper right", ncols=2)
    turning.plot(time, dipole, "C0")
    turning.set(xlabel="time [ps]", ylabel=r"dipole along the field [e $\mathrm{\AA}$]")
    save(figure, arguments.output / "molecule_in_a_field.png")


if __name__ == "__main__":
    main()
