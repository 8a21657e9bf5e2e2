"""Molecular dynamics in OpenMM with a model's forces, and its charges and dipole along the way.

python water_in_openmm.py model.pt --structure water.xyz

OpenMM calls the ASE calculator of the model for every step, and the calculator keeps what the last
structure had besides energy and forces.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import openmm
from ase import units
from ase.io import read
from models import calculator
from openmm import app, unit
from openmmml import MLPotential

from les.figures import new_figure, save
from les.spectra.classical import FlexibleWater, water_box


def topology_of(atoms):
    """The topology of OpenMM for a structure of ASE: elements and, where it is periodic, a cell."""
    topology = app.Topology()
    residue = topology.addResidue("MOL", topology.addChain())
    for symbol in atoms.symbols:
        topology.addAtom(symbol, app.Element.getBySymbol(symbol), residue)
    if atoms.pbc.all():
        topology.setPeriodicBoxVectors(0.1 * atoms.cell[:] * unit.nanometer)
    return topology


def main(argv: list[str] | None = None) -> None:
    """Run dynamics at constant temperature and draw temperature and dipole."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--structure", type=Path, help="(eight water molecules)")
    parser.add_argument("--temperature", type=float, default=300.0, help="[K]")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--every", type=int, default=10, help="steps between values")
    parser.add_argument("--timestep", type=float, default=0.25, help="[fs]")
    parser.add_argument("--output", type=Path, default=Path("."), help="folder")
    arguments = parser.parse_args(argv)

    atoms = read(arguments.structure) if arguments.structure else water_box()
    model = calculator(arguments.model, FlexibleWater)
    topology = topology_of(atoms)
    system = MLPotential("ase").createSystem(topology, calculator=model)
    integrator = openmm.LangevinMiddleIntegrator(
        arguments.temperature * unit.kelvin,
        1.0 / unit.picosecond,
        arguments.timestep * unit.femtosecond,
    )
    integrator.setRandomNumberSeed(1)
    platform = openmm.Platform.getPlatformByName("Reference")
    simulation = app.Simulation(topology, system, integrator, platform)
    simulation.context.setPositions(0.1 * atoms.positions * unit.nanometer)
    simulation.context.setVelocitiesToTemperature(arguments.temperature * unit.kelvin, 1)

    rows = []
    for step in range(0, arguments.steps + 1, arguments.every):
        if step:
            simulation.step(arguments.every)
        state = simulation.context.getState(energy=True, positions=True)
        energy = state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)
        energy *= units.kJ / units.mol
        atoms.positions = state.getPositions(asNumpy=True).value_in_unit(unit.angstrom)
        # The last structure that OpenMM asked for is this one: nothing is computed again.
        charges, dipole = model.results["charges"], model.results["dipole"]
        kinetic = state.getKineticEnergy().value_in_unit(unit.kilojoule_per_mole)
        temperature = 2.0 * kinetic * units.kJ / units.mol / (3 * len(atoms) * units.kB)
        rows.append((step * arguments.timestep, energy, temperature, *dipole, charges.sum()))
    time, energy, temperature, *dipole, total = np.array(rows).T
    model.calculate(atoms)
    difference = energy[-1] - model.results["energy"]
    print(f"{time[-1]:g} fs, temperature {temperature.mean():.0f} K, {len(atoms)} atoms")
    print(f"energy in OpenMM less that in ASE: {difference:.1e} eV")
    print(f"charges of the last structure sum to {total[-1]:.1e} e")
    print(f"its dipole is {np.round(rows[-1][3:6], 4)} e A")

    figure = new_figure(6.0, 5.0)
    upper, lower = figure.subplots(2, sharex=True)
    upper.plot(time, temperature, "C3")
    upper.set_ylabel("temperature [K]")
    for component, name in zip(dipole, "xyz", strict=True):
        lower.plot(time, component, label=name)
    lower.set(xlabel="time [fs]", ylabel=r"dipole [e $\mathrm{\AA}$]")
    lower.legend()
    save(figure, arguments.output / "water_in_openmm.png")


if __name__ == "__main__":
    main()
