"""The command ``les md``."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from les.backends import model_path
from les.backends.arguments import add_model_options, identity_of_models, load_models
from les.data.structure_files import one_structure
from les.dynamics.ensemble import NEEDED, Ensemble
from les.dynamics.plan import Plan
from les.neighbours import SKIN
from les.parser import ArgumentParser
from les.targets import check_folder

_DESCRIPTION = """\
Molecular dynamics with a model, or with a committee of several.

OUTPUT gets the trajectory with momenta, forces, charges and dipoles, a log, and in the end a
picture of it. After an interruption the same command goes on where the last frame was written;
with more steps it adds to a run that has ended.
"""

#: Setting -> default where the ensemble has it, unit and what it is.
SETTINGS = {
    "temperature": (300.0, "K", "of the thermostat; nve: of velocities where START has none"),
    "friction": (0.01, "1/fs", "of the thermostat"),
    "pressure": (1.0, "bar", "of the barostat"),
    "barostat_time": (1000.0, "fs", "in which the volume follows the pressure"),
}


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit status."""
    arguments = _parser().parse_intermixed_args(argv)
    *models, start = arguments.files
    if not models:
        raise ValueError("les md needs a model file, and then a file with the structure to begin")
    plan = plan_of(arguments)
    from les.dynamics.log import draw, read_log, summary
    from les.dynamics.run import CHECKPOINT, FILES, LOG, PICTURE, TRAJECTORY, run

    folder = arguments.output
    known = (folder / CHECKPOINT).exists()  # which says whose run it is
    inputs = [*map(model_path, models), start]
    check_folder(folder, FILES, inputs, force=known or arguments.force)
    calculator, backends = load_models(arguments, models, bec=arguments.bec, skin=arguments.skin)
    atoms = one_structure(start)
    identity = {**identity_of_models(arguments, models, backends), "--bec": arguments.bec}
    run(calculator, atoms, plan, folder, identity, arguments.force)
    log, kind = read_log(folder / LOG), plan.ensemble.kind
    lines = list(summary(log, kind, len(atoms)))
    draw(log, folder / PICTURE, f"{atoms.symbols.get_chemical_formula()}, {lines[0]}", kind)
    print("\n".join(lines))
    print(f"{folder}: {TRAJECTORY}, {LOG}, {PICTURE}")
    return 0


def plan_of(arguments: argparse.Namespace) -> Plan:
    """What the options ask for.

    Raises:
        ValueError: as ``Ensemble`` and ``Plan``, and for a duration that is not positive.
    """
    kind, every, timestep = arguments.ensemble, arguments.every, arguments.timestep
    settings = {name: getattr(arguments, name) for name in SETTINGS}
    drawn = settings.pop("temperature") if kind == "nve" else None
    for name in NEEDED[kind]:
        if settings[name] is None:
            settings[name] = SETTINGS[name][0]
    ensemble = Ensemble(kind, timestep, **settings)
    steps = arguments.steps
    if steps is None:
        if not (math.isfinite(arguments.duration) and arguments.duration > 0):
            raise ValueError(
                f"`duration` must be a positive time in ps, got {arguments.duration!r}"
            )
        if every < 1:
            raise ValueError(f"`every` must be a whole number from 1 on, got {every}")
        steps = every * math.ceil(1000.0 * arguments.duration / (every * timestep) - 1e-9)
    return Plan(ensemble, steps, every, arguments.seed, drawn)


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog="les md",
        usage="%(prog)s MODEL [MODEL ...] START {--steps N | --duration PS} [options]",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="model files, and last that of the structure to begin with, whose velocities are kept",
    )
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--steps", type=int, metavar="N", help="a multiple of --every")
    length.add_argument(
        "--duration", type=float, metavar="PS", help="[ps], rounded up to a frame that is written"
    )
    add("--ensemble", choices=tuple(NEEDED), default="nvt", help="(nvt)")
    add("--timestep", type=float, default=0.5, metavar="FS", help="[fs] (0.5)")
    for name, (default, unit, what) in SETTINGS.items():
        option = "--" + name.replace("_", "-")
        add(option, type=float, metavar="X", help=f"{what} [{unit}] ({default:g})")
    add("--every", type=int, default=100, metavar="N", help="steps from frame to frame (100)")
    add("--seed", type=int, default=0, help="of velocities, thermostat and barostat (0)")
    add(
        "--skin",
        type=float,
        metavar="A",
        help="how far beyond the cutoff neighbours are searched for [A], so that most steps need "
        f"no search; results are the same to rounding; 0 to search in every step ({SKIN:g})",
    )
    add("--bec", action="store_true", help="also Born effective charges of each frame")
    add("-o", "--output", type=Path, default=Path("md"), help="folder of the results (md)")
    add("--force", action="store_true", help="begin anew where the run in OUTPUT cannot go on")
    add_model_options(parser)
    return parser
