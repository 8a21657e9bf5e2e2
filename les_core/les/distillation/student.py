"""The training of a student, in a process of its own and perhaps another environment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from les.backends import Backend, TrainingJob, config_path, get_backend
from les.children import child
from les.distillation.recipe import Settings
from les.distillation.settings import StudentSettings
from les.files import replacing

#: Time between two looks at how far a training is [s].
INTERVAL = 2.0
#: Lines of a failed training's log that are shown.
TAIL = 25
#: What reading the history of a training raises while that is being written: a file that is not
#: there yet, half a line, a number, a column or a value that is missing.
UNFINISHED = (OSError, ValueError, KeyError, TypeError)
#: Name of a training, with which its files begin.
NAME = "student"


def student_config(settings: Settings) -> Path:
    """The training configuration of the student: a file of the user's, or one that is shipped.

    Raises:
        BackendError, ValueError: if it is neither.
    """
    own = settings.path(settings.student.config)
    if own.is_file():
        return own
    return config_path(settings.student.config, settings.student.backend)


def training_job(settings: StudentSettings, config: Path, sets: Path, folder: Path) -> TrainingJob:
    """The job that trains the student in ``folder`` on the files in ``sets``."""
    return TrainingJob(
        name=NAME,
        directory=folder.absolute(),
        config=config.absolute(),
        train_file=(sets / "train.xyz").absolute(),
        valid_file=(sets / "valid.xyz").absolute(),
        seed=settings.seed,
        epochs=settings.epochs,
        device=settings.device,
        extra=settings.options,
    )


def train(job: TrainingJob, settings: StudentSettings, label: str) -> Path:
    """Train, or go on with a training that was interrupted; returns the model.

    What upstream prints goes to ``train.log`` in the folder of the job.

    Args:
        job: data and options.
        settings: backend, environment, and whether with LES.
        label: what the progress bar says.

    Raises:
        ValueError: if the training fails; the message shows the end of its log.
    """
    backend = get_backend(settings.backend)
    job.directory.mkdir(parents=True, exist_ok=True)
    log = job.directory / "train.log"
    command = [
        settings.python or sys.executable,
        *("-m", "les", "train", settings.backend, "--les" if settings.les else "--no-les"),
        *backend.training_arguments(job),
    ]
    with log.open("a") as file, child(command, job.directory, os.environ, file) as process:
        _watch(process, backend, job, label)
        code = process.returncode
    if code != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-TAIL:])
        raise ValueError(f"the training ended with status {code}; {log} ends with\n{tail}")
    try:
        return backend.trained_model(job)
    except FileNotFoundError as error:
        raise ValueError(f"the training left no model: {error}; see {log}") from error


def _watch(
    process: subprocess.Popen[bytes], backend: Backend, job: TrainingJob, label: str
) -> None:
    """Show the epochs of a training until it ends."""
    from tqdm import tqdm

    before = _epochs(backend, job)
    with tqdm(total=job.epochs, initial=before, unit="epoch", desc=label) as progress:
        while True:
            try:
                process.wait(INTERVAL)
                ended = True
            except subprocess.TimeoutExpired:
                ended = False
            if (done := _epochs(backend, job)) > progress.n:
                progress.update(done - progress.n)
            if ended:
                return


def _epochs(backend: Backend, job: TrainingJob) -> int:
    """Epochs that are done; each backend has files of its own, which may be half written."""
    try:
        return len(backend.history(job))
    except UNFINISHED:
        return 0


def write_sets(structures: Sequence[Any], sets: dict[str, list[int]], folder: Path) -> list[Path]:
    """Write a file for each set; returns them."""
    from les.predict.output import writer

    paths = []
    for name, numbers in sets.items():
        path = folder / f"{name}.xyz"
        with replacing(path) as temporary, writer(temporary, "extxyz") as write:
            for number in numbers:
                write(structures[number])
        paths.append(path)
    return paths
