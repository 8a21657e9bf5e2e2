"""Calculator classes that take one model or several."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from les.backends.committee import Committee


class OneOrSeveral:
    """Base of calculators whose class, called with a list of models, makes their committee.

    ``LESCalculator([a, b, c], ...)`` is a ``les.backends.committee.Committee`` of a calculator for
    each model. All of them have the further arguments but ``sign``, which is the committee's.
    """

    def __new__(cls, model: Any = None, *args: Any, **kwargs: Any) -> Any:
        """A calculator of one model; of several, the committee.

        Raises:
            ValueError: as ``Committee``, for a list of fewer than two models as well.
        """
        if not isinstance(model, (list, tuple)):
            return super().__new__(cls)
        sign = kwargs.pop("sign", None)
        members = [cls(each, *args, **kwargs) for each in model]  # type: ignore[call-arg]
        names = [
            str(each) if isinstance(each, (str, Path)) else f"member {number}"
            for number, each in enumerate(model)
        ]
        return Committee(members, names=names, sign=sign)
