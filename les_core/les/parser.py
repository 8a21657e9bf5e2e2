"""Command lines whose errors are one line, with what was probably meant."""

from __future__ import annotations

import argparse
import functools
import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn


class ArgumentParser(argparse.ArgumentParser):
    """argparse's parser, with errors of one line and without abbreviated options."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def error(self, message: str) -> NoReturn:
        end_with_error(self, message)

    def add_subparsers(self, **kwargs: Any) -> Any:
        return super().add_subparsers(**{"parser_class": _Command, **kwargs})


class _Command(ArgumentParser):
    """One of several commands, which refuses itself what it does not know.

    argparse leaves that to the parser above, whose options are others.
    """

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown


def brief_errors(parser: argparse.ArgumentParser) -> None:
    """Give a parser that another package has made errors of one line."""
    parser.error = functools.partial(end_with_error, parser)  # type: ignore[method-assign]


def end_with_error(parser: argparse.ArgumentParser, message: str) -> NoReturn:
    """Print what is wrong, what was probably meant, and where to read more; exit with status 2.

    Args:
        parser: knows the options and choices that there are.
        message: what argparse has to say.
    """
    meant = [text for word, known in _mistyped(parser, message) for text in _closest(word, known)]
    hint = f" (did you mean {', '.join(meant)}?)" if meant else ""
    parser.exit(2, f"{parser.prog}: error: {message}{hint}; see {parser.prog} --help\n")
    raise AssertionError("the parser must exit")


def _mistyped(parser: argparse.ArgumentParser, message: str) -> Iterator[tuple[str, list[str]]]:
    """Words in a message of argparse that are no option or choice, and those that there are."""
    if message.startswith("unrecognized arguments: "):
        options = [text for action in parser._actions for text in action.option_strings]
        for word in message.split()[2:]:
            name = word.partition("=")[0]
            if name.startswith("--") and name not in options:
                yield name, options
    elif choice := re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message):
        yield choice[1], re.findall(r"[^\s,']+", choice[2])


def _closest(word: str, known: Sequence[str]) -> list[str]:
    return get_close_matches(word, known, n=1)
