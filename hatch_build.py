"""Puts compiled kernels into a wheel, where LES_BUILD_KERNELS=1 asks for it.

Such a wheel is for one system, and needs torch while it is built. Without the variable a wheel is
for all systems, and kernels are compiled when they are first needed.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

#: Environment variable that asks for compiled kernels.
SWITCH = "LES_BUILD_KERNELS"


class KernelHook(BuildHookInterface):
    """Compiles the kernels for both precisions and all instructions of this machine."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if os.environ.get(SWITCH) != "1" or version == "editable":
            return
        sys.path.insert(0, str(Path(self.root, "les_core")))
        from les.sums.cpu.library import SHIPPED, compile_all

        self.folder = tempfile.TemporaryDirectory(prefix="les-kernels-")
        place = SHIPPED.relative_to(Path(self.root, "les_core"))
        for file in compile_all(Path(self.folder.name)):
            build_data["force_include"][str(file)] = str(place / file.name)
        system = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data |= {"pure_python": False, "tag": f"py3-none-{system}"}

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()
