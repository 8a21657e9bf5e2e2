"""The commands ``les ir`` and ``les born``."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from les.backends.arguments import add_model_options
from les.data.structure_files import one_structure
from les.optional_packages import optional
from les.parser import ArgumentParser
from les.spectra.arguments import load_model
from les.targets import check_target, claim

if TYPE_CHECKING:
    from les.spectra.experiment import Experiment
    from les.spectra.series import CurrentSeries

_IR = """\
Infrared spectra of a model with charges, and Raman spectra where these answer to a field.

  trajectory  from velocities of a trajectory that is there
  run         from molecular dynamics, which it runs: NVT, then NVE; the same command goes on after
              an interruption
  harmonic    frequencies and intensities of a molecule at its minimum, from the Hessian and Born
              effective charges
"""


def ir(argv: Sequence[str]) -> int:
    """Run ``les ir``; returns the exit status."""
    parser = ArgumentParser(
        prog="les ir", description=_IR, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    trajectory = commands.add_parser("trajectory", help="from a trajectory with velocities")
    run = commands.add_parser("run", help="run molecular dynamics first")
    harmonic = commands.add_parser("harmonic", help="harmonic modes of a molecule")
    trajectory.add_argument("model", type=Path, help="model file")
    trajectory.add_argument("trajectory", type=Path, help="of any format that ASE reads")
    trajectory.add_argument(
        "--interval", type=float, required=True, metavar="FS", help="time between frames [fs]"
    )
    run.add_argument("model", type=Path, help="model file")
    run.add_argument("structure", type=Path, help="where it begins; velocities are kept")
    for name, default, help in (
        ("temperature", 300.0, "of the thermostat [K]"),
        ("equilibration", 5.0, "length of the NVT part [ps]"),
        ("production", 20.0, "length of the NVE part [ps]; a longer one adds to what is there"),
        ("timestep", 0.5, "[fs]"),
        ("friction", 0.01, "of the thermostat [1/fs]"),
    ):
        run.add_argument(f"--{name}", type=float, default=default, help=f"{help} ({default:g})")
    run.add_argument("--every", type=int, default=4, help="steps from current to current (4)")
    run.add_argument("--seed", type=int, default=0, help="of velocities and thermostat (0)")
    harmonic.add_argument("model", type=Path, help="model file")
    harmonic.add_argument("structure", type=Path, help="a molecule")
    harmonic.add_argument("--no-relax", action="store_true", help="take the structure as it is")
    harmonic.add_argument(
        "--displacement", type=float, default=0.01, help="of finite differences [A] (0.01)"
    )
    for command in (trajectory, harmonic):
        command.add_argument(
            "--raman",
            action="store_true",
            help="Raman scattering of a molecule as well, by a model with charge equilibration",
        )
    for command in (trajectory, run, harmonic):
        command.add_argument(
            "-o", "--output", type=Path, default=Path("ir"), help="folder of the results (ir)"
        )
        command.add_argument("--force", action="store_true", help="replace results of another run")
        command.add_argument(
            "--resolution", type=float, default=20.0, help="full width of the lines [1/cm] (20)"
        )
        command.add_argument(
            "--highest", type=float, default=4500.0, help="end of the spectrum [1/cm] (4500)"
        )
        add_model_options(command)
    for command in (trajectory, run):
        command.add_argument(
            "--experiment",
            type=Path,
            metavar="FILE",
            help="table of a measured spectrum to draw beside: wavenumber, then n and k, or "
            "absorption, or any unit",
        )
    arguments = parser.parse_args(argv)
    if arguments.command == "harmonic":
        return _harmonic(arguments)
    return _spectrum(arguments)


def _spectrum(arguments: argparse.Namespace) -> int:
    from les.predict.journal import journal_path
    from les.spectra.experiment import check_overlap, read_experiment
    from les.spectra.infrared import check_resolution
    from les.spectra.phonons import high_frequency_constant

    optional("calorine.tools")  # before hours of molecular dynamics
    measured = None if arguments.experiment is None else read_experiment(arguments.experiment)
    folder = arguments.output
    running = arguments.command == "run"
    given = arguments.structure if running else arguments.trajectory
    currents = folder / "currents.csv"
    if running:
        protocol = _protocol(arguments)
        length = protocol.interval * (protocol.n_currents - 1)
        check_resolution(length, protocol.interval, arguments.resolution, arguments.highest)
    if measured is not None:
        check_overlap(measured, arguments.highest, arguments.experiment)
    known = running and journal_path(currents).exists()  # which says whose run it is
    names = ("currents.csv", "spectrum.csv", "spectrum.png", *_raman_files(arguments))
    claim(folder, names, [given], force=known or arguments.force)
    calculator, identity = load_model(arguments)
    eps_inf = high_frequency_constant(calculator)
    if running:
        from les.spectra.dynamics import run

        structure = one_structure(given)
        result = run(calculator, structure, protocol, currents, identity, arguments.force)
        series = result.series
        print(f"drift of the total energy: {1000 * result.drift:.3g} meV/ps")
    else:
        from les.spectra.trajectory import currents_of_trajectory

        series = currents_of_trajectory(
            calculator,
            given,
            arguments.interval,
            currents,
            identity,
            arguments.force,
            arguments.raman,
        )
    _report(series, eps_inf, arguments, measured)
    return 0


def _report(
    series: CurrentSeries,
    eps_inf: float,
    arguments: argparse.Namespace,
    measured: Experiment | None,
) -> None:
    """Write and print what follows from the currents."""
    from les.spectra.dielectric import static_dielectric_constant
    from les.spectra.infrared import infrared_spectrum
    from les.spectra.peaks import maxima, peaks
    from les.spectra.pictures import draw_raman, draw_spectrum
    from les.spectra.raman_spectrum import raman_spectrum
    from les.spectra.series import nyquist_limit

    folder = arguments.output
    length, temperature = f"{series.duration / 1000:.4g} ps", f"{series.mean_temperature:.1f} K"
    limit = f"{nyquist_limit(series.interval):.0f} 1/cm"
    print(
        f"{length} at {temperature}, a current every {series.interval:g} fs (Nyquist limit "
        f"{limit}), eps_inf {eps_inf:g}"
    )
    spectrum = infrared_spectrum(series, arguments.resolution, eps_inf, arguments.highest)
    spectrum.write(folder / "spectrum.csv")
    title = f"{length}, {temperature}, classical nuclei, resolution {arguments.resolution:g} 1/cm"
    draw_spectrum(spectrum, folder / "spectrum.png", title, measured)
    for peak in peaks(spectrum, absorption=_is_absorption(measured)):
        print(f"maximum at {peak.wavenumber:.0f} 1/cm, {_told(peak.error)}")
    if measured is not None:
        inside = (measured.wavenumber >= 0) & (measured.wavenumber <= arguments.highest)
        grid, values = measured.wavenumber[inside], measured.values[inside]
        tops = ", ".join(f"{grid[top]:.0f}" for top, _, _ in maxima(values, 0.03))
        print(f"maxima of the measured spectrum ({measured.quantity}): {tops} 1/cm")
    if series.volume is not None:
        constant = static_dielectric_constant(series, eps_inf)
        print(
            f"static dielectric constant: {constant.value:.3g} +- {constant.error:.2g} "
            f"({constant.n_blocks} blocks)"
        )
        if not constant.converges:
            print(
                "warning: fluctuations of int J dt grow with the length of the trajectory: it is "
                "too short, or the structure conducts and has no static dielectric constant"
            )
    written = ["currents.csv", "spectrum.csv", "spectrum.png"]
    if series.polarisability is not None:
        written += _raman_files(arguments)
        scattered = raman_spectrum(series, arguments.resolution, arguments.highest)
        scattered.write(folder / "raman.csv")
        draw_raman(scattered, folder / "raman.png", title)
        tops = ", ".join(
            f"{scattered.wavenumber[top]:.0f}" for top, _, _ in maxima(scattered.intensity, 0.03)
        )
        print(f"maxima of the Raman spectrum: {tops} 1/cm")
    print(f"{folder}: {', '.join(written)}")


def _raman_files(arguments: argparse.Namespace) -> list[str]:
    return ["raman.csv", "raman.png"] if getattr(arguments, "raman", False) else []


def _is_absorption(measured: Experiment | None) -> bool:
    """Whether maxima are to be those of the absorption coefficient, as measured ones are."""
    return measured is not None and measured.quantity == "absorption"


def _told(error: float) -> str:
    if math.isnan(error):
        return "too short a trajectory for an error"
    return f"standard error {error:.0f} 1/cm"


def _protocol(arguments: argparse.Namespace) -> Any:
    from les.spectra.protocol import Protocol

    return Protocol(
        temperature=arguments.temperature,
        equilibration=arguments.equilibration,
        production=arguments.production,
        timestep=arguments.timestep,
        every=arguments.every,
        friction=arguments.friction,
        seed=arguments.seed,
    )


def _harmonic(arguments: argparse.Namespace) -> int:
    from les.spectra.harmonic import harmonic_modes, relaxed
    from les.spectra.pictures import draw_modes
    from les.spectra.raman import depolarisation, raman_activity

    folder = arguments.output
    names = ("modes.csv", "modes.png", "relaxed.xyz")
    claim(folder, names, [arguments.structure], force=arguments.force)
    calculator, _ = load_model(arguments)
    atoms = one_structure(arguments.structure)
    if not arguments.no_relax:
        atoms = relaxed(calculator, atoms)
        from ase.io import write

        from les.files import replacing

        with replacing(folder / "relaxed.xyz") as temporary:
            write(temporary, atoms.copy(), format="extxyz")
    modes = harmonic_modes(calculator, atoms, arguments.displacement, raman=arguments.raman)
    modes.write(folder / "modes.csv")
    draw_modes(modes, folder / "modes.png", arguments.resolution, str(atoms.symbols))
    columns = {"wavenumber [1/cm]": modes.wavenumber, "intensity [km/mol]": modes.intensity}
    if modes.polarisability_derivative is not None:
        columns["Raman activity [A^4/u]"] = raman_activity(modes.polarisability_derivative)
        columns["depolarisation"] = depolarisation(modes.polarisability_derivative)
    print("  ".join(columns))
    for row in zip(*columns.values(), strict=True):
        print("  ".join(f"{x:{len(name)}.2f}" for name, x in zip(columns, row, strict=True)))
    unstable = int((modes.wavenumber < 0).sum())
    if unstable:
        print(f"{unstable} imaginary modes, given as negative: the structure is no minimum")
    print(f"{folder}: modes.csv, modes.png")
    return 0


def born(argv: Sequence[str]) -> int:
    """Run ``les born``; returns the exit status."""
    parser = ArgumentParser(
        prog="les born",
        description="Write the file BORN of phonopy: Born effective charges and the "
        "high-frequency dielectric constant of a crystal.",
    )
    parser.add_argument("model", type=Path, help="model file")
    parser.add_argument("structure", type=Path, help="the primitive cell, relaxed")
    parser.add_argument("-o", "--output", type=Path, default=Path("BORN"), help="(BORN)")
    parser.add_argument("--force", action="store_true", help="replace OUTPUT if it is there")
    parser.add_argument(
        "--symprec", type=float, default=1e-5, help="what is the same place [A] (1e-5)"
    )
    add_model_options(parser)
    arguments = parser.parse_args(argv)
    from les.spectra.phonons import high_frequency_constant, write_born

    check_target(arguments.output, [arguments.model, arguments.structure], force=arguments.force)
    calculator, _ = load_model(arguments)
    atoms = one_structure(arguments.structure)
    charges = write_born(calculator, atoms, arguments.output, symprec=arguments.symprec)
    print("rows of Born effective charges: polarisation along x, y, z; columns: displacement [e]")
    for symbol, tensor in zip(atoms.symbols, charges, strict=True):
        rows = "  ".join(" ".join(f"{x:8.4f}" for x in row) for row in tensor)
        print(f"{symbol:2s}  {rows}")
    print(f"{arguments.output}: with eps_inf = {high_frequency_constant(calculator):g}")
    return 0
