"""Pages: their place in the site, their links, and the error messages that they quote."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [*DOCS, *ROOT.glob("*.md"), ROOT / "examples" / "README.md"]
SOURCES = ("les_core/les", "integrations", "benchmarks/les_bench")

#: Three dots in a quoted message stand for what differs from case to case.
ANYTHING = "..."


@cache
def without_code(path: Path) -> str:
    return re.sub(r"^ *```.*?^ *```", "", path.read_text(encoding="utf-8"), flags=re.S | re.M)


def anchors(path: Path) -> set[str]:
    """Names that headings of a page may be linked by."""
    headings = re.findall(r"^#+ (.*)$", without_code(path), re.M)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings)
    return {re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-") for text in plain}


def links(path: Path) -> list[str]:
    text = re.sub(r"`[^`\n]*`", "", without_code(path))
    return [
        link
        for link in re.findall(r"\]\(([^()\s]+)\)", text)
        if not re.match(r"(https?|mailto):", link)
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    dead = []
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert dead == []


def test_every_page_has_a_place_in_the_site():
    index = (ROOT / "website" / "index.md").read_text(encoding="utf-8")
    contents = " ".join(re.findall(r"```{toctree}(.*?)```", index, re.S)).split()
    pages = [path.relative_to(ROOT / "docs").with_suffix("").as_posix() for path in DOCS]
    assert [page for page in pages if page not in contents] == []


def test_every_tutorial_is_run_and_listed():
    index = (ROOT / "docs" / "tutorials" / "index.md").read_text(encoding="utf-8")
    tests = [
        path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_tutorials.py")
    ]
    for page in (ROOT / "docs" / "tutorials").glob("*.md"):
        if page.stem != "index":
            assert f"({page.name})" in index
            assert any(f'"{page.stem}"' in test for test in tests), page.stem


def text_of(node: ast.AST) -> str:
    """Text that is put together in the source, with three dots for what is put into it."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.sub(r"%[-+.\d]*[a-z]", ANYTHING, node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(map(text_of, node.values))
    if isinstance(node, ast.BinOp):
        return text_of(node.left) + text_of(node.right)
    return ANYTHING


def strings(node: ast.AST) -> Iterator[str]:
    """All texts in the source."""
    for each in ast.walk(node):
        if isinstance(each, (ast.Constant, ast.JoinedStr)):
            yield text_of(each)


def plain(text: str) -> str:
    return " ".join(text.replace("`", "").split())


@pytest.fixture(scope="module")
def messages() -> list[str]:
    paths = [path for folder in SOURCES for path in (ROOT / folder).rglob("*.py")]
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in paths)
    return [plain(text) for tree in trees for text in strings(tree) if len(text) > 10]


def occurs(quoted: str, messages: list[str]) -> bool:
    """Whether a message has the parts of what is quoted one after the other.

    Several texts may be put together to one message: the parts may begin in one and end in another.
    """
    parts = [re.escape(part.strip()) for part in plain(quoted).split(ANYTHING) if part.strip()]
    pattern = re.compile(".*".join(parts))
    if any(pattern.search(message) for message in messages):
        return True
    return all(any(re.search(part, message) for message in messages) for part in parts)


def quoted() -> list[str]:
    """Messages in headings of the questions, and in the first column of their table."""
    page = (ROOT / "docs" / "faq.md").read_text(encoding="utf-8")
    places = re.findall(r"^(### `.*|\| `.*?) *(?:\||$)", page, re.M)
    spans = [span for place in places for span in re.findall(r"(`+)(.+?)\1(?!`)", place)]
    return [text.strip() for _, text in spans]


#: Errors that are no message to a user: of programs that use the code wrongly, and Python's own.
NOT_TO_USERS = {"AssertionError", "AttributeError", "NotImplementedError", "SystemExit"}

#: Modules whose messages stand behind that of another, or go to whoever couples a model to les.
INNER = re.compile(r"les/(response|module|testing)/|legacy|settings_buffer|published|stubs\.py")

#: What stands before another message.
BEFORE_OTHERS = (
    "--les_arguments: ...",
    "structure graph_id=...: ...",
    "structure ... of the batch ...",
)


def raised() -> Iterator[tuple[str, str]]:
    """Messages that users may meet, and where they are raised; not those made elsewhere."""
    for path in (path for folder in SOURCES for path in (ROOT / folder).rglob("*.py")):
        place = path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            call = node.exc if isinstance(node, ast.Raise) else node
            if not isinstance(call, ast.Call) or not call.args or INNER.search(place):
                continue
            name = ast.unparse(call.func)
            if node is call and not name.endswith("parser.error"):
                continue
            text = plain(text_of(call.args[0]))
            if name not in NOT_TO_USERS and len(re.findall("[a-z]", text)) > 7:
                yield f"{place}:{node.lineno}", text


def missing(found: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those that no entry is for."""
    parts = [[re.escape(x.strip()) for x in plain(text).split(ANYTHING)] for text in quoted()]
    entry = re.compile("|".join(".*".join(filter(None, each)) for each in parts))
    return [each for each in found if each[1] not in BEFORE_OTHERS and not entry.search(each[1])]


def test_every_message_has_an_entry():
    messages = list(raised())
    assert len(messages) > 600
    assert missing(messages) == []


def test_messages_without_an_entry_are_found():
    unhelpful = ("here:1", "the value is wrong"), ("here:2", "value must be positive")
    helpful = ("here:3", "value must be positive, got ..."), ("here:4", "... is damaged")
    assert missing((*unhelpful, *helpful)) == list(unhelpful)


@pytest.mark.parametrize("message", quoted())
def test_quoted_messages_occur(message, messages):
    assert occurs(message, messages)


def test_messages_that_do_not_occur_are_found(messages):
    assert len(quoted()) > 25
    assert not occurs("the installed module ... is not that which ...", messages)
    assert not occurs("... is damaged: it lacks the checksum of its part ...", messages)


def test_formulas_of_the_site(monkeypatch):
    """One half is one half, and not twelve above what follows."""
    pytest.importorskip("sphinx")
    monkeypatch.syspath_prepend(str(ROOT / "website"))
    mathml = pytest.importorskip("mathml")
    assert mathml.understood(r"\tfrac12\sum \Big(q\Big)") == r"\tfrac{1}{2}\sum (q)"
    halves = mathml.tex2mathml(mathml.understood(r"\tfrac12\sum"))
    assert "<mn>1</mn>" in halves
    assert "<mn>12</mn>" not in halves
