"""Which head of a MACE model with several is meant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from les.backends.calculator import ChargeCalculator

if TYPE_CHECKING:
    from ase import Atoms


def chosen_head(head: str | None, heads: Sequence[str]) -> str | None:
    """The head that is meant, of those that the model has; ``None`` if that is still open.

    Raises:
        ValueError: for a ``head`` that the model does not have.
    """
    if head is not None and head not in heads:
        raise ValueError(f"`head` must be one of {', '.join(heads)}, got {head!r}")
    if head is None and len(heads) == 1:
        return heads[0]
    return head or next((each for each in heads if each.lower() == "default"), None)


class CalculatorOfHead(ChargeCalculator):
    """The part of a calculator that computes with one head, which has to be said.

    Attributes:
        head_is_open: whether the user still has to say which head is meant.
        available_heads: those of the model.
    """

    head_is_open: bool
    available_heads: list[str]

    def structure_of(self, atoms: Atoms | None) -> Atoms:
        """As inherited; also raises ``ValueError`` if none of several heads has been chosen."""
        self.require_head()
        return super().structure_of(atoms)

    def require_head(self) -> None:
        """Raise ``ValueError`` if none of several heads has been chosen."""
        if self.head_is_open:
            raise ValueError(
                f"the model has the heads {', '.join(self.available_heads)}: say which one is "
                "meant with `head`, or --head"
            )
