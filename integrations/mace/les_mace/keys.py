"""Upstream's names of what a model is told about a structure."""

from __future__ import annotations

from typing import Final

#: State of a structure -> the name that upstream has for it.
STATE_KEYS: Final = {
    "total_charge": "total_charge",
    "spin": "total_spin",
    "external_field": "external_field",
}
