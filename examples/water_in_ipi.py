"""Path-integral molecular dynamics in i-PI with a model's forces, charges and dipole of each bead.

python water_in_ipi.py model.pt --structure water.xyz

It writes the files that i-PI reads, and runs it. i-PI asks for forces through ipi_driver.py: in its
own process, or with --drivers 2 in two others that it talks to by a UNIX socket, so that beads are
evaluated side by side.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
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
    <trajectory filename='charges' stride='1' extra_type='charges'> extras </trajectory>{bec}
  </output>
  <total_steps>{steps}</total_steps>
  <prng><seed>1</seed></prng>
  {forces}
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

#: Where forces come from: the model in i-PI itself, or processes that connect to a socket.
DIRECT = """\
<ffdirect name='les' pbc='false'>
    <pes>custom</pes> <pes_path>{driver}</pes_path>
    <parameters>{{ {parameters} }}</parameters>
  </ffdirect>"""
SOCKET = """\
<ffsocket name='les' mode='unix' pbc='false'>
    <address>{address}</address> <latency>1e-3</latency>
  </ffsocket>"""
BEC = "\n    <trajectory filename='bec' stride='1' extra_type='BEC'> extras </trajectory>"
#: What i-PI and its drivers put before the address of a socket.
PREFIX = "/tmp/ipi_"


def simulate(folder: Path, drivers: int, address: str, parameters: dict[str, str]) -> None:
    """Run i-PI on ``input.xml``, and what computes forces for it, until all are done."""
    run = "from ipi.engine.simulation import Simulation; import sys;"
    run += "Simulation.load_from_xml(open(sys.argv[1])).run()"
    path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    where = {"cwd": folder, "env": {**os.environ, "PYTHONPATH": path}}
    program = [sys.executable, Path(sys.executable).with_name("i-pi-driver-py"), "-u"]
    options = ",".join(f"{name}={value}" for name, value in parameters.items())
    program += ["-a", address, "-m", "custom", "-P", HERE / "ipi_driver.py", "-o", options]
    processes = [subprocess.Popen([sys.executable, "-c", run, folder / "input.xml"], **where)]
    try:
        while drivers and processes[0].poll() is None and not Path(PREFIX + address).exists():
            time.sleep(0.05)
        processes += [subprocess.Popen(program, **where) for _ in range(drivers)]
        while processes[0].poll() is None:
            if any(process.poll() for process in processes):
                raise SystemExit("a driver has failed; its message is above")
            time.sleep(0.05)
        if processes[0].returncode != 0:
            raise SystemExit("i-PI has failed; its message is above")
    finally:
        for process in processes:
            process.terminate()
            process.wait()
        Path(PREFIX + address).unlink(missing_ok=True)


def main(argv: list[str] | None = None) -> None:
    """Run i-PI and draw the dipole of each bead."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--structure", type=Path, help="(eight water molecules)")
    parser.add_argument("--beads", type=int, default=4)
    parser.add_argument(
        "--drivers", type=int, default=0, help="processes for the model (0: that of i-PI)"
    )
    parser.add_argument("--bec", action="store_true", help="write Born effective charges")
    parser.add_argument("--temperature", type=float, default=300.0, help="[K]")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--timestep", type=float, default=0.25, help="[fs]")
    parser.add_argument("--output", type=Path, default=Path("."), help="folder")
    arguments = parser.parse_args(argv)

    atoms = read(arguments.structure) if arguments.structure else water_box()
    folder = arguments.output.resolve()
    write(folder / "start.xyz", atoms)
    parameters = {"template": str(folder / "start.xyz"), "bec": str(arguments.bec)}
    if arguments.model is not None:
        parameters["model"] = str(arguments.model.resolve())
    address = f"les-{os.getpid()}"
    forces = (SOCKET if arguments.drivers else DIRECT).format(
        driver=HERE / "ipi_driver.py",
        parameters=", ".join(f"{name}: {value}" for name, value in parameters.items()),
        address=address,
    )
    text = INPUT.format(
        steps=arguments.steps,
        forces=forces,
        bec=BEC if arguments.bec else "",
        template=folder / "start.xyz",
        beads=arguments.beads,
        temperature=arguments.temperature,
        timestep=arguments.timestep,
    )
    (folder / "input.xml").write_text(text)
    simulate(folder, arguments.drivers, address, parameters)

    dipoles = np.array(
        [
            np.loadtxt(
                folder / f"water.dipole_{bead:0{len(str(arguments.beads - 1))}d}", comments="#"
            )
            for bead in range(arguments.beads)
        ]
    )
    times = arguments.timestep * np.arange(dipoles.shape[1])
    print(f"{times[-1]:g} fs, {arguments.beads} beads, {len(atoms)} atoms")
    mean = Bohr * dipoles.mean(axis=(0, 1))
    print(f"mean dipole {np.round(mean, 3)} e A")
    figure = new_figure()
    axes = figure.subplots()
    axes.plot(times, Bohr * np.linalg.norm(dipoles, axis=2).T, linewidth=0.8)
    axes.set(xlabel="time [fs]", ylabel=r"dipole of each bead [e $\mathrm{\AA}$]")
    save(figure, folder / "water_in_ipi.png")


if __name__ == "__main__":
    main()
