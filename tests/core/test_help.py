"""What commands say about themselves: every argument has a help text, ``les help``, completion."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from les import cli
from les.cli.command import COMMANDS
from les.cli.completion import command_parser
from les.parser import ArgumentParser, parser_of
from les_bench.cli import main as bench_command
from les_bench.options import MEASUREMENTS
from les_cace.arguments import build_parser as cace_parser
from les_chgnet.arguments import build_parser as chgnet_parser

#: Commands that have a parser of their own, and what their command lines begin with.
PARSERS = [
    *([name] for name in COMMANDS if name != "train"),
    *(["bench", name] for name in MEASUREMENTS),
]


def arguments_of(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str | None]]:
    """Each argument, also of commands within, and its help text."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for choice in action._get_subactions():
                yield f"{parser.prog} {choice.dest}", choice.help
            for each in action.choices.values():
                yield from arguments_of(each)
        else:
            yield f"{parser.prog} {'/'.join(action.option_strings) or action.dest}", action.help


def without_help(parser: argparse.ArgumentParser) -> list[str]:
    return [name for name, text in arguments_of(parser) if not (text or "").strip()]


@pytest.mark.parametrize("words", PARSERS, ids=" ".join)
def test_every_argument_has_a_help_text(words):
    parser = parser_of(COMMANDS[words[0]].run, words[1:])
    assert parser.prog == f"les {' '.join(words)}"
    assert without_help(parser) == []
    assert parser.format_help()  # no stray % in any of them


@pytest.mark.parametrize("make", [cace_parser, chgnet_parser])
@pytest.mark.parametrize("les", [False, True])
def test_every_argument_of_training_has_a_help_text(make, les):
    assert without_help(make(les)) == []


def test_missing_help_is_found():
    parser = ArgumentParser(prog="les some")
    parser.add_subparsers().add_parser("one", help="first").add_argument("--two")
    parser.add_argument("file")
    assert without_help(parser) == ["les some one --two", "les some file"]


def test_parser_of_leaves_commands_as_they_are(capsys):
    assert parser_of(lambda argv: None) is None
    assert parser_of(cli.main, ["config", "list"]).prog == "les"
    assert cli.main(["config", "list"]) == 0
    assert "cace/water" in capsys.readouterr().out


def test_les_alone_shows_all_commands(capsys):
    assert cli.main([]) == 0
    alone = capsys.readouterr().out
    assert all(f"les {name} {command.synopsis}" in alone for name, command in COMMANDS.items())
    (bench,) = (
        action.choices for action in parser_of(bench_command)._actions if action.dest == "command"
    )
    *_, listed = alone.partition("Commands of `les bench`")
    assert len(bench) > 10
    assert [name for name in bench if not re.search(rf"\b{name}\b", listed)] == []
    assert cli.main(["help"]) == 0
    assert capsys.readouterr().out == alone


@pytest.mark.parametrize("words", [["config"], ["ir", "run"], ["bench", "kernels"]])
def test_help_of_a_command(words, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main([*words, "--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith("usage: ")
    with pytest.raises(SystemExit):
        cli.main(["help", *words])
    assert capsys.readouterr().out == shown
    with pytest.raises(SystemExit) as end:
        cli.main(["help", "confg"])
    assert end.value.code == 2
    assert "did you mean config?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "program", "option"),
    [
        (["config"], "les config", "show"),
        (["predict"], "les predict", "--acoustic-sum"),
        (["bench", "kernels"], "les bench kernels", "--peers"),
        (["bench", "run"], "les bench", "run"),
        (["train", "nothing"], "les train", "cace"),
        (["train"], "les train", "cace"),
    ],
)
def test_parser_for_completion(words, program, option, capsys):
    parser = command_parser(words[0], COMMANDS[words[0]].run, words[1:])
    assert parser.prog == program
    assert option in parser.format_help()
    assert capsys.readouterr() == ("", "")


@pytest.mark.skipif(sys.platform == "win32", reason="argcomplete is for shells of Unix")
def test_completion(tmp_path):
    pytest.importorskip("argcomplete")
    answer = tmp_path / "answer"
    line = "les config sh"
    settings = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line))}
    settings |= {"_ARGCOMPLETE_STDOUT_FILENAME": str(answer), "_ARGCOMPLETE_IFS": "\n"}
    command = [sys.executable, "-m", "les"]
    run = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, "")
    assert answer.read_text() == "show "
