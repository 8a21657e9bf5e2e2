"""What a training run needs and what it reports, in terms that all architectures share."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class TrainingJob:
    """What one training run needs, in terms that all architectures share."""

    #: Run name; upstream's file names start with it.
    name: str
    #: Folder the run writes to; created by the caller.
    directory: Path
    #: Training configuration in upstream's own format (see ``Backend.configs``).
    config: Path
    #: extxyz files with ``REF_energy`` (eV), ``REF_forces`` (eV/A) and, for
    #: periodic systems that have it, ``REF_stress`` (eV/A^3).
    train_file: Path
    valid_file: Path
    seed: int = 1
    #: Number of epochs; ``None`` keeps the configuration's own number.
    epochs: int | None = None
    device: str = "cpu"
    #: Further upstream arguments, passed on as they are.
    extra: tuple[str, ...] = field(default=())

    def options(self, epochs: str = "epochs") -> list[str]:
        """All fields except ``extra`` as options of a command.

        Args:
            epochs: the command's name of the option for the number of epochs.

        Returns:
            Options ``--key=value``.
        """
        options = {
            "config": self.config,
            "name": self.name,
            "train_file": self.train_file,
            "valid_file": self.valid_file,
            "work_dir": self.directory,
            "seed": self.seed,
            "device": self.device,
            epochs: self.epochs,
        }
        return [f"--{key}={value}" for key, value in options.items() if value is not None]


@dataclass(frozen=True)
class EpochRecord:
    """One line of a learning curve, with ``None`` for values that upstream does not report."""

    epoch: int
    #: Wall time of the training steps of this epoch, validation excluded [s].
    seconds: float | None = None
    train_loss: float | None = None
    valid_loss: float | None = None
    #: Root mean square error of the energy on the validation set [eV/atom].
    valid_energy_rmse: float | None = None
    #: Root mean square error of the forces on the validation set [eV/A].
    valid_force_rmse: float | None = None
    #: Root mean square error of Born effective charges on the validation set [e], if trained on.
    valid_bec_rmse: float | None = None
    #: Root mean square error of dipoles on the validation set [e A], if trained on.
    valid_dipole_rmse: float | None = None
    #: Root mean square charge on the validation set [e], of models with charges.
    valid_charge_rms: float | None = None
    #: Mean total charge of its structures [e], and the largest one without its sign.
    valid_total_charge_mean: float | None = None
    valid_total_charge_max: float | None = None
    #: Root mean square long-range energy of its structures [eV/atom].
    valid_les_energy_rms: float | None = None
