"""Pages of the repository: those in ``docs``, some others, and the links between them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[1]

#: Files outside of ``docs`` that are pages of the site, and their places there.
PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "examples/README.md": "examples.md",
    "benchmarks/les_bench/data/README.md": "data/embedded.md",
    "benchmarks/les_bench/data/dft/README.md": "data/dft.md",
}

#: Where the site has other files that pages link to.
FILES = "files"

#: Code in a block or a line, where nothing is a link; or a link, as its text and its target.
CODE_OR_LINK = re.compile(
    r"^ *```.*?^ *```|`[^`\n]*`|\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>[^()\s]+)\)",
    re.DOTALL | re.MULTILINE,
)


def pages() -> dict[str, str]:
    """Place in the site -> text of each page."""
    docs = ROOT / "docs"
    found = [path.relative_to(docs).as_posix() for path in docs.rglob("*.md")]
    sources = {f"docs/{page}": page for page in found} | PAGES
    return {page: (ROOT / path).read_text(encoding="utf-8") for path, page in sources.items()}


def linked_files() -> set[str]:
    """Files that pages link to and that are no pages themselves, relative to the repository."""
    targets = {target for page, text in pages().items() for target in _targets(text, page)}
    return {path for path in targets if site_path(path) not in pages() and _is_file(path)}


def site_path(path: str) -> str:
    """Where the site has a file of the repository; both are relative to their roots."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return PAGES.get(path, f"{FILES}/{path}")


def with_links_of_the_site(text: str, page: str) -> str:
    """The text of a page with links as they are in the site.

    A link to a folder leads to its README. Where there is none, its name stands there instead.
    """

    def replaced(match: re.Match[str]) -> str:
        path, mark, anchor = (match["target"] or "").partition("#")
        source = _in_repository(path, page)
        if source is None:
            return match[0]
        if not _is_file(source):
            if f"{source}/README.md" not in PAGES:
                return f"{match['text']} (`{source}`)"
            source += "/README.md"
        place = os.path.relpath(site_path(source), PurePosixPath(page).parent)
        return f"[{match['text']}]({place}{mark}{anchor})"

    return CODE_OR_LINK.sub(replaced, text)


def _targets(text: str, page: str) -> Iterator[str]:
    for match in CODE_OR_LINK.finditer(text):
        path = _in_repository((match["target"] or "").partition("#")[0], page)
        if path is not None:
            yield path


def _in_repository(path: str, page: str) -> str | None:
    """What a link means, relative to the repository; ``None`` if there is no such file."""
    if not path or re.match(r"\w+:", path):
        return None
    sources = {made: source for source, made in PAGES.items()}
    folder = PurePosixPath(sources.get(page, f"docs/{page}")).parent
    source = os.path.normpath(folder / path)
    return source if (ROOT / source).exists() else None


def _is_file(path: str) -> bool:
    return (ROOT / path).is_file()
