"""The page on ``les.LESConfig``: its fields, their defaults and the comments beside them."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Iterator

from les import LESConfig
from texts import text


def page() -> str:
    """The page."""
    lines = [text("configuration.md") + "| setting | default | meaning |", "|---|---|---|"]
    meanings = dict(comments())
    for field in dataclasses.fields(LESConfig):
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        shown = json.dumps(default).strip('"')  # as YAML has it
        lines.append(f"| `{field.name}` | `{shown}` | {meanings[field.name]} |")
    return "\n".join(lines) + "\n"


def comments() -> Iterator[tuple[str, str]]:
    """Each field, and the comment above it in Markdown."""
    collected: list[str] = []
    sources = [
        inspect.getsource(each) for each in LESConfig.__mro__ if dataclasses.is_dataclass(each)
    ]
    for line in "\n".join(sources).splitlines():
        if found := re.match(r"\s+#: (.*)", line):
            collected.append(found[1])
        elif found := re.match(r"    (\w+): .* = ", line):
            yield found[1], markdown(" ".join(collected))
            collected.clear()


def markdown(comment: str) -> str:
    """Code and references of reStructuredText as code of Markdown, fit for a cell of a table."""
    plain = re.sub(r":\w+:`([^`]*)`", r"``\1``", comment)
    return re.sub(r"``([^`]*)``", r"`\1`", plain).replace("|", "\\|")
