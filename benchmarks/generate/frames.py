"""Jobs, their cache, and the files that come out: gzipped extxyz and the manifest."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read, write

SPLITS = ("train", "val", "test")
MAX_BYTES = 400_000
UNITS = {
    "positions": "A",
    "REF_energy": "eV (total energy)",
    "REF_forces": "eV/A",
    "REF_stress": "eV/A^3 (dE/dstrain / volume, order xx yy zz yz xz xy)",
    "REF_dipole": "e A (from negative to positive; total charge is zero)",
    "REF_charges": "e (Mulliken)",
    "REF_bec": "e (row-major Z[alpha, beta] = d mu_alpha / d R_beta)",
    "total_charge": "e",
}


@dataclass(frozen=True)
class Job:
    """One independent piece of work: its frames belong to one split and depend on its seed only."""

    name: str
    split: str
    run: Callable[[], list[Atoms]]


def finish(system: str, job: Job, cache: Path) -> list[Atoms]:
    """Frames of a job, from the cache if an earlier run already made them."""
    path = cache / f"{system}-{job.split}-{job.name}.xyz"
    if not path.exists():
        frames = job.run()
        if not frames:
            raise RuntimeError(f"job {path.stem} gave no frames")
        partial = path.with_suffix(".partial")
        write(partial, frames, format="extxyz")
        os.replace(partial, path)
    return list(read(path, index=":", format="extxyz"))


def check_distinct(system: str, splits: dict[str, list[Atoms]]) -> None:
    """Raise where one geometry occurs twice, in one split or in two."""
    seen: set[bytes] = set()
    for split, frames in splits.items():
        for number, frame in enumerate(frames):
            key = frame.numbers.tobytes() + np.round(frame.positions, 4).tobytes()
            if key in seen:
                raise RuntimeError(f"{system}_{split}, frame {number}: geometry occurs twice")
            seen.add(key)


def save(path: Path, frames: list[Atoms], largest: int = MAX_BYTES) -> None:
    """Write gzipped extxyz with a fixed time stamp, so that equal frames give equal bytes."""
    text = io.StringIO()
    write(text, frames, format="extxyz")
    lines = (" ".join(line.split()) for line in text.getvalue().splitlines())
    data = gzip.compress(("\n".join(lines) + "\n").encode(), compresslevel=9, mtime=0)
    if len(data) > largest:
        raise RuntimeError(f"{path.name} has {len(data)} bytes, at most {largest} are wanted")
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(data)
    os.replace(partial, path)


def describe(path: Path, level: str) -> dict[str, object]:
    """Manifest entry of one file."""
    frames = list(read(path, index=":", format="extxyz"))
    sizes = [len(frame) for frame in frames]
    types: dict[str, int] = {}
    for frame in frames:
        types[frame.info["config_type"]] = types.get(frame.info["config_type"], 0) + 1
    keys = sorted({k for f in frames for k in (*f.info, *f.arrays) if k.startswith("REF_")})
    return {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "frames": len(frames),
        "atoms": {"min": min(sizes), "max": max(sizes), "total": sum(sizes)},
        "config_types": dict(sorted(types.items())),
        "level": level,
        "keys": keys,
    }


def write_manifest(out: Path, levels: dict[str, str]) -> None:
    """Describe every file of ``out`` in ``manifest.json``."""
    files = {}
    for system, level in levels.items():
        for split in SPLITS:
            path = out / f"{system}_{split}.xyz.gz"
            if path.exists():
                files[path.name] = describe(path, level)
    manifest = {
        "files": files,
        "units": UNITS,
        "made_with": {name: version(name) for name in ("tblite", "ase", "rdkit")},
        "command": "python benchmarks/generate",
    }
    partial = out / "manifest.json.partial"
    partial.write_text(json.dumps(manifest, indent=1) + "\n")
    os.replace(partial, out / "manifest.json")
