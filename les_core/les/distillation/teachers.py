"""Teachers, which label structures with energies and forces: by name, function or file."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from les.backends import BackendError, backend_of, get_backend, model_path
from les.backends.loading import load_calculator
from les.data.atoms import ANY_AXES, check_atoms, check_elements, labels_without_effect
from les.data.spin import SPIN_NAMES, spin_multiplicity
from les.data.total_charge import TOTAL_CHARGE_NAMES, total_charge
from les.distillation.recipe import Settings
from les.distillation.registry import REGISTRY, KnownTeacher
from les.distillation.settings import TeacherSettings
from les.files import checksum
from les.response.born import BORN_CHARGES

#: Result of a calculator -> label; the first ones are of structures, the others of atoms.
OF_STRUCTURES = {"energy": "energy", "stress": "stress", "dipole": "dipole"}
OF_ATOMS = {"forces": "forces", "charges": "charges", "magmoms": "magmoms", BORN_CHARGES: "bec"}


class Teacher:
    """Gives labels of structures.

    Attributes:
        calculator: an ASE calculator.
        provenance: everything that the labels depend on besides the structures: the teacher as it
            was named, its package and version, options, and a checksum of a file.
        elements: atomic numbers that it knows; ``None`` if only its calculator knows them.

    Args:
        calculator: see above.
        provenance: see above.
        known: the entry of a teacher of the registry.
    """

    def __init__(
        self, calculator: Any, provenance: Mapping[str, Any], known: KnownTeacher | None = None
    ) -> None:
        self.calculator = calculator
        self.provenance = dict(provenance)
        self.takes_charge = known is not None and known.charges
        self._parameters: dict[str, Any] = {}
        if self.takes_charge:
            given = calculator.parameters
            self._parameters = {name: given.get(name) for name in ("charge", "multiplicity")}
        types = getattr(calculator, "type_map", None)  # of SevenNet
        self.elements = known.elements if known is not None else None
        if self.elements is None and isinstance(types, dict):
            self.elements = frozenset(map(int, types))

    def check(self, atoms: Any) -> None:
        """Refuse a structure that the teacher cannot label.

        Raises:
            ValueError: for an empty structure, elements that the teacher does not know, and a total
                charge, a spin or a field that it would ignore.
        """
        check_atoms(atoms, ANY_AXES)
        if self.elements is not None:
            check_elements(atoms, self.elements)
        used = set(getattr(self.calculator, "used_labels", ()))
        if self.takes_charge:
            used |= {*TOTAL_CHARGE_NAMES, *SPIN_NAMES}
        for name, value in labels_without_effect(atoms).items():
            if name not in used:
                raise ValueError(f"it has {name}={value}, which this teacher cannot use")

    def results(self, atoms: Any) -> dict[str, Any]:
        """Energy [eV], forces [eV/A] and further results of the teacher for a structure.

        Structures with three periodic axes have a stress ``[6]`` [eV/A^3], in the order of Voigt;
        open structures have a dipole [e A].

        Raises:
            ValueError: as :meth:`check`; and whatever the calculator raises.
        """
        self.check(atoms)
        bare = atoms.copy()
        bare.calc = None
        self.prepare(atoms)
        names = ["energy", "forces"]
        if atoms.pbc.all() and "stress" in self.calculator.implemented_properties:
            names.append("stress")
        self.calculator.calculate(bare, names)
        kept = (*OF_STRUCTURES, *OF_ATOMS)
        found = {
            name: np.array(value, dtype=float)
            for name, value in self.calculator.results.items()
            if name in kept and value is not None
        }
        if not atoms.pbc.all():
            found.pop("stress", None)
        elif "stress" in found and found["stress"].shape == (3, 3):
            found["stress"] = found["stress"].ravel()[[0, 4, 8, 5, 2, 1]]  # in the order of Voigt
        if atoms.pbc.any():
            found.pop("dipole", None)
        return found

    def prepare(self, atoms: Any) -> None:
        """Pass the total charge and the spin of a structure to the calculator, if it uses them."""
        if not self.takes_charge:
            return
        state = dict(self._parameters)
        if any(name in atoms.info for name in TOTAL_CHARGE_NAMES):
            state["charge"] = total_charge(atoms)
        if any(name in atoms.info for name in SPIN_NAMES):
            state["multiplicity"] = int(spin_multiplicity(atoms))
        self.calculator.set(**state)


def load_teacher(text: str, options: Mapping[str, Any] | None = None) -> Teacher:
    """The teacher of a name, of ``module:callable``, or of a model file.

    Args:
        text: name, ``module:callable`` or file. A text that names an existing file is a file.
        options: keyword arguments of its calculator.

    Raises:
        BackendError: if it is not installed; the message says what to install.
        ValueError: if it is none of these, or its calculator cannot be made; the message names
            ``text``.
    """
    options = dict(options or {})
    provenance = provenance_of(text, options)
    if text in REGISTRY:
        known = REGISTRY[text]
        return Teacher(_made(text, known.make, options), provenance, known)
    path = model_path(text)
    if path.is_file():
        backend = get_backend(options.pop("backend", None) or backend_of(text))
        options.setdefault("device", "cpu")
        return Teacher(load_calculator(backend, path, **options), provenance)
    return Teacher(_made(text, _function(text)[1], options), provenance)


def provenance_of(text: str, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Everything that labels depend on besides the structures, without making a calculator.

    Args:
        text, options: as for :func:`load_teacher`.

    Returns:
        The teacher and the options as they are given, the package that it comes from with its
        version, and the checksum of a model file or of the module with a function.

    Raises:
        BackendError, ValueError: as :func:`load_teacher`.
    """
    provenance: dict[str, Any] = {"teacher": text, "options": dict(options or {})}
    if text in REGISTRY:
        problem = missing(text)
        if problem is not None:
            raise BackendError(problem)
        package: str | None = REGISTRY[text].distribution
    elif (path := model_path(text)).is_file():
        backend = get_backend(provenance["options"].get("backend") or backend_of(text))
        found = {"package": backend.distribution, "version": backend.version()}
        return provenance | found | {"checksum": checksum(path)}
    elif ":" in text:
        module, _ = _function(text)
        name = module.__name__.partition(".")[0]
        package = metadata.packages_distributions().get(name, [None])[0]
        source = getattr(module, "__file__", None)
        if source is not None and Path(source).is_file():
            provenance["checksum"] = checksum(source)
    else:
        close = get_close_matches(text, REGISTRY, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"no teacher {text!r}{hint} (known: {', '.join(REGISTRY)}; or module:callable, a model "
            "file, or a name of `les models list`)"
        )
    return provenance | {"package": package, "version": package and _version(package)}


def load(settings: Settings, teacher: TeacherSettings) -> Teacher:
    """The teacher of a distillation, as :func:`load_teacher`.

    A model file may be named relative to the folder of the settings.
    """
    return load_teacher(_named(settings, teacher), teacher.options)


def described(settings: Settings, teacher: TeacherSettings) -> dict[str, Any]:
    """A teacher as records compare it, since another one may have the same name.

    Raises:
        BackendError, ValueError: as :func:`provenance_of`.
    """
    found = provenance_of(_named(settings, teacher), teacher.options)
    return {**found, "teacher": teacher.teacher}


def _named(settings: Settings, teacher: TeacherSettings) -> str:
    path = settings.path(teacher.teacher)
    return str(path) if path.is_file() else teacher.teacher


def missing(name: str) -> str | None:
    """The reason why a teacher of the registry cannot be used here, and what to do, or ``None``."""
    known = REGISTRY[name]
    try:
        importlib.import_module(known.module)
    except ModuleNotFoundError as error:
        return (
            f"teacher {name!r} needs {known.distribution} (no module {error.name!r}); install it "
            f"with: {known.install} -- if that does not go together with the student, in another "
            "environment, which `python` of the teacher names"
        )
    except Exception as error:  # the package is there but broken: say how
        return f"{known.distribution} fails to import: {type(error).__name__}: {error}"
    return None


def _function(text: str) -> tuple[ModuleType, Any]:
    """The module and the function that ``module:callable`` names."""
    name, _, attribute = text.partition(":")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise BackendError(
            f"teacher {text!r}: there is no module {error.name!r} here; install what brings it, or "
            "name by `python` the environment that has it"
        ) from error
    make = getattr(module, attribute, None)
    if not callable(make):
        raise ValueError(f"teacher {text!r}: the module {name} has no function {attribute!r}")
    return module, make


def _made(text: str, make: Any, options: dict[str, Any]) -> Any:
    try:
        calculator = make(**options)
    except (BackendError, OSError):  # these have a message of their own
        raise
    except Exception as error:
        raise ValueError(
            f"teacher {text!r} cannot be made with the options {options}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not callable(getattr(calculator, "calculate", None)):
        raise ValueError(
            f"teacher {text!r} must give an ASE calculator, got a {type(calculator).__name__}"
        )
    lacking = {"energy", "forces"} - set(getattr(calculator, "implemented_properties", ()))
    if lacking:
        raise ValueError(f"teacher {text!r} gives no {' and no '.join(sorted(lacking))}")
    return calculator


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
