"""Keywords of calculators that no class names."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from difflib import get_close_matches


def refuse_unknown_keywords(calculator: type, given: Iterable[str]) -> None:
    """Raise ``TypeError`` for a keyword that no class of a calculator names.

    ASE's ``Calculator``, and some of upstream's, take any keyword and ignore what they do not know.
    The message names the closest keyword that there is.

    Args:
        calculator: the class.
        given: names of the keywords.
    """
    known = {
        name
        for owner in calculator.__mro__
        if "__init__" in vars(owner)
        for name, parameter in inspect.signature(vars(owner)["__init__"]).parameters.items()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    } - {"self"}
    for name in given:
        if name not in known:
            closest = get_close_matches(name, sorted(known), n=1)
            hint = f"; did you mean `{closest[0]}`?" if closest else ""
            raise TypeError(f"{calculator.__name__} got an unknown keyword `{name}`{hint}")
