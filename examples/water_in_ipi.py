"""Path-integral molecular dynamics in i-PI with a model's forces, charges and dipole of each bead.

python water_in_ipi.py model.pt --structure water.xyz

It writes the files that i-PI reads, and runs it. i-PI asks for forces through ipi_driver.py.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
from ase.io import read, write
from ase.units import Bohr

from les.figures import new_figure, save
from les.spectra.classical import water_box

HERE = Path(__file__).parent

INPUT = """\
<simulation verbosity='low'>
  <output prefix='water'>
    <properties stride='1' filename='out'>
      [ step, time{{picosecond}}, conserved{{electronvolt}}, temperature{{kelvin}},
        potential{{electronvolt}} ]
    </properties>
    <trajectory filename='dipole' stride='1' extra_type='dipole'> extras </trajectory>
    <trajectory filename='charges' stride='1' extra_type='charges'> extras </trajectory>
  </output>
  <total_steps>{steps}</total_steps>
  <prng><seed>1</seed></prng>
  <ffdirect name='les'>
    <pes>custom</pes>
    <pes_path>{driver}</pes_path>
    <parameters>{{ template: {template}{model} }}</parameters>
  </ffdirect>
  <system>
    <initialize nbeads='{beads}'>
      <file mode='ase'>{template}</file>
      <velocities mode='thermal' units='kelvin'> {temperature} </velocities>
    </initialize>
    <forces><force forcefield='les'/></forces>
    <motion mode='dynamics'>
      <dynamics mode='nvt'>
        <timestep units='femtosecond'> {timestep} </timestep>
        <thermostat mode='pile_g'><tau units='femtosecond'> 50 </tau></thermostat>
      </dynamics>
    </motion>
    <ensemble><temperature units='kelvin'> {temperature} </temperature></ensemble>
  </system>
</simulation>
"""


def main(argv: list[str] | None = None) -> None:
    """Run i-PI and draw the dipole of each bead."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--structure", type=Path, help="(eight water molecules)")
    parser.add_argument("--beads", type=int, default=4)
    parser.add_argument("--temperature", type=float, default=300.0, help="[K]")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--timestep", type=float, default=0.25, help="[fs]")
    parser.add_argument("--output", type=Path, default=Path("."), help="folder")
    arguments = parser.parse_args(argv)

    atoms = read(arguments.structure) if arguments.structure else water_box()
    folder = arguments.output.resolve()
    write(folder / "start.xyz", atoms)
    model = "" if arguments.model is None else f", model: {arguments.model.resolve()}"
    text = INPUT.format(
        steps=arguments.steps,
        driver=HERE / "ipi_driver.py",
        template=folder / "start.xyz",
        model=model,
        beads=arguments.beads,
        temperature=arguments.temperature,
        timestep=arguments.timestep,
    )
    (folder / "input.xml").write_text(text)
    run = (
        "import sys; sys.path.insert(0, sys.argv[2]); from ipi.engine.simulation import Simulation;"
    )
    run += "Simulation.load_from_xml(open(sys.argv[1])).run()"
    subprocess.run(
        [sys.executable, "-c", run, str(folder / "input.xml"), str(HERE)], cwd=folder, check=True
    )

    dipoles = np.array(
        [
            np.loadtxt(
                folder / f"water.dipole_{bead:0{len(str(arguments.beads - 1))}d}", comments="#"
            )
            for bead in range(arguments.beads)
        ]
    )
    time = arguments.timestep * np.arange(dipoles.shape[1])
    print(f"{time[-1]:g} fs, {arguments.beads} beads, {len(atoms)} atoms")
    mean = Bohr * dipoles.mean(axis=(0, 1))
    print(f"mean dipole {np.round(mean, 3)} e A")
    figure = new_figure()
    axes = figure.subplots()
    axes.plot(time, Bohr * np.linalg.norm(dipoles, axis=2).T, linewidth=0.8)
    axes.set(xlabel="time [fs]", ylabel=r"dipole of each bead [e $\mathrm{\AA}$]")
    save(figure, folder / "water_in_ipi.png")


if __name__ == "__main__":
    main()
