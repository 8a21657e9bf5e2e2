"""A run of molecular dynamics that writes its frames, and can be continued."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from les.dynamics.checkpoint import Checkpoint, GrowingFile, require_size
from les.dynamics.frames import Frames
from les.dynamics.motion import Motion
from les.dynamics.plan import Plan
from les.dynamics.start import described, without_labels
from les.files import remove_unfinished
from les.locks import locked

logger = logging.getLogger("les")

#: Files of a run.
TRAJECTORY, LOG, PICTURE, CHECKPOINT = "trajectory.xyz", "log.csv", "thermo.png", "checkpoint"
FILES = (TRAJECTORY, LOG, PICTURE, CHECKPOINT)


def run(
    calculator: Any,
    atoms: Any,
    plan: Plan,
    folder: Path,
    identity: Mapping[str, Any] | None = None,
    replace: bool = False,
) -> Any:
    """Run molecular dynamics, or continue a run, and write its frames.

    Whenever a frame is written, the state of all atoms is written to a file, too. So a run that was
    killed loses only the steps since the last frame, and the same call continues it; with more
    steps the call extends a finished run. A run in pieces gives the same results as an
    uninterrupted one.

    Args:
        calculator: any ASE calculator with forces, and with stress for a barostat.
        atoms: the first structure. If it has velocities, they are kept.
        plan: the ensemble, the length and the output of the run.
        folder: where :data:`FILES` go; it is made after the checks if it is not there.
        identity: anything else that the results depend on, by name.
        replace: start again if the run in the folder cannot be continued because it is another
            run, is longer, or has lost a part of its files. The old run is then lost.

    Returns:
        The structure at the end, with its calculator.

    Raises:
        ValueError: for a structure that cannot be moved in the ensemble; for a temperature of
            velocities if the structure has velocities; for an existing run that is another one,
            is longer or incomplete, unless it is replaced; and for a run that is not stable.
        OSError: if a file cannot be read or written.
    """
    plan.ensemble.check(atoms, calculator)
    if atoms.has("momenta") and plan.temperature is not None:
        raise ValueError(
            "`temperature` has no effect: the structure has velocities, which are kept, and the "
            f"ensemble {plan.ensemble.kind} no thermostat"
        )
    used = getattr(calculator, "used_labels", ())
    own = {**plan.identity(), "structure": described(atoms, used), **(identity or {})}
    motion = Motion(
        calculator,
        without_labels(atoms, used),
        temperature=plan.first_temperature,
        seed=plan.seed,
    )
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        checkpoint = _checkpoint(folder, own, plan.n_steps, replace)
        sizes = {TRAJECTORY: 0, LOG: 0}
        if checkpoint.state is not None:
            motion.restore(checkpoint.state["step"], checkpoint.state["motion"])
            sizes = checkpoint.state["sizes"]
            if motion.step == plan.n_steps:
                logger.warning(
                    "the run in %s is complete: all of its %d steps were made before, and no more "
                    "are asked for",
                    folder,
                    motion.step,
                )
        growing = {name: GrowingFile(folder / name, size) for name, size in sizes.items()}
        try:
            _follow(motion, plan, checkpoint, growing)
        finally:
            for file in growing.values():
                file.close()
    return motion.atoms


def _checkpoint(
    folder: Path, identity: Mapping[str, Any], n_steps: int, replace: bool
) -> Checkpoint:
    """The checkpoint of a run that can go on to ``n_steps``, or that of a new one."""
    path = folder / CHECKPOINT
    remove_unfinished(path)
    try:
        found = Checkpoint(path, identity)
        _require_resumable(found, folder, n_steps)
    except ValueError:
        if not replace:
            raise
        path.unlink()
        return Checkpoint(path, identity)
    return found


def _require_resumable(checkpoint: Checkpoint, folder: Path, n_steps: int) -> None:
    """Refuse a run that is longer already, and one whose files are not whole."""
    if checkpoint.state is None:
        return
    step = checkpoint.state["step"]
    if step > n_steps:
        raise ValueError(
            f"the run in {folder} has made {step} steps already, more than the {n_steps} that are "
            "asked for; ask for more, or begin anew with --force"
        )
    for name, size in checkpoint.state["sizes"].items():
        require_size(folder / name, size)


def _follow(
    motion: Motion, plan: Plan, checkpoint: Checkpoint, growing: Mapping[str, GrowingFile]
) -> None:
    """Move to the end of the plan; write each frame, and then the state that goes with it."""
    frames = Frames(motion.atoms, plan.ensemble.timestep)

    def keep() -> None:
        sizes = {name: file.size for name, file in growing.items()}
        checkpoint.write({"step": motion.step, "motion": motion.state(), "sizes": sizes})

    if checkpoint.state is None:
        keep()  # so that what follows is known to be of this run
    log, trajectory = growing[LOG], growing[TRAJECTORY]
    for _ in motion.stops(plan.n_steps, plan.every, lambda _: plan.ensemble):
        if motion.step == 0 and log.size:
            continue  # it went on from the very beginning, which is written already
        motion.ask_for_charges(True)
        line = frames.line(motion.step, motion.atoms)
        log.append(line if log.size else frames.header() + line)
        trajectory.append(frames.frame(motion.step, motion.atoms))
        keep()
