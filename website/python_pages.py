"""Pages on public names of Python, which Sphinx makes of their docstrings."""

from __future__ import annotations

import importlib
from typing import NamedTuple

from adapter_pages import documentation
from texts import text

FOLDER = "reference/python"


class Section(NamedTuple):
    """A page."""

    #: Name of its file, without an ending.
    name: str
    title: str
    #: Packages, of whose names in ``__all__`` it tells, and modules, of whose public ones.
    modules: tuple[str, ...]


SECTIONS = (
    Section("les", "les", ("les",)),
    Section("backends", "Backends and committees", ("les.backends", "les.backends.committee")),
    Section(
        "spectra",
        "Fields, spectra and phonons",
        (
            "les.spectra.field",
            "les.spectra.infrared",
            "les.spectra.harmonic",
            "les.spectra.phonons",
            "les.spectra.polarisability",
        ),
    ),
    Section(
        "dynamics",
        "Molecular dynamics",
        (
            "les.dynamics.run",
            "les.dynamics.plan",
            "les.dynamics.ensemble",
            "les.dynamics.motion",
        ),
    ),
    Section(
        "distillation",
        "Distillation",
        (
            "les.distillation.stages",
            "les.distillation.recipe",
            "les.distillation.settings",
            "les.distillation.teachers",
        ),
    ),
    Section("lammps", "LAMMPS", ("les.engines.lammps",)),
    Section("testing", "Tests that adapters share", ("les.testing",)),
)


#: Packages of the adapters, whose upstreams may be missing here.
ADAPTERS = ("les_mace", "les_nequip", "les_chgnet", "les_cace")


def pages() -> dict[str, str]:
    """Place in the site -> text of each page, the overview first."""
    made = {}
    for section in SECTIONS:
        lines = [f"# {section.title}", ""]
        for module in section.modules:
            names = getattr(importlib.import_module(module), "__all__", None)
            for name in names or ():
                lines += directive("auto" + kind(module, name), f"{module}.{name}")
            if names is None:
                lines += directive("automodule", module)
        made[f"{FOLDER}/{section.name}.md"] = "\n".join(lines)
    for package in ADAPTERS:
        lines = [f"# {package}", "", "```{eval-rst}", *documentation(package), "```", ""]
        made[f"{FOLDER}/{package}.md"] = "\n".join(lines)
    entries = "\n".join([*(section.name for section in SECTIONS), *ADAPTERS])
    made[f"{FOLDER}/index.md"] = text("python.md").replace("ENTRIES", entries)
    return made


def kind(module: str, name: str) -> str:
    """What a public name is, by its form: names of classes begin with a capital letter."""
    if name.isupper():
        return "data"
    return "class" if name[0].isupper() else "function"


def directive(name: str, argument: str) -> list[str]:
    """Lines that let Sphinx read docstrings, which are reStructuredText."""
    return ["```{eval-rst}", f".. {name}:: {argument}", "```", ""]
