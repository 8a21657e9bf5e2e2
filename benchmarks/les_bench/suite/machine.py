"""What a result was measured with: versions and hardware."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from les.backends import Backend


def versions(backend: Backend) -> dict[str, str | None]:
    """Versions of Python and of the packages that matter."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in ("les", "torch", "ase", "numpy"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return {**found, backend.distribution: backend.version()}


def describe(threads: int, device: str) -> dict[str, Any]:
    """Processor, system, number of threads and device."""
    cpu = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    return {
        "cpu": cpu or platform.machine(),
        "system": platform.system(),
        "threads": threads,
        "device": device,
    }
