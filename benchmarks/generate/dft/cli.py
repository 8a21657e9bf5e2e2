"""``python benchmarks/generate dft run | status | collect | check``: frames by DFT."""

from __future__ import annotations

import argparse
import importlib
import logging
import shutil
import signal
import sys
import time
from pathlib import Path

from dft.checks import check
from dft.collect import collect, restore
from dft.cp2k import Killed
from dft.store import Busy, Store
from dft.work import Part, do, open_tasks

log = logging.getLogger("les.generate")

OUT = Path(__file__).parents[2] / "les_bench" / "data" / "dft"
#: Part -> frames of a round.
ROUND = {"water": 3, "molecules": 6, "au2_mgo": 1}


def part(name: str) -> Part:
    """A part by name, imported when it is its turn: only the molecules need rdkit."""
    return importlib.import_module(f"dft.{name}").part()


def main(arguments: list[str]) -> None:
    """Run one command of the DFT data."""
    parser = argparse.ArgumentParser(prog="generate dft", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("run", "compute what is left, in rounds over the parts"),
        ("status", "count what is done"),
        ("collect", "write the finished frames into the data folder"),
        ("check", "compare derivatives with differences, and cutoffs with one another"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("--work", type=Path, required=True, help="folder of the computation")
        command.add_argument("--parts", default=",".join(ROUND), help="default: %(default)s")
        command.add_argument(
            "--out", type=Path, default=OUT, help="collected frames; default: %(default)s"
        )
        if name in ("run", "check"):
            command.add_argument("--program", default="cp2k.psmp", help="default: %(default)s")
        if name == "run":
            command.add_argument("--minutes", type=float, help="begin no frame after this time")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    unknown = set(args.parts.split(",")) - set(ROUND)
    if unknown:
        parser.error(f"--parts: {', '.join(sorted(unknown))} unknown; known: {', '.join(ROUND)}")
    parts = [part(name) for name in args.parts.split(",")]
    store = Store(args.work)
    if args.command in ("run", "check"):
        if shutil.which(args.program) is None:
            parser.error(f"--program: {args.program} is not there (Debian: apt-get install cp2k)")
        # Ends through `finally`, so that CP2K does not outlive this process.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        try:
            with store.locked():
                store.note_program(args.program)
                restored = restore(parts, store, args.out)
                log.info("%d collected frames put into the working folder", restored)
                if args.command == "check":
                    check(parts, store, args.program)
                else:
                    run(parts, store, args.program, args.minutes)
        except (Busy, Killed) as error:
            parser.error(str(error))
    elif args.command == "collect":
        collect(parts, store, args.out)
    for each in parts:
        print(status(each, store))


def run(parts: list[Part], store: Store, program: str, minutes: float | None = None) -> None:
    """Compute in rounds until nothing is left, or until the time is over."""
    end = None if minutes is None else time.monotonic() + 60 * minutes
    busy = True
    while busy:
        busy = False
        for each in parts:
            for _ in range(ROUND[each.name]):
                if end is not None and time.monotonic() > end:
                    log.info("the time is over")
                    return
                task = next(open_tasks(each, store), None)
                if task is None:
                    break
                busy = True
                start = time.monotonic()
                do(task, store, program)
                what = "Born charges" if task.born else "frame"
                seconds = time.monotonic() - start
                log.info(
                    "%s-%03d, %s, %.0f s; %s",
                    task.trajectory.name,
                    task.number,
                    what,
                    seconds,
                    status(each, store),
                )
    log.info("nothing is left to do")


def status(part: Part, store: Store) -> str:
    """Frames done, failed and in all, Born charges, seconds a frame, and the time left."""
    total = sum(trajectory.count for trajectory in part.trajectories)
    seconds, timed, done, born = 0.0, 0, 0, 0
    for trajectory in part.trajectories:
        for frame in store.frames(part.name, trajectory).values():
            done += 1
            born += "REF_bec" in frame.arrays
            if "seconds" in frame.info:  # not with those that come from the collected files
                seconds += frame.info["seconds"]
                timed += 1
    failed = len(list((store.folder / "failed" / part.name).glob("*.txt")))
    each = seconds / timed if timed else float("nan")
    hours = each * (total - done - failed) / 3600
    wanted = sum(len(trajectory.born) for trajectory in part.trajectories)
    return (
        f"{part.name}: {done} of {total} frames, {failed} failed, {born} of {wanted} with Born "
        f"charges, {each:.0f} s a frame, {hours:.1f} h left"
    )
