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
  curve     errors of a training by the share of its data: fine-tuning, and from scratch
  card      a finished student as a file with a card, which says what it is and where it holds
  teachers  teachers that have a name, and what to install for them

Every stage leaves files of structures (extended XYZ) and a record (JSON) of what they were made
from, with versions and checksums.
"""


def main(argv: Sequence[str]) -> int:
    """Run ``les distill``; returns the exit status."""
    from les.distillation.rounds import STAGES as ROUND_STAGES
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
    curve = commands.add_parser("curve", help="errors by the share of the training data")
    card = commands.add_parser("card", help="a finished student with its card")
    commands.add_parser("teachers", help="which teachers there are")
    for command in (run, stage, card):
        command.add_argument("settings", type=Path, help="YAML file")
        command.add_argument(
            "-o", "--output", type=Path, default=Path("distilled"), help="folder (distilled)"
        )
    for command in (run, stage):
        command.add_argument(
            "--force", action="store_true", help="make anew what is of other settings"
        )
    card.add_argument("--name", required=True, help="of the model")
    card.add_argument(
        "--notes", type=Path, required=True, help="YAML file of what only you can say of it"
    )
    card.add_argument("--to", type=Path, required=True, help="folder of the model and its card")
    card.add_argument("--teacher", help="the teacher whose student is meant (default: the first)")
    run.add_argument(
        "--rounds",
        type=int,
        metavar="N",
        help="rounds of active learning at most (default: what the settings say, else none)",
    )
    stage.add_argument("stage", choices=[*STAGES, *ROUND_STAGES], help="which one")
    stage.add_argument("--teacher", default="", help="of a stage that is done for each teacher")
    stage.add_argument("--round", type=int, metavar="N", help="of a stage of a round, from 1 on")
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
    _add_curve(curve)
    # Behind `--` there are options of `les train`, which the curve passes on.
    argv, options = list(argv), []
    if argv[:1] == ["curve"] and "--" in argv:
        argv, options = argv[: argv.index("--")], argv[argv.index("--") + 1 :]
    arguments = parser.parse_args(argv)
    if arguments.command == "teachers":
        return _teachers()
    if arguments.command == "label":
        return _label(arguments)
    if arguments.command == "card":
        return _card(arguments)
    if arguments.command == "curve":
        return _curve(arguments, tuple(options))
    return _run(arguments)


def _run(arguments: argparse.Namespace) -> int:
    from les.distillation.recipe import Settings
    from les.distillation.running import run
    from les.distillation.stages import STAGES, Distillation

    settings = Settings.from_yaml(arguments.settings)
    if arguments.command == "run" and arguments.rounds is not None:
        settings = settings.with_rounds(arguments.rounds)
    arguments.output.mkdir(parents=True, exist_ok=True)
    distillation = Distillation(settings, arguments.output, arguments.settings, arguments.force)
    if arguments.command == "stage":
        of_round = arguments.stage not in STAGES
        if (of_round or STAGES[arguments.stage]) != bool(arguments.teacher):
            which = "is not of one teacher: leave out" if arguments.teacher else "needs"
            raise ValueError(f"the stage {arguments.stage} {which} --teacher")
        if of_round != (arguments.round is not None):
            which = "needs" if of_round else "is not of a round: leave out"
            raise ValueError(f"the stage {arguments.stage} {which} --round")
        if of_round and arguments.round < 1:
            raise ValueError(f"`--round` must be at least 1, got {arguments.round}")
        distillation.perform_alone(arguments.stage, arguments.teacher, arguments.round or 0)
        return 0
    print(run(distillation, lambda text: print(text, file=sys.stderr)))
    print(f"results in {arguments.output / 'results.json'}; students:")
    for teacher in settings.teachers:
        print(f"  {distillation.model(teacher.name)}")
    return 0


def _card(arguments: argparse.Namespace) -> int:
    from les.config_files import read_yaml
    from les.distillation.card import write_models
    from les.distillation.recipe import Settings
    from les.distillation.stages import Distillation
    from les.locks import locked
    from les.training.files import check_name

    check_name(arguments.name)
    settings = Settings.from_yaml(arguments.settings)
    teacher = settings.teacher(arguments.teacher or settings.teachers[0].name).name
    notes = read_yaml(arguments.notes)
    distillation = Distillation(settings, arguments.output, arguments.settings)
    with locked(arguments.output):
        written = write_models(distillation, teacher, notes, arguments.name, arguments.to)
    for path in written:
        print(path)
    return 0


def _add_curve(parser: argparse.ArgumentParser) -> None:
    from les.backends import backend_names

    add = parser.add_argument
    parser.usage = "%(prog)s BACKEND [options] [-- OPTIONS OF les train]"
    add("backend", choices=backend_names(), help="whose models are trained")
    add("--from", dest="start", default="", help="model to fine-tune: a file or a name")
    add("--scratch", action="store_true", help="train from scratch as well, to compare with")
    add("--config", required=True, help="of the training: a file, or a name of `les config list`")
    for name, help in (
        ("train", "of which shares are taken"),
        ("valid", "decides the best epoch of each training"),
        ("test", "on which errors are evaluated"),
    ):
        add(f"--{name}_file", type=Path, required=True, help=f"labelled structures, {help}")
    add("--epochs", type=int, required=True, help="with all data; a half of it gets twice as many")
    add("--shares", type=float, nargs="+", default=[5, 10, 25, 50, 100], help="in percent")
    add("--no-les", dest="les", action="store_false", help="short-range models")
    add("--seed", type=int, default=1, help="of the trainings, and of the order of the data (1)")
    add("--device", default="cpu", help="where to train (cpu)")
    add("-o", "--output", type=Path, default=Path("curve"), help="folder (curve)")
    add("--force", action="store_true", help="make anew what is of other settings")


def _curve(arguments: argparse.Namespace, options: tuple[str, ...]) -> int:
    from les.distillation.learning_curve import LearningCurve, draw, run, summary
    from les.distillation.settings import StudentSettings
    from les.optional_packages import optional

    optional("matplotlib.figure")  # before hours of work
    student = StudentSettings(
        arguments.backend,
        arguments.config,
        les=arguments.les,
        epochs=arguments.epochs,
        seed=arguments.seed,
        options=options,
        device=arguments.device,
    )
    files = {name: getattr(arguments, f"{name}_file") for name in ("train", "valid", "test")}
    shares = tuple(share / 100.0 for share in arguments.shares)
    curve = LearningCurve(student, arguments.start, arguments.scratch, shares, files)
    arguments.output.mkdir(parents=True, exist_ok=True)
    results = run(curve, arguments.output, arguments.force)
    draw(results, arguments.output / "curve.png")
    print(summary(results))
    print(f"{arguments.output}: curve.json, curve.png")
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
