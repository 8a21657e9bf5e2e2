"""Tests: each backend refuses settings of LES that it cannot use, with the same message."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from les.config import LESConfig


class UnusedSettingsTests:
    """Tests of ``les train`` with settings that have no effect.

    They use fixtures of the adapter's tests: ``arguments(folder, **changes)``, the arguments of a
    short training, and ``refused(*arguments)``, the message of what must fail.
    """

    #: Settings that the backend cannot use -> other values than the defaults.
    unused: ClassVar[Mapping[str, Any]] = {"n_channels": 4}

    def test_settings_without_effect(
        self, refused: Callable[..., str], arguments: Callable[..., list[str]], tmp_path: Path
    ) -> None:
        defaults = LESConfig().to_dict()
        for name, value in self.unused.items():
            options = arguments(tmp_path, les_arguments=f"{{{name}: {json.dumps(value)}}}")
            assert (
                f"`{name}` has no effect on this model: it must be {defaults[name]!r}, the "
                f"default, got {value!r}"
            ) in refused("--les", *options)
