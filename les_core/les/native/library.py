"""Compiling the kernels, keeping them, and finding them again."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path

import torch

#: Set to 0 to do without kernels.
SWITCH = "LES_NATIVE"

SOURCES = ("pairs.c", "splines.c", "waves.c")

#: No value of any operation is changed but by fused multiplications and additions.
_FLAGS = (
    *("-O3", "-std=c11", "-fPIC", "-shared", "-fopenmp-simd"),
    *("-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"),
)

#: Instructions, by what torch says of the CPU; without an entry those of any such CPU.
_INSTRUCTIONS = {
    "AVX512": ("-mavx512f", "-mavx512dq", "-mavx512vl", "-mavx512bw", "-mfma"),
    "AVX2": ("-mavx2", "-mfma"),
}

_NUMBERS = {torch.float32: ("float", "floorf"), torch.float64: ("double", "floor")}


def library(device: torch.device, dtype: torch.dtype) -> ctypes.CDLL | None:
    """The kernels for such tensors; ``None`` where torch has to do without them."""
    if device.type != "cpu" or dtype not in _NUMBERS or os.environ.get(SWITCH) == "0":
        return None
    return _loaded(dtype)


@functools.lru_cache(maxsize=2)
def _loaded(dtype: torch.dtype) -> ctypes.CDLL | None:
    compiler = _compiler()
    sources = [Path(__file__).with_name(name) for name in SOURCES]
    # Archives that Python modules are loaded from, as of torch.package, do not have the sources.
    if compiler is None or not all(source.is_file() for source in sources):
        return None
    real, floor = _NUMBERS[dtype]
    instructions = _INSTRUCTIONS.get(torch.backends.cpu.get_cpu_capability(), ())
    command = [compiler, *_FLAGS, *instructions, f"-DREAL={real}", f"-DFLOOR={floor}"]
    key = hashlib.sha256("\n".join([platform.machine(), *command]).encode())
    for source in sources:
        key.update(source.read_bytes())
    try:
        folder = _folder()
        file = folder / f"kernels-{key.hexdigest()[:32]}.so"
        if not file.exists():
            _compile(command, sources, file)
        return ctypes.CDLL(str(file))
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        detail = str(getattr(error, "stderr", None) or error).strip()
        warnings.warn(
            f"`les` runs without its compiled kernels, which is slower: {detail}\n"
            "They are kept in $XDG_CACHE_HOME/les or ~/.cache/les and compiled by $CC, cc, gcc or "
            f"clang; {SWITCH}=0 turns them off",
            stacklevel=2,
        )
        return None


def _compiler() -> str | None:
    named = os.environ.get("CC")
    found = [shutil.which(name) for name in ([named] if named else ["cc", "gcc", "clang"])]
    return next((path for path in found if path is not None), None)


def _folder() -> Path:
    """Where compiled kernels are kept, of this user alone."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base, "les")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _compile(command: list[str], sources: list[Path], file: Path) -> None:
    """Processes that do so at the same time do not see one another's unfinished files."""
    with tempfile.TemporaryDirectory(dir=file.parent) as scratch:
        unfinished = Path(scratch, file.name)
        subprocess.run(
            [*command, *map(str, sources), "-o", str(unfinished), "-lm"],
            check=True,
            capture_output=True,
            text=True,
            timeout=300,
        )
        os.replace(unfinished, file)
