"""Runs tutorials: pages of ``docs`` whose code stands there with what it printed and drew.

``python website/tutorials.py docs/tutorials/PAGE.md ...`` runs pages one after the other in one new
folder, and writes to each page what its blocks print now. A block of ``bash`` is a script, and one
of ``python`` is a program of its own. A block that begins with a comment of a file's name,
``# mine.py``, is that file. A block ``text`` after another one is what it printed. A picture
``pictures/NAME.png`` of a page is that which a block has left as ``NAME.png``, in whichever folder.

Tests run the same pages (:func:`run`) in a shorter form: a comment of the page says which words
take the place of others, ``<!-- in tests: --epochs 40 -> --epochs 2 -->``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]

#: A block of code, and what it printed, which stands in a block of its own below.
BLOCK = re.compile(
    r"^```(?P<language>bash|python|yaml)\n(?P<code>.*?)^```\n(?:\n```text\n(?P<printed>.*?)^```\n)?",
    re.DOTALL | re.MULTILINE,
)
#: The name of the file that a block is.
FILE = re.compile(r"# (\S+\.(?:py|yaml))\n")
SHORTER = re.compile(r"<!-- in tests: (.+?) -> (.+?) -->")
PICTURE = re.compile(r"!\[[^\]]*\]\(pictures/([\w-]+\.png)\)")


#: Where the pages are.
PAGES = ROOT / "docs" / "tutorials"

#: What may differ from one time to the next.
NUMBER = re.compile(r"[-+]?\d+(\.\d*)?(e[-+]?\d+)?")


class Ran(NamedTuple):
    """What became of a block of a page."""

    #: What the block printed, empty for a file.
    printed: str
    #: What the page says that it printed, ``None`` where it says nothing.
    recorded: str | None


def run(text: str, folder: Path, environment: Mapping[str, str]) -> list[Ran]:
    """Run all blocks of a page.

    Args:
        text: the page.
        folder: where they run.
        environment: variables of the environment.

    Raises:
        RuntimeError: if a block fails; it has the block and all that it wrote.
    """
    return [
        Ran(perform(block["language"], block["code"], folder, environment), block["printed"])
        for block in BLOCK.finditer(text)
    ]


def perform(language: str, code: str, folder: Path, environment: Mapping[str, str]) -> str:
    """Run a block, or write the file that it is; returns what it printed."""
    name = FILE.match(code)
    if name is not None:
        (folder / name[1]).write_text(code, encoding="utf-8")
        return ""
    if language == "python":
        command = [sys.executable, "-"]
    elif language == "bash":
        command = ["bash", "-euo", "pipefail", "-s"]
    else:
        raise RuntimeError(f"a block of {language} must begin with the name of its file:\n{code}")
    done = subprocess.run(
        command, input=code, cwd=folder, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{code}\nended with\n{done.stdout}{done.stderr}")
    return "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines())


def shortened(text: str) -> str:
    """A page as tests run it."""
    for long, short in SHORTER.findall(text):
        if text.count(long) < 2:  # the comment is one
            raise ValueError(f"no block has {long!r}, which tests were to shorten")
        text = text.replace(long, short)
    return text


def pictures(text: str) -> list[str]:
    """Names of the pictures of a page."""
    return PICTURE.findall(text)


def recorded(text: str, ran: list[Ran]) -> str:
    """The page with what its blocks have printed."""
    outputs = iter(ran)

    def block(match: re.Match[str]) -> str:
        printed = next(outputs).printed
        code = f"```{match['language']}\n{match['code']}```\n"
        return f"{code}\n```text\n{printed}```\n" if printed else code

    return BLOCK.sub(block, text)


def lines_missed(ran: Ran) -> list[str]:
    """Lines of a page that a block did not print; whatever numbers are in them."""
    printed = {without_numbers(line) for line in ran.printed.splitlines()}
    recorded = (ran.recorded or "").splitlines()
    return [line for line in recorded if without_numbers(line) not in printed]


def without_numbers(line: str) -> str:
    """A line with a sign in the place of each number, and single spaces."""
    return " ".join(NUMBER.sub("#", line).replace("#", " # ").split())


def environment(folder: Path) -> dict[str, str]:
    """Variables for blocks: programs of this interpreter first. Puts the examples beside them."""
    (folder / "examples").symlink_to(ROOT / "examples")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}


def main(pages: list[str]) -> None:
    """Run pages and write down what they print and draw."""
    with tempfile.TemporaryDirectory(prefix="les-tutorials-") as temporary:
        folder = Path(temporary)
        variables = environment(folder)
        for page in map(Path, pages):
            text = page.read_text(encoding="utf-8")
            ran = run(text, folder, variables)
            page.write_text(recorded(text, ran), encoding="utf-8")
            for name in pictures(text):
                (drawn,) = folder.rglob(name)
                shutil.copyfile(drawn, page.parent / "pictures" / name)


if __name__ == "__main__":
    main(sys.argv[1:])
