"""What works with which backend, and why something does not: the page docs/what-works.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

#: Name of a feature -> what it is, in the order of the table.
FEATURES = {
    "training": "`les train` on energies, forces and stress",
    "responses": "`les train` on Born effective charges and dipoles",
    "from_trained": "start from a trained model, with or without LES (`--from`)",
    "foundation": "start from a foundation model",
    "resume": "go on with an interrupted training",
    "heads": "models with several heads",
    "compiled_training": "`torch.compile` in training",
    "molecules_and_crystals": "molecules, liquids and crystals, also in one batch",
    "slabs": "slabs: two periodic axes",
    "wires": "wires: one periodic axis",
    "stress": "stress, with its long-range part",
    "charges": "charges, dipole and Born effective charges",
    "channels": "several charges on each atom",
    "total_charge": "total charge of a structure, which its charges sum to (`neutrality: shift`)",
    "equilibration": "charges that minimise the energy (`charge_equilibration: true`)",
    "moments": "dipoles and quadrupoles of atoms (`use_dipole`, `use_quadrupole`)",
    "induced": "induced charges and dipoles (`use_induced_charge`, `use_induced_dipole`)",
    "fragments": "total charges of molecules in a structure (`fragment`, `fragment_charge`)",
    "embedding": "total charge and spin in features (`embed_total_charge`, `embed_spin`)",
    "field": "external field of a structure",
    "committees": "committees (`les predict MODEL MODEL ...`, `LESCalculator([MODEL, MODEL])`)",
    "hessian": "Hessians by automatic differentiation",
    "precisions": "float32 and float64",
    "safe_files": "model files that load without running code",
    "published": "published models with LES (`les convert`)",
    "compiled_models": "compiled models",
    "torchscript": "TorchScript",
    "ase": "ASE: `LESCalculator`, `les predict`",
    "lammps": "LAMMPS",
}


class Support(NamedTuple):
    """Whether a feature works.

    Attributes:
        works: whether it does.
        note: with which limits it works, or why it does not.
    """

    works: bool
    note: str = ""


def yes(note: str = "") -> Support:
    """A feature that works, maybe with limits."""
    return Support(True, note)


def no(reason: str) -> Support:
    """A feature that does not work, and why."""
    return Support(False, reason)


#: What goes for a backend that says nothing else: most of it is the work of the core.
USUAL = {
    "training": yes(),
    "responses": yes(),
    "from_trained": yes(),
    "resume": yes(),
    "heads": no("Its models have none; `--head` is refused"),
    "compiled_training": no("Training has no option for it"),
    "molecules_and_crystals": yes(),
    "slabs": yes(),
    "wires": no("There is no Ewald sum for one periodic axis"),
    "stress": yes(),
    "charges": yes(),
    "channels": no("The readout gives one charge per atom; several are CACE's"),
    "total_charge": yes(),
    "equilibration": yes("Born effective charges of molecules, and of fragments"),
    "moments": no("The features are scalars"),
    "induced": no("The readout gives charges only"),
    "fragments": yes(),
    "embedding": yes(),
    "field": no("`external_field: true` is refused; a warning tells of structures in one"),
    "committees": yes(),
    "hessian": no("The calculator has no method for it; take finite differences of the forces"),
    "precisions": yes(),
    "safe_files": yes(),
    "published": no("There are none of another format"),
    "ase": yes(),
}


class Notes:
    """The notes of a table, which has each of them once, by its number."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def cell(self, support: Support) -> str:
        """What the table says of ``support``, with the number of its note."""
        text = "yes" if support.works else "no"
        if not support.note:
            return text
        number = self._numbers.setdefault(support.note, len(self._numbers) + 1)
        return f"{text} ({number})"

    def lines(self) -> list[str]:
        """The notes with their numbers."""
        return [f"{number}. {note}" for note, number in self._numbers.items()]


def table(features_of: Mapping[str, Mapping[str, Support]]) -> str:
    """All features of backends as a Markdown table with numbered notes below it.

    Args:
        features_of: name of a backend -> its features. Backends that share them share a column.
    """
    columns: list[tuple[list[str], Mapping[str, Support]]] = []
    for backend, own in features_of.items():
        for names, features in columns:
            if features == own:
                names.append(backend)
                break
        else:
            columns.append(([backend], own))
    notes = Notes()
    lines = [
        f"| | {' | '.join(', '.join(names) for names, _ in columns)} |",
        f"|---|{'---|' * len(columns)}",
    ]
    for name, text in FEATURES.items():
        cells = [notes.cell(features[name]) for _, features in columns]
        lines.append(f"| {text} | {' | '.join(cells)} |")
    lines += ["", *notes.lines()]
    return "\n".join(lines) + "\n"


def unsupported(features: Mapping[str, Support]) -> set[str]:
    """Names of the features that do not work."""
    return {name for name, support in features.items() if not support.works}
