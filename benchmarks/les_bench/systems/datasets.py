"""Benchmark data: where it comes from and how it becomes train, valid and test sets."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from les.data.fragments import FRAGMENT, FRAGMENT_CHARGE
from les.files import checksum
from les.user_cache import user_cache
from les_bench.systems.fetch import known_checksums
from les_bench.systems.labels import DataError, read_frames
from les_bench.systems.systems import Layout, System

LOG = logging.getLogger("les")

#: Loss per atom [eV] above which storing total energies in float32 spoils them.
FLOAT32_TOLERANCE = 1e-5
#: Array of a frame with the atoms of ``System.part``.
PART = "REF_part"
#: Source of data that are made when they are needed.
MADE = "made"


@dataclass(frozen=True)
class Dataset:
    """One system, split; labels are named as in :data:`les_bench.systems.labels.LABELS`."""

    system: System
    #: Where it came from: custom, datadir, fetched, embedded or made.
    source: str
    train: list[Atoms]
    valid: list[Atoms]
    test: list[Atoms]
    #: File name -> sha256 of the files read.
    checksums: dict[str, str]
    #: Element -> energy [eV] taken off all total energies; empty if they are as in the files.
    energy_offsets: dict[str, float]
    #: Frames with dipoles or Born effective charges, which need have no energies.
    response: list[Atoms] = field(default_factory=list)
    #: Share of the training frames that are left, see :meth:`reduced`.
    fraction: float = 1.0

    @property
    def largest_distance(self) -> float | None:
        """The largest distance of the scans in the training set [A], if there are any."""
        found = [x.info["distance"] for x in self.train if "distance" in x.info]
        return float(max(found)) if found else None

    def reduced(self, fraction: float, seed: int) -> Dataset:
        """The same data with a share of the training frames, chosen at random.

        With one seed, a smaller share is part of a larger one. All other sets stay as they are.

        Raises:
            DataError: if no frame would be left.
        """
        if fraction == 1:
            return self
        n_kept = round(fraction * len(self.train))
        if n_kept < 1:
            raise DataError(
                f"{self.system.name}: a fraction of {fraction} of {len(self.train)} training "
                "frames is none"
            )
        chosen = np.random.default_rng(seed).permutation(len(self.train))[:n_kept]
        train = [self.train[index] for index in sorted(chosen)]
        return replace(self, train=train, fraction=fraction)


def load(system: System, data: str = "auto") -> Dataset:
    """Read ``system`` from ``data``: ``"auto"``, ``"embedded"`` or a folder.

    ``"auto"`` takes the first that has the system: ``LES_DATA_DIR``, what
    ``les bench fetch`` brought, the embedded set. Files of the latter two must be what they were.
    """
    source, folder, layout = find(system, data)
    LOG.info("%s: %s data from %s", system.name, source, folder)
    if source == MADE:
        return _made(system)
    paths = {
        split: _existing(folder, name)
        for split in ("train", "valid", "test", "response")
        if (name := getattr(layout, split)) is not None
    }
    for split, path in paths.items():
        if path is None:
            raise DataError(f"{folder / getattr(layout, split)}: the {split} file is missing")
    found = [path for path in paths.values() if path is not None]
    checksums = {path: checksum(path) for path in found}
    _verify(source, folder, checksums, system)
    frames = {
        split: read_frames(path, periodic=system.periodic, response=split == "response")
        for split, path in zip(paths, found, strict=True)
    }
    for frame in (frame for split in frames.values() for frame in split):
        if system.part is not None and (part := system.part(frame)) is not None:
            frame.set_array(PART, part)
        if system.fragments is not None:
            for name, values in zip((FRAGMENT, FRAGMENT_CHARGE), system.fragments(frame)):
                frame.set_array(name, values)
    if layout.split_key:
        names = [frame.info.get(layout.split_key) for frame in frames["train"]]
        both = list(zip(names, frames["train"], strict=True))
        frames["test"] = [frame for name, frame in both if name == "test"]
        frames["train"] = [frame for name, frame in both if name != "test"]
    if layout.test_every:
        frames["train"], frames["test"] = _every(frames["train"], layout.test_every)
    if layout.valid_every:
        frames["train"], frames["valid"] = _every(frames["train"], layout.valid_every)
    response = frames.pop("response", [])
    for split in ("train", "valid", "test"):
        if not frames[split]:
            raise DataError(f"{paths['train']}: too few frames for a {split} set")
    return Dataset(
        system,
        source,
        frames["train"],
        frames["valid"],
        frames["test"],
        checksums={path.name: digest for path, digest in checksums.items()},
        energy_offsets=_subtract_atomic_energies(frames),
        response=response,
    )


def find(system: System, data: str = "auto") -> tuple[str, Path, Layout]:
    """Source name, folder and layout that :func:`load` reads, or ``DataError``."""
    if data == "auto":
        sources = {"fetched": user_cache(), "embedded": _embedded()}
        if os.environ.get("LES_DATA_DIR"):
            sources = {"datadir": Path(os.environ["LES_DATA_DIR"]), **sources}
    else:
        sources = {"embedded": _embedded()} if data == "embedded" else {"custom": Path(data)}
    for source, folder in sources.items():
        if source in ("datadir", "custom") and not folder.is_dir():
            name = "LES_DATA_DIR" if source == "datadir" else "data"
            raise DataError(f"`{name}` must be an existing folder, got {str(folder)!r}")
        for layout in (_flat(system, folder), system.layout):
            if _existing(folder, layout.train):
                return source, folder, layout
        if source == "datadir" and system.make is None:
            LOG.warning("%s: not in LES_DATA_DIR (%s)", system.name, folder)
    if system.make is not None:
        return MADE, Path(str(resources.files("les_bench"))), system.layout
    looked = ", ".join(f"{source} ({folder})" for source, folder in sources.items())
    raise DataError(
        f"{system.name}: no data found in {looked}; expected {system.layout.train} or "
        f"{system.name}_{{train,val,test}}.xyz, plain or .gz"
    )


def _made(system: System) -> Dataset:
    """The data of a system that is made when it is needed; it is the same every time."""
    assert system.make is not None
    frames = system.make()
    digest = hashlib.sha256()
    for frame in (frame for split in sorted(frames) for frame in frames[split]):
        digest.update(np.round(frame.positions, 6).tobytes())
        digest.update(f"{frame.info['REF_energy']:.6f}".encode())
    checksums = {"made": digest.hexdigest()}
    splits = frames["train"], frames["valid"], frames["test"]
    return Dataset(system, MADE, *splits, checksums=checksums, energy_offsets={})


def _embedded() -> Path:
    return Path(str(resources.files("les_bench"))) / "data"


def _flat(system: System, folder: Path) -> Layout:
    """The layout of the embedded data and of a folder that the user prepared."""
    splits = ("train", "val", "test", "response")
    train, valid, test, response = (f"{system.name}_{split}.xyz" for split in splits)
    return Layout(train, valid, test, response if _existing(folder, response) else None)


def _verify(source: str, folder: Path, checksums: Mapping[Path, str], system: System) -> None:
    """Refuse files that are not what they were when they were fetched or made."""
    if source == "fetched":
        known, remedy = known_checksums(), f"`les bench fetch {system.name}` brings it again"
    elif source == "embedded":
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        known = {name: entry["sha256"] for name, entry in manifest["files"].items()}
        remedy = "install les again"
    else:
        return  # the user's own
    for path, found in checksums.items():
        expected = known.get(path.relative_to(folder).as_posix())
        if expected is None:
            LOG.warning("%s: used as it is; no checksum of it is known", path)
        elif found != expected:
            raise DataError(
                f"{path} is damaged: its sha256 must be {expected}, got {found}; {remedy}"
            )


def _existing(folder: Path, name: str) -> Path | None:
    candidates = (folder / name, folder / f"{name}.gz")
    return next((path for path in candidates if path.is_file()), None)


def _every(frames: list[Atoms], n: int) -> tuple[list[Atoms], list[Atoms]]:
    """Split into (rest, every ``n``-th frame)."""
    rest = [frame for i, frame in enumerate(frames) if i % n != n - 1]
    return rest, frames[n - 1 :: n]


def _subtract_atomic_energies(frames: dict[str, list[Atoms]]) -> dict[str, float]:
    """Take energies per element off all-electron energies, which float32 cannot hold.

    The offsets are a least-squares fit to the training energies. Errors and energy
    differences at equal composition do not change. Does nothing (and returns ``{}``)
    where float32 resolves the energies to :data:`FLOAT32_TOLERANCE` per atom.
    """
    everything = [frame for split in frames.values() for frame in split]
    resolution = max(
        float(np.spacing(np.float32(abs(frame.info["REF_energy"])))) / 2 / len(frame)
        for frame in everything
    )
    if resolution < FLOAT32_TOLERANCE:
        return {}
    elements = sorted({int(z) for frame in everything for z in frame.numbers})

    def composition(frame: Atoms) -> list[int]:
        return [int(np.count_nonzero(frame.numbers == z)) for z in elements]

    counts = np.array([composition(frame) for frame in frames["train"]], dtype=float)
    energies = np.array([frame.info["REF_energy"] for frame in frames["train"]])
    offsets = np.linalg.lstsq(counts, energies, rcond=None)[0]
    for frame in everything:
        frame.info["REF_energy"] -= float(np.dot(composition(frame), offsets))
    LOG.info("total energies are too large for float32: energies per element taken off")
    return {chemical_symbols[z]: float(e) for z, e in zip(elements, offsets, strict=True)}
