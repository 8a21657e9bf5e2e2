"""What the energy of a published model is the sum of.

A published potential is a list of modules that read and write entries of a dictionary; several
potentials may be combined. Which readouts make up the energy follows from the names of these
entries, starting with the energy whose gradient the forces are.
"""

from __future__ import annotations

from typing import NamedTuple

from les_cace.stubs import Stub, kind_of

#: Kinds of potentials.
POTENTIALS = ("NeuralNetworkPotential", "CombinePotential")

#: Modules whose results are energies, but for sums of others.
ENERGIES = ("Atomwise", "EwaldPotential", "LesWrapper")

#: Modules that a potential may hold: these, sums, and what is computed from charges and energies.
MODULES = (*ENERGIES, "FeatureAdd", "Forces", "Polarization", "Grad", "Dephase")


class Term(NamedTuple):
    """A part of the energy."""

    #: The module that makes it, one of :data:`ENERGIES`.
    module: Stub
    #: What it is multiplied by.
    weight: float
    #: The potential that the module is in.
    potential: Stub


def energy_terms(model: Stub) -> list[Term]:
    """The parts of the energy of a potential, or of a combination of potentials.

    Raises:
        ValueError: for other modules than :data:`MODULES`, a combination other than a sum,
            readouts that are no part of the energy, and forces that are not its gradient.
    """
    if kind_of(model) != "CombinePotential":
        return _of_potential(model, 1.0)
    operation = kind_of(model.operation)
    if operation == "getattr":  # a method of the combination
        operation = str(model.operation.called_with[1])
    if operation != "default_operation":
        raise ValueError(
            f"`operation` of its CombinePotential is {operation!r}, supported is the sum"
        )
    members = list(zip(model.models, model.potential_keys, strict=True))
    terms = [
        term
        for member, keys in members
        for term in _of_potential(member, float(keys.get("weight", 1.0)))
    ]
    for own in ("energy_key", "forces_key"):
        common = [
            key
            for key in model.out_keys
            if all(keys.get(key) == getattr(_forces(member), own) for member, keys in members)
        ]
        if len(common) != 1:
            raise ValueError(
                "its CombinePotential must add up the energies and the forces of its potentials, "
                f"got {list(model.potential_keys)}"
            )
    return terms


def charge_readout(term: Term) -> Stub:
    """The module that reads the charges of an ``EwaldPotential``.

    Raises:
        ValueError: if there is none, or more than one.
    """
    entry = term.module.feature_key
    modules = term.potential.output_modules
    return _only([x for x in modules if getattr(x, "per_atom_output_key", None) == entry], entry)


def _of_potential(potential: Stub, weight: float) -> list[Term]:
    if kind_of(potential) != "NeuralNetworkPotential":
        raise ValueError(f"it must hold a NeuralNetworkPotential, got {kind_of(potential)}")
    for module in potential.input_modules:
        if kind_of(module) != "Preprocess":
            raise ValueError(f"its input module {kind_of(module)} is not supported")
    for module in potential.output_modules:
        if kind_of(module) not in MODULES:
            raise ValueError(f"its output module {kind_of(module)} is not supported")
    terms = _terms(potential, _forces(potential).energy_key, weight)
    used = [term.module for term in terms]
    used += [charge_readout(x) for x in terms if kind_of(x.module) == "EwaldPotential"]
    for module in potential.output_modules:
        if kind_of(module) in ENERGIES and not any(module is x for x in used):
            raise ValueError(f"its {kind_of(module)} of {_result(module)!r} is not in the energy")
    return terms


def _terms(potential: Stub, entry: str, weight: float) -> list[Term]:
    modules = [x for x in potential.output_modules if kind_of(x) in (*ENERGIES, "FeatureAdd")]
    module = _only([x for x in modules if _result(x) == entry], entry)
    if kind_of(module) == "FeatureAdd":
        return [x for part in module.feature_keys for x in _terms(potential, part, weight)]
    return [Term(module, weight, potential)]


def _result(module: Stub) -> str:
    """The entry that a module writes an energy into."""
    renamed = kind_of(module) == "LesWrapper" and hasattr(module, "energy_key")
    return str(module.energy_key if renamed else module.output_key)


def _forces(potential: Stub) -> Stub:
    return _only([x for x in potential.output_modules if kind_of(x) == "Forces"], "forces")


def _only(modules: list[Stub], entry: str) -> Stub:
    if len(modules) != 1:
        kinds = ", ".join(map(kind_of, modules)) or "none"
        raise ValueError(f"one of its output modules must make {entry!r}, got {kinds}")
    return modules[0]
