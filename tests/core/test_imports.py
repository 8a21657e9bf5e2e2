"""No module imports, directly or by way of others, a module that imports it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = [ROOT / "les_core", *(ROOT / "integrations").iterdir(), ROOT / "benchmarks"]


def modules(folders: Iterable[Path]) -> dict[str, Path]:
    """The modules of the packages in ``folders``, by their names."""
    found = {}
    for folder in folders:
        for path in sorted(folder.glob("les*/**/*.py")):
            name = ".".join(path.relative_to(folder).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


def imported(name: str, known: Mapping[str, Path]) -> set[str]:
    """Those of the ``known`` modules that one names in its imports.

    Imports within functions, and those for types alone, count as well: either would only hide that
    two modules need each other.
    """
    found = set()
    for node in ast.walk(ast.parse(known[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for full in names:
            found.add(full if full in known else full.rpartition(".")[0])
    return found & set(known) - {name}


def circles(graph: Mapping[str, set[str]]) -> Iterator[list[str]]:
    """For each module from which imports lead back to it, one shortest way around."""
    for start in graph:
        chains, seen = [[start]], set()
        while chains:
            chain = chains.pop(0)
            if start in graph[chain[-1]]:
                yield [*chain, start]
                break
            fresh = graph[chain[-1]] - seen
            seen |= fresh
            chains += [[*chain, each] for each in sorted(fresh)]


def graph_of(folders: Iterable[Path]) -> dict[str, set[str]]:
    known = modules(folders)
    return {name: imported(name, known) for name in known}


def test_no_circles_of_imports() -> None:
    graph = graph_of(FOLDERS)
    assert {"les", "les_cace", "les_chgnet", "les_mace", "les_nequip", "les_bench"} <= set(graph)
    assert [" -> ".join(circle) for circle in circles(graph)] == []


@pytest.mark.parametrize(
    "back",
    [
        "from les_some import first",
        "from les_some.first import a",
        "def f():\n    import les_some.first",
        "if TYPE_CHECKING:\n    from les_some.first import A",
    ],
)
def test_circles_are_found(back: str, tmp_path: Path) -> None:
    package = tmp_path / "les_some"
    package.mkdir()
    for name, text in {
        "__init__": "",
        "first": "from les_some.second import b",
        "second": "import les_some.third",
        "third": back,
        "beside": "from les_some import first",
    }.items():
        (package / f"{name}.py").write_text(text, encoding="utf-8")
    found = {circle[0]: circle for circle in circles(graph_of([tmp_path]))}
    names = [f"les_some.{name}" for name in ("first", "second", "third")]
    assert set(found) == set(names)
    assert found[names[0]] == [*names, names[0]]
