"""The sentences to be read first: what the results show, and how much they can show."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from les_bench.report.pairs import Difference
from les_bench.report.summary import Group, trained_on

#: Comparisons from which on their median is worth saying.
ENOUGH = 5


def verdict(groups: Sequence[Group], n_missing: int = 0) -> str:
    """What the paired differences show, in a few sentences.

    Args:
        groups: all that is compared.
        n_missing: trainings that were not done.
    """
    own = [group for group in groups if not group.control]
    both = [(group, found) for group in own if (found := group.paired("force")) is not None]
    pairs = [(group, found) for group, found in both if group.electrostatic]
    sentences = [_forces(pairs)] if pairs else []
    sentences += _without_electrostatics([pair for pair in both if not pair[0].electrostatic])
    if not both:
        sentences = ["Nothing is compared: no seed has both models."]
    runs = [run for group in own for run in group.variant("les").values()]
    for trained, how in ((False, "never trained on"), (True, "trained on")):
        r2 = _r2_of_dipoles([run for run in runs if trained_on(run, "dipole") == trained])
        if r2:
            sentences.append(f"Dipoles, {how}, have an R² of {r2}.")
    single = [found for _, found in both if found.n_seeds == 1]
    if single:
        what = "All of it" if len(single) == len(both) else "Some of it"
        sentences.append(f"{what} has one seed only: another seed may show something else.")
    if n_missing:
        sentences.append(f"{n_missing} trainings were not done.")
    return " ".join(sentences)


def _without_electrostatics(pairs: Sequence[tuple[Group, Difference]]) -> list[str]:
    """What LES does where there is nothing for it: it should be nothing."""
    changed = [(group, found) for group, found in pairs if found.verdict != "none"]
    quiet = [group.short_title for group, found in pairs if found.verdict == "none"]
    sentences = []
    if quiet:
        sentences.append(
            f"Where nothing is electrostatic ({', '.join(quiet)}), no difference is shown, as it "
            "should be."
        )
    for group, found in changed:
        size = 100 * abs(found.value) / found.short_range
        sentences.append(
            f"Warning: nothing is electrostatic in {group.short_title}, but force errors are "
            f"{found.verdict} by {size:.0f} % with LES: differences of this size elsewhere may "
            "have another cause than charges, too."
        )
    return sentences


def _r2_of_dipoles(runs: Sequence[Mapping[str, Any]]) -> str:
    """Smallest to largest, of all sets; empty if there are none."""
    r2 = [
        run["metrics"][split]["dipole"]["r2"]
        for run in runs
        for split in ("test", "valid", "response")
        if run["metrics"].get(split, {}).get("dipole", {}).get("r2") is not None
    ]
    if not r2:
        return ""
    low, high = f"{min(r2):.2f}", f"{max(r2):.2f}"
    return (low if low == high else f"{low} to {high}").replace("-", "−")


def _forces(pairs: Sequence[tuple[Group, Difference]]) -> str:
    n = len(pairs)
    by_verdict = {
        kind: [found for _, found in pairs if found.verdict == kind]
        for kind in ("lower", "higher", "none")
    }
    parts = []
    for kind in ("lower", "higher"):
        found = by_verdict[kind]
        if found:
            changes = [100 * abs(x.value) / x.short_range for x in found]
            low, high = min(changes), max(changes)
            size = f"{low:.0f} %" if round(low) == round(high) else f"{low:.0f} to {high:.0f} %"
            where = f"in {len(found)} of {n} comparisons (by {size})" if n > 1 else f"by {size}"
            parts.append(f"{kind} {where}")
    if by_verdict["none"]:
        where = f" in {len(by_verdict['none'])} of {n}" if n > 1 else ""
        parts.append(f"no different, as far as this shows,{where}".removesuffix(","))
    text = f"With LES, force errors are {', '.join(parts)}."
    if n < ENOUGH:
        return text
    typical = statistics.median(found.les / found.short_range for _, found in pairs)
    return f"{text} In the median they are {typical:.2f} times as large."
