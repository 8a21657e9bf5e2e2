"""What was found for the tensors of the sum that was evaluated last.

An operator of torch hands over nothing but tensors, so that the operator of second derivatives has
to plan the sum again, which takes as long as a small sum. Mostly it is called for the tensors that
the sum was just called for.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor
from torch.utils.weak import WeakIdRef


class _Kept(NamedTuple):
    references: Sequence[weakref.ref[Tensor] | None]
    versions: list[int]
    settings: Any
    result: Any


class Recent:
    """The latest result for some tensors, found as long as these exist and have not changed.

    It is dropped with the first of the tensors, since nothing could find it any more.
    """

    def __init__(self) -> None:
        # Replaced as a whole, so that threads do not see parts of it.
        self._kept: _Kept | None = None

    def keep(self, tensors: Sequence[Tensor | None], settings: Any, result: Any) -> None:
        """Keep a ``result``, which must not hold what ``tensors`` were computed from."""
        if any(value is not None and value.is_inference() for value in tensors):
            self._kept = None  # nothing tells whether these have changed
            return
        references = [
            None if value is None else WeakIdRef(value, self._forget) for value in tensors
        ]
        versions = [0 if value is None else value._version for value in tensors]
        self._kept = _Kept(references, versions, settings, result)

    def find(self, tensors: Sequence[Tensor | None], settings: Any) -> Any:
        """The result that was kept for the same ``tensors`` and equal ``settings``, or ``None``."""
        kept = self._kept
        if kept is None or kept.settings != settings:
            return None
        if any(value is not None and value.is_inference() for value in tensors):
            return None
        for value, reference, version in zip(tensors, kept.references, kept.versions, strict=True):
            if value is None and reference is None:
                continue
            if value is None or reference is None:
                return None
            if not _is_same(value, reference(), version):
                return None
        return kept.result

    def _forget(self, dead: weakref.ref[Tensor]) -> None:
        """Drop what is kept if ``dead`` is one of its references."""
        kept = self._kept
        if kept is not None and any(reference is dead for reference in kept.references):
            self._kept = None


def _is_same(value: Tensor, original: Tensor | None, version: int) -> bool:
    """Whether ``value`` is the ``original`` or an alias of it, and neither has changed since."""
    if original is None or original._version != version or value._version != version:
        return False
    return value is original or (
        value.data_ptr() == original.data_ptr()
        and value.dtype == original.dtype
        and value.shape == original.shape
        and value.stride() == original.stride()
    )
