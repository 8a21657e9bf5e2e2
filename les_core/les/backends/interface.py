"""The interface between les and one MLIP architecture.

An adapter package (``les_mace``, ...) subclasses :class:`Backend` and names the
subclass in the entry-point group ``les.backends``. The command line and the
benchmarks know adapters only through this interface, so nothing outside an
adapter imports an upstream package.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from les.backends.features import Support
    from les.backends.job import EpochRecord, TrainingJob


class BackendError(RuntimeError):
    """A backend does not exist or cannot be used in this environment."""


class Backend(ABC):
    """One MLIP architecture that can be trained with and without LES.

    Subclasses set the class variables and must be importable without upstream.
    """

    #: Short name used on the command line, e.g. ``"mace"``.
    name: ClassVar[str]
    #: The adapter's import package.
    package: ClassVar[str]
    #: Extra of the distribution that brings upstream; empty if it has the backend's name.
    extra: ClassVar[str] = ""
    #: Folder in it that holds the training configurations, ``*.yaml``.
    config_folder: ClassVar[str] = "configs"
    #: Upstream's distribution, e.g. ``"mace-torch"``.
    distribution: ClassVar[str]
    #: ``module:attribute`` that only the real upstream has.
    symbol: ClassVar[str]
    #: Endings of the names of model files that tell this backend.
    model_suffixes: ClassVar[tuple[str, ...]] = ()
    #: Whether its models may have several heads, of which ``LESCalculator`` takes one, ``head``.
    has_heads: ClassVar[bool] = False
    #: Name of each of ``les.backends.features.FEATURES`` -> whether it works, and why not.
    features: ClassVar[Mapping[str, Support]] = {}

    def problem(self) -> str | None:
        """The reason why upstream cannot be used here, or ``None`` if it can."""
        module_name, attribute = self.symbol.split(":")
        extra = self.extra or self.name
        # Most backends exclude one another, so that of another one would not do.
        install = f'install it in an environment of its own: pip install "les[{extra}]"'
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            return f"{self.distribution} is not installed (no module {error.name!r}); {install}"
        except Exception as error:  # upstream is there but broken: say how
            return f"{self.distribution} fails to import: {type(error).__name__}: {error}"
        if not hasattr(module, attribute):
            return (
                f"the installed module {module_name!r} is not that of {self.distribution} "
                f"(it has no {attribute!r}); {install}"
            )
        return None

    def require(self) -> None:
        """Raise :class:`BackendError` with what to install if upstream is unusable."""
        problem = self.problem()
        if problem is not None:
            raise BackendError(f"backend {self.name!r}: {problem}")

    def version(self) -> str | None:
        """Version of the installed upstream distribution, ``None`` if absent."""
        try:
            return metadata.version(self.distribution)
        except metadata.PackageNotFoundError:
            return None

    def configs(self) -> dict[str, Path]:
        """Training configurations shipped with the adapter, by system name."""
        folder = Path(str(resources.files(self.package))) / self.config_folder
        return {path.stem: path for path in sorted(folder.glob("*.yaml"))}

    def model_folder(self) -> Path:
        """Folder of the models that come with the adapter; it need not exist."""
        return Path(str(resources.files(self.package))) / "models"

    def train(self, arguments: Sequence[str], *, les: bool, **options: Any) -> None:
        """Run upstream's training with its own command-line ``arguments``.

        Args:
            arguments: arguments of the command line.
            les: train the long-range model; otherwise the run is upstream's own.
            options: further options of the adapter's own function.

        Raises:
            BackendError: as :meth:`require`.
        """
        self.require()
        train = importlib.import_module(f"{self.package}.training").train
        train(arguments, les=les, backend=self, **options)

    def calculator(
        self,
        model: str | Path,
        *,
        device: str = "cpu",
        dtype: str = "float64",
        bec: bool | str = False,
        allow_pickle: bool = False,
        head: str | None = None,
        **options: Any,
    ) -> Any:
        """ASE calculator for a trained model, with or without LES.

        Its results are ``energy, forces, energies`` and, with LES, ``charges``, ``dipole`` and
        ``les_energy``. Open structures also have ``quadrupole``, periodic structures have
        ``stress``, and with ``bec`` there are ``born_effective_charges`` ``[n_atoms, 9]``. A
        pickled model, which can run code when it is loaded, is refused without ``allow_pickle``.
        The attribute ``les_config`` is the model's ``les.LESConfig``, or ``None`` for a model
        without LES. ``head`` selects one of several heads. ``options`` are those of the adapter's
        ``LESCalculator``, a ``les.backends.calculator.ChargeCalculator``.

        Raises:
            BackendError: as :meth:`require`.
            ValueError: for a ``head`` where :attr:`has_heads` is false, and as ``LESCalculator``.
        """
        self.require()
        if self.has_heads:
            options["head"] = head
        elif head is not None:
            raise ValueError(
                f"`head` must be left out for models of {self.name}, which have no heads, "
                f"got {head!r}"
            )
        made = importlib.import_module(f"{self.package}.calculator").LESCalculator
        return made(
            model, device=device, dtype=dtype, bec=bec, allow_pickle=allow_pickle, **options
        )

    def require_ending(self, path: Path) -> None:
        """Raise ``ValueError`` for a model file without one of the endings of this backend."""
        if not path.name.endswith(self.model_suffixes):
            raise ValueError(
                f"the name {path} must end with {' or '.join(self.model_suffixes)}, which tells "
                "whose model it is"
            )

    def convert(self, source: Path, target: Path, *, allow_pickle: bool = False) -> None:
        """Write the published model ``source`` to ``target``, as a file of les.

        Raises:
            BackendError: if the backend has no published models of another format.
            ValueError: without ``allow_pickle`` if ``source`` is a pickle, for a file that holds no
                such model, and as :meth:`require_ending`.
        """
        raise BackendError(f"backend {self.name!r} has no published models to convert")

    @abstractmethod
    def training_arguments(self, job: TrainingJob) -> list[str]:
        """Arguments for :meth:`train` that carry out ``job``."""

    @abstractmethod
    def trained_model(self, job: TrainingJob) -> Path:
        """File that ``job`` left for :meth:`calculator`.

        Raises ``FileNotFoundError`` if the run has not finished.
        """

    @abstractmethod
    def history(self, job: TrainingJob) -> list[EpochRecord]:
        """Learning curve of ``job``, from the files that upstream wrote."""
