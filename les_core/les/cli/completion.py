"""Completion in shells, where the package argcomplete is installed."""

from __future__ import annotations

import argparse
import io
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout

from les.backends import backend_names
from les.parser import parser_of

logger = logging.getLogger("les")


def complete(
    parser: argparse.ArgumentParser, commands: Mapping[str, Callable[[list[str]], object]]
) -> None:
    """Answer a shell that asks what may follow, and end the process; nothing without argcomplete.

    Each command has a parser of its own, which takes the place of ``parser`` behind its name.

    Args:
        parser: of the command line as a whole.
        commands: their names, and what runs them.
    """
    try:
        import argcomplete
        from argcomplete.lexers import split_line
    except ModuleNotFoundError:
        return
    # How the package and the shell understand each other: the line up to the cursor, and the number
    # of the word in it that is the program, from 1.
    line, end = os.environ["COMP_LINE"], int(os.environ["COMP_POINT"])
    first = int(os.environ["_ARGCOMPLETE"])
    words = split_line(line, end)[3][first:]
    if words and words[0] in commands:
        parser = command_parser(words[0], commands[words[0]], words[1:2])
        depth = len(parser.prog.split()) - 1
        os.environ["_ARGCOMPLETE"] = str(first + depth)
    argcomplete.autocomplete(parser, always_complete_options="long")


def command_parser(
    name: str, run: Callable[[list[str]], object], further: list[str]
) -> argparse.ArgumentParser:
    """The parser of a command, or of the one within it that ``further`` names."""
    parser = None
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            parser = parser_of(run, [text for text in further if not text.startswith("-")])
    except Exception as error:  # such as an upstream that cannot be used here
        logger.debug("no completion of les %s: %s", name, error)
    if parser is None:
        parser = argparse.ArgumentParser(prog=f"les {name}")
        if name == "train":
            parser.add_argument("model", choices=backend_names())
    return parser
