"""Suites: tables that say which models are compared on which systems, how often and how long."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from les_bench.suite.cell import Cell
from les_bench.suite.run import VARIANTS
from les_bench.systems.systems import get_system

#: The suites that come with les.
TABLE = Path(__file__).with_name("suites.yaml")


class SuiteError(ValueError):
    """A suite does not exist, or its table cannot be used; the message names the entry."""


@dataclass(frozen=True)
class Part:
    """Every one of some systems, models and seeds, without and with LES."""

    systems: tuple[str, ...]
    models: tuple[str, ...]
    variants: tuple[str, ...] = VARIANTS
    #: Seeds 1 to this number.
    seeds: int = 1
    #: Number of epochs, or numbers by ``MODEL/SYSTEM``, ``MODEL`` or ``default``.
    epochs: int | Mapping[str, int] | None = None
    #: Shares of the training set, up to 1.
    fractions: tuple[float, ...] = (1.0,)
    #: Model -> further options of its training command.
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: What these models are a control of; ``options`` say how they are made.
    control: str = ""

    def n_epochs(self, model: str, system: str) -> int | None:
        """Epochs of one training; ``None`` keeps the number of the training configuration."""
        if self.epochs is None or isinstance(self.epochs, int):
            return self.epochs
        names = (f"{model}/{system}", model, "default")
        return next((self.epochs[name] for name in names if name in self.epochs), None)

    def cells(self, seed: int) -> Iterator[Cell]:
        """Trainings with one seed; the variants of a pair follow one another."""
        if seed > self.seeds:
            return
        for fraction in self.fractions:
            for system in self.systems:
                for model in self.models:
                    epochs = self.n_epochs(model, system)
                    more = self.control, self.options.get(model, ())
                    for variant in self.variants:
                        yield Cell(system, model, variant, seed, epochs, fraction, *more)


@dataclass(frozen=True)
class Suite:
    """Trainings that belong together."""

    name: str
    title: str
    parts: tuple[Part, ...]
    #: Where data come from, see ``les_bench.systems.datasets.load``.
    data: str = "auto"

    def cells(self) -> list[Cell]:
        """All trainings, once each; all with the first seed come first."""
        seeds = range(1, 1 + max(part.seeds for part in self.parts))
        found = (cell for seed in seeds for part in self.parts for cell in part.cells(seed))
        return list(dict.fromkeys(found))

    def only(
        self,
        systems: Sequence[str] | None = None,
        models: Sequence[str] | None = None,
        variants: Sequence[str] | None = None,
        seeds: int | None = None,
        epochs: int | None = None,
        fractions: Sequence[float] | None = None,
    ) -> Suite:
        """The suite restricted to some of its entries, with other numbers where they are given.

        Raises:
            SuiteError: for a system, model or variant that no part of the suite has, and for
                numbers that are not possible.
        """
        _check_numbers("the suite", 1 if seeds is None else seeds, epochs, fractions or (1.0,))

        def chosen(kind: str, wanted: Sequence[str] | None) -> list[tuple[str, ...]]:
            have = [getattr(part, kind) for part in self.parts]
            for name in wanted or ():
                _known(kind.removesuffix("s"), name, {x for names in have for x in names}, self)
            if wanted is None:
                return have
            return [tuple(name for name in names if name in wanted) for names in have]

        choice = zip(
            chosen("systems", systems), chosen("models", models), chosen("variants", variants)
        )
        parts = tuple(
            Part(
                *names,
                seeds=part.seeds if seeds is None else seeds,
                epochs=part.epochs if epochs is None else epochs,
                fractions=part.fractions if fractions is None else tuple(fractions),
                control=part.control,
                options=part.options,
            )
            for part, names in zip(self.parts, choice)
        )
        return Suite(self.name, self.title, parts, self.data)


def suite_names() -> list[str]:
    """Names of the suites that come with les."""
    return list(_read(TABLE))


def get_suite(name: str) -> Suite:
    """The suite ``name``, or the only one in the YAML file of this name.

    Raises:
        SuiteError: if there is none, or its table cannot be used.
    """
    if name.endswith((".yaml", ".yml")):
        table = _read(Path(name))
        if len(table) != 1:
            raise SuiteError(f"{name} must hold one suite, got {', '.join(table) or 'none'}")
        ((name, entry),) = table.items()
        return _suite(name, entry)
    table = _read(TABLE)
    if name not in table:
        closest = get_close_matches(name, table, n=1)
        hint = f"; did you mean {closest[0]!r}?" if closest else ""
        raise SuiteError(
            f"unknown suite {name!r}{hint} (known: {', '.join(table)}; a file must end with .yaml)"
        )
    return _suite(name, table[name])


def suite_of(
    systems: Sequence[str],
    models: Sequence[str],
    variants: Sequence[str] = VARIANTS,
    *,
    demo: bool = False,
) -> Suite:
    """A suite without a name, of some systems and models; ``demo`` for few epochs."""
    for variant in variants:
        if variant not in VARIANTS:
            raise SuiteError(f"`variant` must be one of {', '.join(VARIANTS)}, got {variant!r}")
    demo_epochs = {name: get_system(name).demo_epochs for name in systems} if demo else {}
    epochs = {f"{model}/{name}": n for model in models for name, n in demo_epochs.items()}
    part = Part(tuple(systems), tuple(models), tuple(variants), epochs=epochs or None)
    return Suite("", "", (part,))


def _read(path: Path) -> dict[str, Any]:
    try:
        table = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SuiteError(f"{path} cannot be read as a table of suites: {error}") from error
    if not isinstance(table, dict):
        raise SuiteError(f"{path} must hold suites by their names, got {table!r}")
    return table


def _suite(name: str, entry: Any) -> Suite:
    _check_keys(f"suite {name!r}", entry, {"title", "data", "parts"}, required={"parts"})
    if not isinstance(entry["parts"], list) or not entry["parts"]:
        raise SuiteError(f"suite {name!r}: `parts` must be a list, got {entry['parts']!r}")
    parts = tuple(_part(f"suite {name!r}, part {i}", x) for i, x in enumerate(entry["parts"], 1))
    return Suite(name, str(entry.get("title", "")), parts, str(entry.get("data", "auto")))


def _part(where: str, entry: Any) -> Part:
    fields = set(Part.__dataclass_fields__)
    _check_keys(where, entry, fields, required={"systems", "models"})
    lists = {key: entry[key] for key in ("systems", "models", "variants") if key in entry}
    for key, names in lists.items():
        if not isinstance(names, list) or not names or not all(isinstance(x, str) for x in names):
            raise SuiteError(f"{where}: `{key}` must be a list of names, got {names!r}")
    for system in entry["systems"]:
        try:
            get_system(system)
        except ValueError as error:
            raise SuiteError(f"{where}: {error}") from error
    for variant in entry.get("variants", ()):
        if variant not in VARIANTS:
            raise SuiteError(f"{where}: variants are {', '.join(VARIANTS)}, got {variant!r}")
    seeds, epochs = entry.get("seeds", 1), entry.get("epochs")
    fractions = entry.get("fractions", [1.0])
    _check_numbers(where, seeds, epochs, fractions)
    names = {key: tuple(names) for key, names in lists.items()}
    control, options = entry.get("control", ""), entry.get("options", {})
    listed = isinstance(options, dict) and all(isinstance(x, list) for x in options.values())
    if not listed or (control and not options) or set(options) - set(names["models"]):
        raise SuiteError(
            f"{where}: `options` must be lists by the names of its models, and a `control` needs "
            f"them, got {options!r}"
        )
    return Part(
        **names,
        seeds=seeds,
        epochs=epochs,
        fractions=tuple(float(x) for x in fractions),
        control=str(control),
        options={model: tuple(map(str, texts)) for model, texts in options.items()},
    )


def _check_numbers(where: str, seeds: Any, epochs: Any, fractions: Any) -> None:
    numbers = list(epochs.values()) if isinstance(epochs, Mapping) else [epochs]
    numbers = [seeds, *(x for x in numbers if x is not None)]
    if any(not isinstance(x, int) or isinstance(x, bool) or x < 1 for x in numbers):
        raise SuiteError(
            f"{where}: `seeds` and `epochs` must be positive numbers, got {seeds!r} and {epochs!r}"
        )
    listed = isinstance(fractions, (list, tuple)) and len(fractions) > 0
    if not listed or any(not isinstance(x, (int, float)) or not 0 < x <= 1 for x in fractions):
        raise SuiteError(
            f"{where}: `fractions` must be a list of numbers in (0, 1], got {fractions!r}"
        )


def _check_keys(where: str, entry: Any, known: set[str], required: set[str]) -> None:
    if not isinstance(entry, dict):
        raise SuiteError(f"{where} must be a table with {', '.join(sorted(known))}, got {entry!r}")
    for key in entry:
        if key not in known:
            closest = get_close_matches(str(key), known, n=1)
            hint = f"; did you mean `{closest[0]}`?" if closest else ""
            raise SuiteError(f"{where}: unknown key `{key}`{hint}")
    if missing := sorted(required - entry.keys()):
        raise SuiteError(f"{where} lacks `{'`, `'.join(missing)}`")


def _known(kind: str, name: str, names: set[str], suite: Suite) -> None:
    if name not in names:
        closest = get_close_matches(name, names, n=1)
        hint = f"; did you mean {closest[0]!r}?" if closest else ""
        raise SuiteError(
            f"suite {suite.name!r} has no {kind} {name!r}{hint} "
            f"(it has: {', '.join(sorted(names))})"
        )
