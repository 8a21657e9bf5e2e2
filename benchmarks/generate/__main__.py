"""Makes the embedded benchmark data: ``python benchmarks/generate [--system NAME] [--out DIR]``.

Needs tblite, ase, scipy and rdkit (tested with tblite 0.8, ase 3.29, rdkit 2026.9). One core and
half an hour are enough; set ``OMP_NUM_THREADS=1``. A stopped run goes on where it was, because
finished jobs are kept in ``--cache``. Seeds are fixed, but dynamics amplifies rounding, so another
machine gives frames of the same distribution and not the same digits.

``python benchmarks/generate dft --help`` tells about the data by density functional theory, and
``python benchmarks/generate checkpoints --help`` about the small models that tests load.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
import tempfile
from pathlib import Path

from ase import Atoms
from frames import SPLITS, check_distinct, finish, save, write_manifest
from tqdm import tqdm

LEVELS = {"dipeptides": "GFN2-xTB", "water": "GFN1-xTB", "au2_mgo": "GFN1-xTB"}
DEFAULT_OUT = Path(__file__).parents[1] / "les_bench" / "data"


def main() -> None:
    """Make the systems asked for, one after the other."""
    others = {"dft": "dft.cli", "checkpoints": "checkpoints"}
    if sys.argv[1:2] and sys.argv[1] in others:
        importlib.import_module(others[sys.argv[1]]).main(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(prog="generate", description=__doc__)
    parser.add_argument("--system", choices=sorted(LEVELS), action="append", help="default: all")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="folder for the files")
    parser.add_argument(
        "--cache", type=Path, default=Path(tempfile.gettempdir()) / "les_generate", help="jobs done"
    )
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    args.out.mkdir(parents=True, exist_ok=True)
    args.cache.mkdir(parents=True, exist_ok=True)
    for system in args.system or LEVELS:
        # Imported when it is its turn: only the dipeptides need rdkit.
        jobs = importlib.import_module(system).jobs()
        splits: dict[str, list[Atoms]] = {split: [] for split in SPLITS}
        for job in tqdm(jobs, desc=system):
            splits[job.split] += finish(system, job, args.cache)
        check_distinct(system, splits)
        for split, frames in splits.items():
            save(args.out / f"{system}_{split}.xyz.gz", frames)
        write_manifest(args.out, LEVELS)


if __name__ == "__main__":
    main()
