"""Command lines whose errors are one line, with what was probably meant."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from difflib import get_close_matches
from typing import Any, NoReturn

#: Whether parsers are asked for (:func:`parser_of`) rather than told to parse.
_asked_for: ContextVar[bool] = ContextVar("asked_for", default=False)


class _Found(BaseException):
    """Carries a parser out of the command that was about to use it."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


class ArgumentParser(argparse.ArgumentParser):
    """argparse's parser, with errors of one line and without abbreviated options."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})
        brief_errors(self)

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
    """Give a parser, which another package may have made, errors of one line.

    They say what is wrong, what was probably meant, and where to read more; the exit status is 2.
    """
    given: list[str] = []
    parse = parser.parse_known_args

    def remember(args: Sequence[str] | None = None, *rest: Any, **further: Any) -> Any:
        # One without --help looks for one option, before the parser of the command is used.
        if _asked_for.get() and parser.add_help:
            raise _Found(parser)
        given[:] = sys.argv[1:] if args is None else args
        return parse(args, *rest, **further)

    def error(message: str) -> NoReturn:
        unknown = [text for text in given if _is_unknown(text, parser)]
        # argparse misses an argument before it finds that its name is misspelt.
        if unknown and message.startswith("the following arguments are required"):
            message += f"; unrecognized: {' '.join(unknown)}"
        meant = list(_closest(message, unknown, parser))
        hint = f" (did you mean {', '.join(meant)}?)" if meant else ""
        parser.exit(2, f"{parser.prog}: error: {message}{hint}; see {parser.prog} --help\n")
        raise AssertionError("the parser must exit")

    parser.parse_known_args = remember  # type: ignore[method-assign, assignment]
    parser.error = error  # type: ignore[method-assign]


def parser_of(
    command: Callable[[list[str]], object], arguments: Sequence[str] = ()
) -> argparse.ArgumentParser | None:
    """The parser that a command uses, for its documentation and for completion in shells.

    Args:
        command: a function of a command line, which parses it before it does anything else.
        arguments: what the command line begins with, such as the name of a command within it.

    Returns:
        The parser, which has parsed nothing; ``None`` if the command has used none.
    """
    token = _asked_for.set(True)
    try:
        command(list(arguments))
    except _Found as found:
        return found.parser
    finally:
        _asked_for.reset(token)
    return None


def _is_unknown(text: str, parser: argparse.ArgumentParser) -> bool:
    """Whether ``text`` looks like an option, but is none."""
    name = text.partition("=")[0]
    options = _options(parser)
    abbreviated = parser.allow_abbrev and any(option.startswith(name) for option in options)
    return name.startswith("--") and name not in ("--", *options) and not abbreviated


def _closest(
    message: str, unknown: Sequence[str], parser: argparse.ArgumentParser
) -> Iterator[str]:
    """What was probably meant by options and choices that there are not."""
    for text in unknown:
        if text in message:
            yield from get_close_matches(text.partition("=")[0], _options(parser), n=1)
    if choice := re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message):
        yield from get_close_matches(choice[1], re.findall(r"[^\s,']+", choice[2]), n=1)


def _options(parser: argparse.ArgumentParser) -> list[str]:
    return [text for action in parser._actions for text in action.option_strings]
