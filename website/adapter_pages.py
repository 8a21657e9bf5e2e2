"""Docstrings of adapters, read from their source, because their upstreams need not be here."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path

from sphinx.ext.napoleon import Config, GoogleDocstring

INTEGRATIONS = Path(__file__).resolve().parents[1] / "integrations"

#: What a class, a function or a method may be in Python's syntax tree.
Documented = ast.ClassDef | ast.FunctionDef


def public_names(package: str) -> dict[str, str]:
    """Name -> module of what an adapter offers, as its ``__init__.py`` says."""
    (folder,) = INTEGRATIONS.glob(f"*/{package}")
    for node in ast.parse((folder / "__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_MODULES":
            found: dict[str, str] = ast.literal_eval(node.value)
            return found
    raise ValueError(f"{package} does not say what it offers")


def documentation(package: str) -> Iterator[str]:
    """Lines of reStructuredText on all public names of an adapter."""
    for name, module in public_names(package).items():
        (path,) = INTEGRATIONS.glob(f"*/{module.replace('.', '/')}.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, Documented) and node.name == name:
                yield from described(node, f"{package}.{name}")
                break
        else:
            raise ValueError(f"{path} has no {name}")


def described(node: Documented, name: str) -> Iterator[str]:
    """Lines on a class with its public methods, or on a function."""
    is_class = isinstance(node, ast.ClassDef)
    kind = "class" if is_class else "function"
    yield from (f".. py:{kind}:: {name}{signature(node)}", "")
    text = inspect.cleandoc(ast.get_docstring(node) or "")
    lines = GoogleDocstring(text, Config(napoleon_use_rtype=False)).lines()
    yield textwrap.indent("\n".join(lines), "   ")
    yield ""
    for each in node.body if is_class else ():
        if isinstance(each, ast.FunctionDef) and shown(each):
            method = "\n".join(described(each, each.name)).replace("py:function", "py:method", 1)
            yield textwrap.indent(method, "   ")


def shown(method: ast.FunctionDef) -> bool:
    """Whether a method is public and documented, and neither a property nor an overload."""
    return (
        not method.name.startswith("_")
        and ast.get_docstring(method) is not None
        and not method.decorator_list
    )


def signature(node: Documented) -> str:
    """Arguments in brackets, without ``self``; nothing for a class that does not name them."""
    if isinstance(node, ast.ClassDef):
        for each in node.body:
            if isinstance(each, ast.FunctionDef) and each.name == "__init__":
                return signature(each).partition(" -> ")[0]
        return ""
    arguments = ast.unparse(node.args)
    if arguments.partition(",")[0] in ("self", "cls"):
        arguments = arguments.partition(",")[2].strip()
    returned = f" -> {ast.unparse(node.returns)}" if node.returns is not None else ""
    return f"({arguments}){returned}"
