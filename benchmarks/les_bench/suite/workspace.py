"""One training run in a folder of its own, in a process of its own, resumable."""

from __future__ import annotations

import itertools
import json
import logging
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.io import write

from les.backends import Backend, TrainingJob
from les.children import child
from les.data.spin import SPIN_NAMES
from les.data.total_charge import TOTAL_CHARGE_NAMES
from les.files import remove_unfinished, replacing
from les_bench.suite.curve import Curve, curve_so_far, digest
from les_bench.suite.results import PREDICTIONS, RESULT, write_json
from les_bench.systems.datasets import Dataset

LOG = logging.getLogger("les")

#: Labels that models are trained on; nothing else reaches the training files.
TRAINED_ON = ("REF_energy", "REF_forces", "REF_stress", *TOTAL_CHARGE_NAMES, *SPIN_NAMES)
#: Files of a run that are written here.
FILES = ("job.json", "train.xyz", "valid.xyz")
#: Lines of a failed training's log that are shown.
TAIL = 25
#: Time between two looks at the learning curve of a run that is going on [s].
INTERVAL = 5.0


class TrainingError(RuntimeError):
    """A training run failed; the message shows the end of its log."""


@dataclass
class Workspace:
    """The folder of one run. ``job.json`` tells which configuration it belongs to."""

    folder: Path
    state: dict[str, Any]

    @classmethod
    def open(cls, output: Path, name: str, identity: str) -> Workspace:
        """The folder for ``name``, new or left by an interrupted run of ``identity``.

        A folder of another configuration would make upstream restart from a wrong
        checkpoint: it is moved to ``output/superseded``.
        """
        folder = output / name
        if folder.exists():
            for path in (*FILES, RESULT, PREDICTIONS):
                remove_unfinished(folder / path)
            try:
                state = json.loads((folder / "job.json").read_text())
                if state["hash"] == identity:
                    return cls(folder, state)
            except (OSError, ValueError, KeyError, TypeError):
                pass  # foreign or truncated: treated like another configuration
            superseded = output / "superseded"
            superseded.mkdir(exist_ok=True)
            places = (superseded / f"{name}.{number}" for number in itertools.count(1))
            aside = folder.rename(next(place for place in places if not place.exists()))
            LOG.warning("%s holds another configuration; moved to %s", folder, aside)
        folder.mkdir(parents=True)
        workspace = cls(
            folder,
            {"hash": identity, "attempts": 0, "finished": False, "wall_s": 0.0, "curves": []},
        )
        workspace.save()
        return workspace

    def save(self) -> None:
        write_json(self.folder / "job.json", self.state)

    @property
    def trained(self) -> bool:
        return bool(self.state["finished"])

    def timing(self) -> dict[str, Any]:
        """Times and memory of the last attempt to train, and the number of attempts.

        Processor time is that of the training process, its start included, and hardly depends on
        what else the machine does. The memory is the most that the training process had. Each is
        ``None`` where the system does not tell it: processor time on Windows, memory elsewhere than
        on Linux, or of a training that was too short to be looked at.
        """
        return {
            "training_wall_s": self.state["wall_s"],
            "training_processor_s": self.state.get("processor_s"),
            "training_peak_mib": self.state.get("peak_mib"),
            "attempts": self.state["attempts"],
        }

    def job(self, dataset: Dataset, **settings: Any) -> TrainingJob:
        """The job of this folder; writes its data files."""
        files = {split: self.folder / f"{split}.xyz" for split in ("train", "valid")}
        for split, path in files.items():
            frames = [_training_frame(frame) for frame in getattr(dataset, split)]
            with replacing(path) as temporary:
                write(temporary, frames, format="extxyz")
        return TrainingJob(
            name=dataset.system.name,
            directory=self.folder,
            train_file=files["train"],
            valid_file=files["valid"],
            **settings,
        )


def train_command(model: str, les: bool, arguments: Sequence[str]) -> list[str]:
    """Command of one training; a process of its own keeps runs independent."""
    return [sys.executable, "-m", "les", "train", model, "--les" if les else "--no-les", *arguments]


def train(
    backend: Backend,
    job: TrainingJob,
    workspace: Workspace,
    *,
    les: bool,
    threads: int,
    watch: Callable[[Curve, float], None] = lambda curve, seconds: None,
) -> None:
    """Train ``job``, in a process that ends with this one.

    Its output goes to ``train.log`` in its folder.

    Args:
        backend: what to train.
        job: the data and settings.
        workspace: the folder.
        les: with LES or without.
        threads: CPU threads.
        watch: is told now and then of the epochs that are done and the time since the start [s].
    """
    state = workspace.state
    if state["attempts"]:  # an earlier one has left its learning curve
        state.setdefault("curves", []).append(digest(curve_so_far(backend, job)))
    state["attempts"] += 1
    workspace.save()
    log = workspace.folder / "train.log"
    LOG.info("training in %s (output: %s)", workspace.folder.name, log)
    start, processor_start = time.perf_counter(), _processor_seconds()
    command = train_command(backend.name, les, backend.training_arguments(job))
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    code: int | None = None
    with log.open("a") as file, child(command, workspace.folder, environment, file) as process:
        while code is None:
            try:
                code = process.wait(INTERVAL)
            except subprocess.TimeoutExpired:
                state["peak_mib"] = peak_memory(process.pid) or state.get("peak_mib")
                watch(curve_so_far(backend, job), time.perf_counter() - start)
    if code != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-TAIL:])
        raise TrainingError(f"training ended with status {code}; {log} ends with\n{tail}")
    try:
        backend.trained_model(job)
    except FileNotFoundError as error:
        raise TrainingError(f"training left no model: {error}; see {log}") from error
    wall, processor_end = time.perf_counter() - start, _processor_seconds()
    processor = None
    if processor_start is not None and processor_end is not None:
        processor = processor_end - processor_start
    state.update(finished=True, wall_s=wall, processor_s=processor)
    workspace.save()


def _processor_seconds() -> float | None:
    """Processor time of all ended processes that this one has started [s].

    ``None`` where the system does not tell it.
    """
    if os.name == "nt":  # there it is always 0
        return None
    times = os.times()
    return times.children_user + times.children_system


def peak_memory(process: int) -> float | None:
    """The most memory that a running process had so far [MiB], where the system tells it."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(found[0]) / 1024 if found else None


def median_seconds(history: Sequence[dict[str, Any]]) -> float | None:
    """Median time per epoch [s] without the first, which pays for warming up."""
    seconds = [record["seconds"] for record in history[1:] if record["seconds"] is not None]
    return statistics.median(seconds) if seconds else None


def _training_frame(frame: Atoms) -> Atoms:
    """``frame`` with the labels that may be trained on."""
    kept = frame.copy()
    kept.info = {key: frame.info[key] for key in TRAINED_ON if key in frame.info}
    for name in [name for name in kept.arrays if name.startswith("REF_")]:
        if name not in TRAINED_ON:
            del kept.arrays[name]
    return kept
