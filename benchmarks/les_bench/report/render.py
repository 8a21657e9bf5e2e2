"""Pages of headings, paragraphs, tables and pictures, as Markdown and as one HTML file."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

STYLE = """
:root { color-scheme: light dark; --text: #1f2328; --soft: #59636e; --line: #d1d9e0;
        --page: #fff; --box: #f6f8fa; --lower: #1a7f37; --higher: #b35900; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6edf3; --soft: #9da7b3; --line: #3d444d; --page: #0d1117; --box: #161b22;
          --lower: #3fb950; --higher: #e09b3d; } }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page);
       max-width: 1240px; margin: 0 auto; padding: 1.2em 1em 3em; }
h1 { font-size: 1.5em; margin: 0 0 .4em; } h2 { font-size: 1.2em; margin: 1.8em 0 .3em; }
h3 { font-size: 1em; margin: 1.2em 0 .2em; }
p { color: var(--soft); max-width: 75em; margin: .5em 0; }
p.verdict { color: var(--text); font-size: 1.12em; background: var(--box); padding: .7em 1em;
            border-left: 4px solid var(--soft); border-radius: 4px; }
.scroll { overflow-x: auto; margin: .8em 0; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: .3em .6em; border-bottom: 1px solid var(--line); text-align: right; }
td { white-space: nowrap; }
th { border-bottom: 2px solid var(--soft); font-weight: 600; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; }
td.lower, td.higher, td.none { white-space: normal; min-width: 9em; }
td.lower { color: var(--lower); font-weight: 600; } td.higher { color: var(--higher); }
td.none { color: var(--soft); }
details { border: 1px solid var(--line); border-radius: 6px; margin: .6em 0; padding: .4em .9em; }
summary { cursor: pointer; font-weight: 600; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(280px, 1fr));
            gap: 1em; margin: 1em 0; }
figure { margin: 0; } figcaption { font-size: 13px; color: var(--soft); margin-top: .3em; }
img { width: 100%; height: auto; display: block; background: #fff; border-radius: 6px; }
@media (max-width: 600px) { body { padding: .8em .7em 2em; font-size: 14px; }
  table { font-size: 12px; } th, td { padding: .25em .4em; } }
"""


@dataclass(frozen=True)
class Cell:
    """A cell of a table: its text, and what it says: ``lower``, ``higher``, ``none`` or nothing."""

    text: str
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """A table; cells are texts, or :class:`Cell` where they say something."""

    header: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]

    def markdown(self) -> str:
        """Pipe table, numbers to the right."""
        rule = [":--"] + ["--:"] * (len(self.header) - 1)
        rows = [[_text(cell).replace("|", "\\|") for cell in row] for row in self.rows]
        return "\n".join("| " + " | ".join(row) + " |" for row in (self.header, rule, *rows))

    def html(self) -> str:
        """The same as an HTML table, which scrolls by itself where it is wider than the page."""
        head = "".join(f"<th>{escape(text)}</th>" for text in self.header)
        body = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in self.rows)
        return f'<div class="scroll"><table>\n<tr>{head}</tr>\n{body}\n</table></div>'


def _text(cell: str | Cell) -> str:
    return cell if isinstance(cell, str) else cell.text


def _cell(cell: str | Cell) -> str:
    kind = f' class="{cell.kind}"' if isinstance(cell, Cell) and cell.kind else ""
    return f"<td{kind}>{escape(_text(cell))}</td>"


@dataclass(frozen=True)
class Heading:
    """A section heading; level 1 is the page's title."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Verdict:
    """The sentence to be read first."""

    text: str


@dataclass(frozen=True)
class Picture:
    """A PNG file and what it shows."""

    path: Path
    caption: str


@dataclass(frozen=True)
class Details:
    """Blocks that are folded until one asks for them."""

    title: str
    blocks: Sequence[Block]


#: A page is a list of these; ``str`` are paragraphs.
Block = Heading | Verdict | Table | Picture | Details | str


def markdown(page: Sequence[Block]) -> str:
    """The page as Markdown; pictures are named, and stand beside it."""
    return "\n\n".join(_markdown(block) for block in page) + "\n"


def _markdown(block: Block) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {block.text}"
    if isinstance(block, Verdict):
        return f"**{block.text}**"
    if isinstance(block, Table):
        return block.markdown()
    if isinstance(block, Picture):
        return f"![{block.caption}]({block.path.name})"
    if isinstance(block, Details):
        return "\n\n".join([f"### {block.title}", *map(_markdown, block.blocks)])
    return block


def html(page: Sequence[Block], title: str) -> str:
    """One file with the pictures inside, so that it opens anywhere."""
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style></head>\n<body>\n"
        + _blocks(page)
        + "\n</body>\n</html>\n"
    )


def _blocks(blocks: Sequence[Block]) -> str:
    """Blocks one after the other; pictures that follow one another share a grid."""
    parts: list[str] = []
    pictures: list[str] = []
    for block in [*blocks, None]:
        if isinstance(block, Picture):
            png = base64.b64encode(block.path.read_bytes()).decode()
            pictures.append(
                f'<figure><img alt="{escape(block.caption)}" src="data:image/png;base64,{png}">'
                f"<figcaption>{escape(block.caption)}</figcaption></figure>"
            )
            continue
        if pictures:
            parts.append('<div class="pictures">\n' + "\n".join(pictures) + "\n</div>")
            pictures = []
        if block is not None:
            parts.append(_html(block))
    return "\n".join(parts)


def _html(block: Heading | Verdict | Table | Details | str) -> str:
    if isinstance(block, Heading):
        return f"<h{block.level}>{escape(block.text)}</h{block.level}>"
    if isinstance(block, Verdict):
        return f'<p class="verdict">{escape(block.text)}</p>'
    if isinstance(block, Table):
        return block.html()
    if isinstance(block, Details):
        return (
            f"<details><summary>{escape(block.title)}</summary>\n"
            f"{_blocks(block.blocks)}\n</details>"
        )
    return f"<p>{escape(block)}</p>"
