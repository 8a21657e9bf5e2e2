"""Input scripts of LAMMPS that a model is to be coupled to.

A script stays one of LAMMPS. The model comes in at its command

    fix NAME all external pf/callback 1 1

so the script is executed in two parts, between which the coupling executes that command.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

#: The command that says where forces come from.
EXTERNAL = re.compile(r"^\s*fix\s+(\S+)\s+(\S+)\s+external\s+(.*?)\s*(#.*)?$")

#: Commands that change how far ghosts reach or when neighbour lists are made, also in an ``if``.
REFUSED_AFTERWARDS = re.compile(
    r"^\s*(if\s.*[\"'])?\s*"
    r"(comm_modify\s+(.*\s)?cutoff\b|neighbor\s|neigh_modify\s+.*\b(every|delay|check)\b)"
)


class Script(NamedTuple):
    """A script in two parts."""

    #: Up to the fix, which is in neither.
    before: str
    #: All lines after it.
    after: str
    #: Name of the fix.
    fix: str


def read_script(path: Path) -> Script:
    """The script in a file.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it has no such fix, several, or one of other atoms than ``all`` or that does
            not act at every step; and for commands after it that would change ghosts or neighbour
            lists. The message names file and line.
    """
    lines = path.read_text().splitlines(keepends=True)
    found = [(i, match) for i, line in enumerate(lines) if (match := EXTERNAL.match(line))]
    wanted = "`fix les all external pf/callback 1 1`"
    if len(found) != 1:
        raise ValueError(
            f"{path} must have the command {wanted} once, after the atoms and before the first "
            f"run, in the script itself, got it {len(found)} times"
        )
    number, match = found[0]
    name, group, style = match.group(1), match.group(2), match.group(3).split()
    if group != "all" or style != ["pf/callback", "1", "1"]:
        raise ValueError(
            f"{path}, line {number + 1}: must be {wanted}, got {lines[number].strip()!r}"
        )
    for i, line in enumerate(lines[number + 1 :], start=number + 2):
        if REFUSED_AFTERWARDS.match(line):
            raise ValueError(
                f"{path}, line {i}: {line.strip()!r} must not come after the fix {name}, because "
                "les sets what ghosts the model needs; see --skin"
            )
    return Script("".join(lines[:number]), "".join(lines[number + 1 :]), name)
