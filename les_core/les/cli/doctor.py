"""What is installed here, what stands in the way of using a backend, and what is in a model."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from les.backends import backend_names, backend_of, get_backend, model_path
from les.backends.loading import load_calculator
from les.backends.model_files import check_file
from les.config import LESConfig
from les.ewald import Ewald
from les.sums.cpu.library import describe
from les.sums.reciprocal.accuracy import CANCELLATION, cutoff_error
from les.units import NORM_FACTOR

#: Extras that add commands or programs; backends have lines of their own.
EXTRAS = ("bench", "spectra", "lammps", "engines", "completion")

#: What is said beside the backends that are missing.
SEPARATE = (
    "Some backends exclude one another (MACE and NequIP need different versions of e3nn): install "
    "each into an environment of its own."
)


def unmet_requirements(distribution: str) -> list[str]:
    """Requirements of an installed distribution that this environment does not meet.

    They tell why two backends cannot share an environment. Empty if the package
    ``packaging``, which reads requirements, is not installed.
    """
    try:
        from packaging.requirements import Requirement
    except ModuleNotFoundError:
        return []
    unmet = []
    for text in metadata.requires(distribution) or []:
        requirement = Requirement(text)
        if not _applies(requirement, ""):
            continue
        lacking = _lacking(requirement)
        if lacking is not None:
            needed, installed = lacking
            state = "which is not installed" if installed is None else f"{installed} is installed"
            unmet.append(f"{distribution} needs {needed}, {state}")
    return unmet


def missing_of_extra(extra: str) -> list[str] | None:
    """Distributions that an extra of les needs and that are not installed, by name.

    Those that are installed in a version that does not fit are among them, with both versions.
    ``None`` if the package ``packaging``, which reads requirements, is not installed.
    """
    try:
        from packaging.requirements import Requirement
    except ModuleNotFoundError:
        return None
    missing = []
    for text in metadata.requires("les") or []:
        requirement = Requirement(text)
        # What is needed without the extra, too, is no part of it.
        if not _applies(requirement, extra) or _applies(requirement, ""):
            continue
        if requirement.name == "les":  # with other extras: "les[bench]"
            for other in sorted(requirement.extras):
                missing += missing_of_extra(other) or []
            continue
        lacking = _lacking(requirement)
        if lacking is not None:
            needed, installed = lacking
            missing.append(needed if installed is None else f"{needed} ({installed} is installed)")
    return missing


def _applies(requirement: Any, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _lacking(requirement: Any) -> tuple[str, str | None] | None:
    """What is needed and which version is there instead, if any; ``None`` if all is well."""
    try:
        installed = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return requirement.name, None
    if requirement.specifier.contains(installed, prereleases=True):
        return None
    return f"{requirement.name}{requirement.specifier}", installed


def describe_extras() -> list[str]:
    """One line for each of :data:`EXTRAS`: whether it is installed, and what it lacks."""
    width = max(map(len, EXTRAS)) + 2
    lines = []
    for extra in EXTRAS:
        missing = missing_of_extra(extra)
        if missing is None:
            return [
                "extras: not known, because the package packaging, which reads requirements, is "
                "not installed; install it with: pip install packaging"
            ]
        lacks = f'lacks {", ".join(missing)}; install with: pip install "les[{extra}]"'
        state = f"no  {lacks}" if missing else "ok"
        lines.append(f"extra {extra:<{width}}{state}")
    return lines


def examine() -> list[str]:
    """Lines that describe this environment: versions, every backend and its problems, extras."""
    import numpy
    import torch

    import les

    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    lines = [
        f"les {les.__version__}, Python {platform.python_version()}, torch {torch.__version__}, "
        f"numpy {numpy.__version__}, accelerator: {accelerator}"
    ]
    lines.append(f"kernels of the sum for the CPU: {describe()}")
    width = max(map(len, backend_names()), default=0) + 2
    for name in backend_names():
        backend = get_backend(name)
        problem = backend.problem()
        state = f"{backend.distribution} {backend.version()}" if problem is None else problem
        lines.append(f"{name:<{width}}{'ok' if problem is None else 'no':<4}{state}")
        if backend.version() is not None:
            lines += [
                f"{'':<{width + 4}}{unmet}" for unmet in unmet_requirements(backend.distribution)
            ]
    if any(get_backend(name).problem() for name in backend_names()):
        lines.append(SEPARATE)
    return lines + describe_extras()


def examine_file(
    path: Path, backend: str | None = None, allow_pickle: bool = False, head: str | None = None
) -> str:
    """What is in a model file.

    Args:
        path: the file.
        backend: name of its backend, if the name of the file does not tell it.
        allow_pickle: read a pickle, too, which runs the code it holds.
        head: which head of a model with several.

    Raises:
        BackendError: if the backend is not known, or cannot be used here.
        OSError: if the file is missing or may not be read.
        ValueError: if it is damaged or no model; the message names it.
    """
    backend = backend or backend_of(path)
    path = model_path(path)
    if path.exists():  # else it may be the name of a model that comes with its backend
        check_file(path, "model")
    calculator = load_calculator(get_backend(backend), path, head=head, allow_pickle=allow_pickle)
    return f"{path}: {backend}, {examine_model(calculator.les_config)}"


def examine_model(config: LESConfig | None) -> str:
    """How a model with ``config`` does its long-range part, and what its cutoff leaves out."""
    if config is None:
        return "without LES"
    ewald = Ewald(**config.sum_settings())
    smooth = config.cutoff == "smooth"
    error = cutoff_error(config.sigma, ewald.dl, smooth)
    lines = [
        f"LES with sigma = {config.sigma:g} A, dl = {ewald.dl:.3g} A, {config.cutoff} cutoff",
        f"error of the forces of random charges due to the cutoff: {error:.0e}, of water and "
        f"rattled crystals up to {CANCELLATION * error:.0e}",
    ]
    if not smooth:
        lines.append("energies jump where k-points cross the cutoff as the cell changes")
    if not config.remove_self_interaction:
        lines.append("charges interact with themselves")
    if config.norm_factor != NORM_FACTOR:
        lines.append(f"norm_factor = {config.norm_factor:g} eV A / e^2 instead of {NORM_FACTOR:g}")
    if config.n_channels > 1:
        lines.append(f"{config.n_channels} charges on each atom")
    if config.uses_total_charge:
        lines.append("charges sum to the total charge of a structure")
    if config.embedded:
        names = " and the ".join(name.replace("_", " ") for name in config.embedded)
        lines.append(f"features know the {names} of a structure, which it must say")
    if config.element_charges:
        lines.append("each element has a learned charge, beside what is read from features")
    return "\n  ".join(lines)
