"""Errors of command lines: one line that says what was probably meant."""

from __future__ import annotations

import argparse

import pytest

from les.parser import ArgumentParser, brief_errors


def upstream_parser(*args, **kwargs):
    """A parser of another package."""
    parser = argparse.ArgumentParser(*args, allow_abbrev=False, **kwargs)
    brief_errors(parser)
    return parser


@pytest.fixture(params=[ArgumentParser, upstream_parser])
def parser(request):
    parser = request.param("les some")
    parser.add_argument("file")
    parser.add_argument("--device", choices=("cpu", "cuda"))
    parser.add_argument("--epochs", type=int)
    for n in range(50):  # as many as of some upstreams
        parser.add_argument(f"--option_number_{n}", type=int)
    return parser


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a", "--devcie", "cpu"], "unrecognized arguments: --devcie cpu (did you mean --device?)"),
        (["a", "--epoch=3"], "unrecognized arguments: --epoch=3 (did you mean --epochs?)"),
        (
            ["a", "--epoch=3", "--devcie=cpu"],
            "unrecognized arguments: --epoch=3 --devcie=cpu (did you mean --epochs, --device?)",
        ),
        (["a", "b"], "unrecognized arguments: b"),
        (["a", "--xyzxyz"], "unrecognized arguments: --xyzxyz"),
        ([], "the following arguments are required: file"),
        (
            ["--epochs=3", "--devcie=cpu"],
            "the following arguments are required: file; unrecognized: --devcie=cpu (did you mean "
            "--device?)",
        ),
        (["a", "--epochs", "x"], "argument --epochs: invalid int value: 'x'"),
    ],
)
def test_errors_are_one_line(parser, arguments, message, capsys):
    with pytest.raises(SystemExit) as end:
        parser.parse_args(arguments)
    assert end.value.code == 2
    assert capsys.readouterr().err == f"les some: error: {message}; see les some --help\n"


def test_the_closest_choice(parser, capsys):
    with pytest.raises(SystemExit):
        parser.parse_args(["a", "--device", "cuta"])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("les some: error: argument --device: invalid choice: 'cuta'")
    assert "(did you mean cuda?); see" in line


def test_commands_know_their_options(capsys):
    parser = ArgumentParser("les some")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run")
    run.add_argument("--system")
    commands.add_parser("report").add_argument("--sytem")
    with pytest.raises(SystemExit):
        parser.parse_args(["run", "--sytem", "water"])
    line = "les some run: error: unrecognized arguments: --sytem water (did you mean --system?); "
    assert capsys.readouterr().err == f"{line}see les some run --help\n"
    with pytest.raises(SystemExit):
        parser.parse_args(["rnu", "--system", "water"])
    assert "(did you mean run?); see les some --help\n" in capsys.readouterr().err
    assert parser.parse_args(["run", "--system", "water"]).system == "water"


def test_options_are_not_abbreviated(capsys):
    """An option that comes later would change what an abbreviation means."""
    parser = ArgumentParser("les some")
    parser.add_argument("--allow-pickle", action="store_true")
    with pytest.raises(SystemExit):
        parser.parse_args(["--allow"])
    assert "unrecognized arguments: --allow (did" in capsys.readouterr().err
