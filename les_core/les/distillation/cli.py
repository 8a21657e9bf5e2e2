"""The command ``les distill``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from les.parser import ArgumentParser

_DESCRIPTION = """\
Light students of slow teachers, with electrostatics that the teacher need not have.

  run       configurations, labels, training and evaluation, as one YAML file says; the same command
            goes on after an interruption
  label     the labels of a teacher on a file of structures
  stage     one stage of `run`, in this environment
  teachers  teachers that have a name, and what to install for them

Every stage leaves files of structures (extended XYZ) and a record (JSON) of what they were made
from, with versions and checksums.
"""


def main(argv: Sequence[str]) -> int:
    """Run ``les distill``; returns the exit status."""
    from les.distillation.stages import STAGES

    parser = ArgumentParser(
        prog="les distill",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="all stages")
    stage = commands.add_parser("stage", help="one stage, here")
    label = commands.add_parser("label", help="labels of a teacher on a file of structures")
    commands.add_parser("teachers", help="which teachers there are")
    for command in (run, stage):
        command.add_argument("settings", type=Path, help="YAML file")
        command.add_argument(
            "-o", "--output", type=Path, default=Path("distilled"), help="folder (distilled)"
        )
        command.add_argument(
            "--force", action="store_true", help="make anew what is of other settings"
        )
    stage.add_argument("stage", choices=STAGES, help="which one")
    stage.add_argument("--teacher", default="", help="of a stage that is done for each teacher")
    label.add_argument("teacher", help="name, module:callable, or model file")
    label.add_argument("structures", type=Path, help="of any format that ASE reads")
    label.add_argument("-o", "--output", type=Path, default=Path("labels.xyz"), help="labels.xyz")
    label.add_argument("--force", action="store_true", help="replace OUTPUT if it is there")
    label.add_argument(
        "--options",
        default="{}",
        metavar="YAML",
        help="of the teacher's calculator: '{key: value}'",
    )
    label.add_argument("--limits", default="{}", metavar="YAML", help="such as '{force: 30}'")
    arguments = parser.parse_args(argv)
    if arguments.command == "teachers":
        return _teachers()
    if arguments.command == "label":
        return _label(arguments)
    return _run(arguments)


def _run(arguments: argparse.Namespace) -> int:
    from les.distillation.recipe import Settings
    from les.distillation.stages import STAGES, Distillation, run

    settings = Settings.from_yaml(arguments.settings)
    arguments.output.mkdir(parents=True, exist_ok=True)
    distillation = Distillation(settings, arguments.output, arguments.settings, arguments.force)
    if arguments.command == "stage":
        if STAGES[arguments.stage] != bool(arguments.teacher):
            which = "needs" if STAGES[arguments.stage] else "is not of one teacher: leave out"
            raise ValueError(f"the stage {arguments.stage} {which} --teacher")
        distillation.perform_alone(arguments.stage, arguments.teacher)
        return 0
    print(run(distillation, lambda text: print(text, file=sys.stderr)))
    print(f"results in {arguments.output / 'results.json'}; students:")
    for teacher in settings.teachers:
        print(f"  {distillation.model(teacher.name)}")
    return 0


def _label(arguments: argparse.Namespace) -> int:
    from les.distillation.labels import label
    from les.distillation.provenance import Record
    from les.distillation.settings import LimitSettings
    from les.distillation.teachers import load_teacher
    from les.files import checksum
    from les.predict.journal import journal_path
    from les.predict.output import format_of
    from les.targets import check_target

    output = arguments.output
    check_target(output, [arguments.structures], force=arguments.force)
    if format_of(output) != "extxyz":
        raise ValueError(f"the name {output} must end with .xyz or .extxyz")
    options, limits = _mapping(arguments, "options"), _mapping(arguments, "limits")
    try:
        made = LimitSettings(**limits)
    except TypeError as error:
        raise ValueError(f"--limits: {error}") from error
    teacher = load_teacher(arguments.teacher, options)
    identity = {
        "structures": checksum(arguments.structures),
        "teacher": teacher.provenance,
        "limits": vars(made),
    }
    record = Record(output.with_name(f"{output.name}.json"), identity, replace=True)
    facts = label(teacher, arguments.structures, output, made, replace=arguments.force)
    record.finish([output], **facts)
    journal_path(output).unlink(missing_ok=True)
    print(f"{facts['n_labelled']} structures labelled, written to {output}")
    return 0


def _mapping(arguments: argparse.Namespace, name: str) -> dict[str, Any]:
    import yaml

    text = getattr(arguments, name)
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"--{name}: not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"--{name} must be a mapping such as '{{key: value}}', got {text!r}")
    return values


def _teachers() -> int:
    from les.distillation.registry import REGISTRY
    from les.distillation.teachers import missing
    from les.tables import aligned

    rows = [["teacher", "what it is", "here"]]
    for name, known in REGISTRY.items():
        rows.append([name, known.about, "no; " + known.install if missing(name) else "yes"])
    print(aligned(rows))
    return 0
