"""The command ``les models``."""

from __future__ import annotations

from collections.abc import Sequence

from les.backends import get_backend, shipped_models
from les.backends.models import suggestion
from les.parser import ArgumentParser
from les.tables import aligned


def main(argv: Sequence[str]) -> int:
    """Run ``les models``; returns the exit status.

    Raises:
        ValueError: for a name that no model has.
    """
    parser = ArgumentParser(
        prog="les models",
        description="Models that come with les: their names stand for their files in all commands, "
        "and in LESCalculator.",
    )
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("list", help="all models, and what each is for (also without a word)")
    show = commands.add_parser("show", help="print the card of one: data, errors, where it holds")
    show.add_argument("name", help="as `les models list` prints it")
    show.add_argument("--path", action="store_true", help="print where its file is instead")
    arguments = parser.parse_args(argv)
    models = shipped_models()
    if arguments.command in (None, "list"):
        said = ("for", "reference", "licence")
        rows = [["name", "backend", *said, "can be used here"]]
        backends = {model.backend for model in models.values()}
        problems = {name: get_backend(name).problem() for name in backends}
        for model in models.values():
            usable = "yes" if problems[model.backend] is None else "no"
            rows.append([model.name, model.backend, *(model.facts[x] for x in said), usable])
        print(aligned(rows))
        for name, problem in sorted(problems.items()):
            if problem is not None:
                print(f"models of {name} cannot be used here: {problem}")
        return 0
    if arguments.name not in models:
        raise ValueError(
            f"no model {arguments.name!r}{suggestion(arguments.name)} (known: {', '.join(models)})"
        )
    model = models[arguments.name]
    print(model.path if arguments.path else model.card.read_text(encoding="utf-8").rstrip())
    return 0
