"""From the working folder to the repository: gzipped extxyz by part and split, and a manifest."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read
from frames import UNITS, describe, save

from dft.cp2k import input_text
from dft.store import Store, place, save_array, write_text
from dft.trajectories import Relaxation
from dft.work import Part

SPLITS = ("train", "val", "test", "path")
#: Compressed bytes of one file and of all together.
MAX_BYTES = 1_500_000
MAX_TOTAL = 5_000_000
#: Of what is known while a frame is computed, this stays behind.
PRIVATE = ("seconds",)


def splits_of(part: Part, store: Store) -> dict[str, list[Atoms]]:
    """Finished frames by split; relaxed structures are in ``test``, the way to them in ``path``."""
    found: dict[str, list[Atoms]] = {split: [] for split in SPLITS}
    for trajectory in part.trajectories:
        frames = store.frames(part.name, trajectory)
        for number, frame in frames.items():
            for name in PRIVATE:
                frame.info.pop(name, None)
            frame.info["frame"] = number
            split = trajectory.split
            if isinstance(trajectory, Relaxation):
                relaxed = number == max(frames) and trajectory.relaxed(frame)
                split = "test" if relaxed else split
                frame.info["relaxed"] = relaxed
            found[split].append(frame)
    return found


def restore(parts: list[Part], store: Store, out: Path) -> int:
    """Put the collected frames that the working folder lacks there, and return how many.

    So a computation goes on in an empty folder, and no frame is computed again.

    Raises:
        RuntimeError: the collected frames are of another method.
    """
    count = 0
    for part in parts:
        check_method(part, manifest_of(out))
        trajectories = {trajectory.name: trajectory for trajectory in part.trajectories}
        for path in sorted(out.glob(f"{part.name}_*.xyz.gz")):
            for frame in read(path, ":", format="extxyz"):
                trajectory = trajectories.get(frame.info["trajectory"])
                if trajectory is None:
                    raise RuntimeError(f"{path}: {frame.info['trajectory']} is not in the plan")
                number = int(frame.info.pop("frame"))
                frame.info.pop("relaxed", None)
                born = frame.arrays.pop("REF_bec", None)
                kept = store.path("born", part.name, trajectory, number, ".npy")
                if born is not None and not kept.exists():
                    place(kept, partial(save_array, array=born))
                if not store.path("frames", part.name, trajectory, number, ".xyz").exists():
                    store.finish(part.name, trajectory, number, frame)
                    count += 1
    return count


def manifest_of(out: Path) -> dict[str, dict]:
    """What is known of the collected files."""
    path = out / "manifest.json"
    manifest = json.loads(path.read_text()) if path.exists() else {}
    for section in ("files", "inputs", "methods", "relaxations"):
        manifest.setdefault(section, {})
    return manifest


def check_method(part: Part, manifest: dict[str, dict]) -> None:
    """Raise where frames of another method were collected."""
    surface = json.loads(json.dumps(part.method.surface))
    known = manifest["methods"].get(part.name, surface)
    changed = [key for key in surface if surface[key] != known.get(key)]
    if changed:
        raise RuntimeError(
            f"{part.name}: collected frames are of another method ({', '.join(changed)} differ); "
            "remove them first"
        )


def collect(parts: list[Part], store: Store, out: Path) -> None:
    """Write the files of ``parts`` and describe all files of ``out`` in ``manifest.json``.

    Raises:
        RuntimeError: a geometry occurs in two splits, or the files are too large.
    """
    out.mkdir(parents=True, exist_ok=True)
    restore(parts, store, out)
    manifest = manifest_of(out)
    for part in parts:
        manifest["methods"][part.name] = dataclasses.asdict(part.method)
        splits = splits_of(part, store)
        check_apart(part.name, splits)
        example = None
        for split, frames in splits.items():
            file = out / f"{part.name}_{split}.xyz.gz"
            if not frames:
                continue
            save(file, frames, MAX_BYTES)
            manifest["files"][file.name] = describe(file, part.method.level)
            example = example or frames[0]
        if example is not None:
            text = input_text(
                example,
                part.method,
                part.method.self_consistency[0],
                charge=example.info["total_charge"],
            )
            example_input = out / f"{part.name}.inp"
            example_input.write_text(text)
            digest = hashlib.sha256(text.encode()).hexdigest()
            manifest["inputs"][example_input.name] = {"sha256": digest}
        checks = store.folder / "checks" / f"{part.name}.txt"
        if checks.exists():
            (out / f"{part.name}_checks.txt").write_text(checks.read_text())
        for trajectory in part.trajectories:
            frames = store.frames(part.name, trajectory)
            if isinstance(trajectory, Relaxation) and frames:
                last = frames[max(frames)]
                manifest["relaxations"][trajectory.name] = {
                    "frames": len(frames),
                    "energy": last.info["REF_energy"],
                    "largest_force": round(trajectory.largest_force(last), 4),
                    "relaxed": trajectory.relaxed(last),
                }
    total = sum((out / name).stat().st_size for name in manifest["files"])
    if total > MAX_TOTAL:
        raise RuntimeError(f"{out} has {total} bytes, at most {MAX_TOTAL} are wanted")
    manifest["units"] = UNITS | {"REF_dipole": "e A, about the origin (the centre of mass)"}
    manifest["made_with"] = {
        "cp2k": store.program(),
        **{name: version(name) for name in ("ase", "rdkit", "tblite")},
    }
    manifest["command"] = "python benchmarks/generate dft collect --work FOLDER"
    text = json.dumps(manifest, indent=1) + "\n"
    place(out / "manifest.json", partial(write_text, text=text))


def check_apart(name: str, splits: dict[str, list[Atoms]]) -> None:
    """Raise where one geometry occurs in two splits, or one trajectory does."""
    seen: dict[bytes, str] = {}
    home: dict[str, str] = {}
    for split, frames in splits.items():
        for frame in frames:
            key = frame.numbers.tobytes() + np.round(frame.positions, 4).tobytes()
            trajectory = str(frame.info["trajectory"])
            if seen.setdefault(key, split) != split:
                raise RuntimeError(f"{name}: a geometry of {trajectory} is in two splits")
            relaxation = "relaxed" in frame.info
            if not relaxation and home.setdefault(trajectory, split) != split:
                raise RuntimeError(f"{name}: {trajectory} is in two splits")
