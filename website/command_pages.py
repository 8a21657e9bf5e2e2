"""A page for each command, made from the parsers that the commands themselves use."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from les.cli.command import COMMANDS
from les.parser import parser_of
from les_bench.options import MEASUREMENTS
from les_cace.arguments import build_parser as cace_parser
from les_chgnet.arguments import build_parser as chgnet_parser
from texts import text

FOLDER = "reference/commands"


def pages() -> dict[str, str]:
    """Place in the site -> text of each page, the overview first."""
    rows = [
        f"| [`les {name}`]({name}.md) | {cell(each.summary)} |" for name, each in COMMANDS.items()
    ]
    contents = ["", "```{toctree}", ":hidden:", "", *COMMANDS, "```", ""]
    made = {f"{FOLDER}/index.md": text("commands.md") + "\n".join([*rows, *contents])}
    for name in COMMANDS:
        lines = [f"# les {name}", ""]
        if name == "train":
            lines += [text("train.md")]
        for parser in parsers(name):
            lines += section(parser)
        made[f"{FOLDER}/{name}.md"] = "\n".join(lines)
    return made


def parsers(name: str) -> Iterator[argparse.ArgumentParser]:
    """The parsers of a command: its own, and those of commands within it that are others."""
    if name == "train":
        yield cace_parser(les=True)
        yield chgnet_parser(les=True)
        return
    within = [[], *([each] for each in MEASUREMENTS)] if name == "bench" else [[]]
    for arguments in within:
        parser = parser_of(COMMANDS[name].run, arguments)
        if parser is None:
            raise ValueError(f"`les {' '.join((name, *arguments))}` has used no parser")
        yield parser


def section(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Lines on a parser: its usage, what it does, its arguments, and the commands within it."""
    formatter = argparse.HelpFormatter(parser.prog, width=100)
    formatter.add_usage(parser.usage, parser._actions, parser._mutually_exclusive_groups)
    yield from (f"## `{parser.prog}`", "", "```")
    yield from (formatter.format_help().removeprefix("usage: ").rstrip(), "```", "")
    yield from paragraphs(parser.description or "")
    within: list[argparse.ArgumentParser] = []
    rows = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            within += [each for name, each in action.choices.items() if name not in MEASUREMENTS]
            for choice in action._get_subactions():
                rows.append(f"| `{choice.dest}` | {cell(choice.help or '')} |")
        elif not isinstance(action, argparse._HelpAction):
            rows.append(f"| {names(action)} | {cell(formatter._expand_help(action))} |")
    if rows:
        yield from ("| argument | meaning |", "|---|---|", *rows, "")
    yield from paragraphs(parser.epilog or "")
    for each in within:
        yield from section(each)


def names(action: argparse.Action) -> str:
    """An option as one types it, with the values that it takes."""
    formatter = argparse.HelpFormatter("")
    shown = formatter._metavar_formatter(action, action.dest)(1)[0]
    if not action.option_strings:
        return f"`{shown}`"
    value = "" if action.nargs == 0 else f" {formatter._format_args(action, action.dest.upper())}"
    return ", ".join(f"`{option}{value}`" for option in action.option_strings).replace("|", "\\|")


def cell(text: str) -> str:
    """A text as it may stand in a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def paragraphs(text: str) -> Iterator[str]:
    """A text whose indented lines are shown as they are."""
    shown = False
    for line in text.strip().replace("%%", "%").splitlines():
        indented = line.startswith("  ")
        if indented != shown and (indented or line.strip()):
            yield "```" if not shown else "```\n"
            shown = indented
        yield line.replace("``", "`")
    if shown:
        yield "```"
    yield ""
