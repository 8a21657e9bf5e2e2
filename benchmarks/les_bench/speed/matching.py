"""Comparison at the same error: every contestant with its fastest setting that reaches it.

The error is that of the forces, root mean square and relative to theirs, against a sum that is
converged in double precision. It is measured for each setting on the structures that are timed.
"""

from __future__ import annotations

import bisect
import functools
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from les import Ewald
from les_bench.speed.cases import Case, Energy, energies_of, energy_and_forces
from les_bench.speed.peers import SIGMA, Family
from les_bench.speed.timing import interleaved, seconds

#: Structures up to this size have the direct sum as their reference, others a mesh.
DIRECT_ATOMS = 10000

#: Steps of a ladder that are taken at once, to spend no time on meshes far too fine.
STRIDE = 8

#: Steps that a lower order may be finer than a higher one: a mesh of five times the points, or
#: of the next power of two along each axis, is not worth trying.
FINER = 12


class Setting(NamedTuple):
    """A contestant with a setting, and the error of its forces."""

    name: str
    text: str
    energy: Energy
    error: float
    #: Its place on the ladder.
    step: int


def converged_forces(inputs: tuple[Tensor, ...]) -> Tensor:
    """Forces ``[n_atoms, 3]`` [eV/A] that are right to 1e-7 of their size or better."""
    charges, positions, cell, batch = inputs
    if int(torch.bincount(batch).max()) <= DIRECT_ATOMS:
        exact = Ewald(SIGMA, dl=0.8 * SIGMA, method="direct", cutoff="sharp")
    else:
        exact = Ewald(SIGMA, method="mesh", cutoff="sharp", accuracy=1e-7)
    wide = (charges.double(), positions.double(), cell.double(), batch)
    return energy_and_forces(energies_of(exact), wide, training=False)


def coarsest(
    family: Family,
    inputs: tuple[Tensor, ...],
    expected: Tensor,
    error: float,
    last_step: int | None = None,
) -> Setting | None:
    """The first setting of a family whose forces are as good as asked for, if there is one."""
    steps = range(len(family.ladder) if last_step is None else last_step + 1)

    @functools.cache
    def found(index: int) -> Setting:
        value = family.ladder[index]
        energy = family.make(value)
        forces = energy_and_forces(energy, inputs, training=False)
        deviation = float((forces - expected).norm() / expected.norm())
        return Setting(family.name, family.text.format(value), energy, deviation, index)

    def good(index: int) -> bool:
        return found(index).error <= error

    for step in (*steps[::STRIDE], steps[-1]):
        if good(step):
            before = range(max(0, step - STRIDE + 1), step)
            return found(before.start + bisect.bisect_left(before, True, key=good))
    return None


def candidates(
    families: list[Family], inputs: tuple[Tensor, ...], expected: Tensor, error: float
) -> list[Setting]:
    """Settings of one contestant's families; higher orders come first."""
    settings: list[Setting] = []
    for family in families:
        last = min((setting.step for setting in settings), default=None)
        if last is not None:
            last = min(last + FINER, len(family.ladder) - 1)
        setting = coarsest(family, inputs, expected, error, last)
        if setting is not None:
            settings.append(setting)
    return settings


def fastest(settings: list[Setting], inputs: tuple[Tensor, ...], training: bool) -> Setting:
    """The one that takes least time; it has run then."""

    def taken(setting: Setting) -> float:
        times = [
            seconds(lambda: energy_and_forces(setting.energy, inputs, training)) for _ in range(3)
        ]
        return min(times[1:])

    return min(settings, key=taken)


def compare_at_error(
    case: Case, families: list[Family], dtype: torch.dtype, error: float
) -> Iterator[str]:
    """Rows of the table: times of one case, and ratios to the last contestant, which is les."""
    inputs = case.inputs(dtype)
    expected = converged_forces(inputs)
    by_name: dict[str, list[Family]] = {}
    for family in families:
        by_name.setdefault(family.name, []).append(family)
    settings = {
        name: candidates([x for x in some if case.n_atoms <= x.most_atoms], inputs, expected, error)
        for name, some in by_name.items()
    }
    last = families[-1].name
    for training in (False, True):
        what = "double backward" if training else "energy + forces"
        chosen = [fastest(some, inputs, training) for some in settings.values() if some]
        timed = interleaved(
            *(functools.partial(energy_and_forces, x.energy, inputs, training) for x in chosen)
        )
        names = [setting.name for setting in chosen]
        for name in settings:
            row = f"{case.title:<16}{what:<17}{name:<17}"
            if name in names:
                i = names.index(name)
                row += f"{chosen[i].text:<32}{chosen[i].error:>8.1e}"
                ratio = f"{timed.ratios[i]:.2f}" if names[-1] == last else "-"
                row += f"{1e3 * timed.seconds[i]:>11.2f}{ratio:>8}"
            else:
                fits = any(case.n_atoms <= family.most_atoms for family in by_name[name])
                row += "does not get there" if fits else "too many atoms"
            yield row
