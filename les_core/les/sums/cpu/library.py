"""The kernels for some precision: compiled, or found where they are kept."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from les.sums.cpu.cache import compile_library, kept_library

#: Environment variable that turns kernels off.
SWITCH, OFF = "LES_NATIVE", ("0", "false", "no", "off")

SOURCES = (
    *("cells.c", "fourier.c", "greens.c", "multipole_pairs.c", "pairs.c", "sources.c", "splines.c"),
    *("survey.c", "waves.c"),
)
HEADERS = ("boys.h", "cell.h", "decay.h", "greens.h", "waves.h")

#: What a compiled file must have.
SYMBOLS = (
    *("les_cells_enter", "les_cells_leave", "les_gather", "les_greens"),
    *("les_multipole_pairs_first", "les_multipole_pairs_second", "les_pairs_first"),
    *("les_pairs_second", "les_sources_enter", "les_sources_leave", "les_spread", "les_survey"),
    *("les_waves_first", "les_waves_second", "les_waves_space", "les_waves_sums"),
    *("les_analyse_planes", "les_analyse_rows", "les_synthesise_planes", "les_synthesise_rows"),
    "les_large_pages",
)

#: Of the splines: largest order and number of derivatives along an axis.
MOST = 8

#: Of the waves: numbers along the last axis come in multiples of this. Of Fourier transforms: how
#: many are done side by side.
LANES = 8

#: Of the series for pairs: its degree, and the largest argument x.
DEGREE, END = 16, 6.0

#: Partners of an atom that pairs are done with at a time.
STEP = 8

COMPILERS = ("cc", "gcc", "clang")

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


#: Machines that these instructions are for, by their names in Python.
_X86 = ("x86_64", "AMD64")

#: Kernels that came with the package, as in wheels for one system.
SHIPPED = Path(__file__).with_name("compiled")


class _NoCompilerError(OSError):
    """Nothing went wrong: there is none."""


def library(device: torch.device, dtype: torch.dtype) -> ctypes.CDLL | None:
    """The kernels for such tensors; ``None`` where torch has to do without them, as in a trace.

    Warns:
        UserWarning: if they cannot be compiled, kept or loaded, and why.
    """
    # Tracers do not see what kernels write.
    traced = torch.jit.is_tracing() or torch._C._len_torch_dispatch_stack() > 0
    if device.type != "cpu" or dtype not in _NUMBERS or _is_off() or traced:
        return None
    compiled, problem = _loaded(dtype)
    if isinstance(problem, Exception) and not isinstance(problem, _NoCompilerError):
        _warn_once(str(problem))
    return compiled


def call(kernel: Any, task: ctypes.Structure, *arrays: Tensor | ctypes.Array[Any] | None) -> Any:
    """What a kernel returns for the numbers of contiguous ``arrays``; ``None`` is a null."""
    # Some gradients of torch are not in memory: zeros, and negatives of what is there.
    ready = [
        array.clone()
        if isinstance(array, Tensor) and (array._is_zerotensor() or array.is_neg())
        else array
        for array in arrays
    ]
    places = [
        ctypes.c_void_p(array.data_ptr()) if isinstance(array, Tensor) else array for array in ready
    ]
    return kernel(ctypes.byref(task), *places)


def describe() -> str:
    """Whether there are kernels, and if not, why."""
    if _is_off():
        return f"none, {SWITCH}={os.environ[SWITCH]}"
    compiled, found = _loaded(torch.float64)
    return f"compiled, {found}" if compiled is not None else f"none, which is slower: {found}"


def _is_off() -> bool:
    return os.environ.get(SWITCH, "").lower() in OFF


@functools.lru_cache(maxsize=2)
def _loaded(dtype: torch.dtype) -> tuple[ctypes.CDLL | None, Path | Exception]:
    """The kernels and their file, or what stands in their way."""
    variant = _variant_here(dtype)
    try:
        # Archives of Python modules, like those of torch.package, have no sources.
        if not all(file.is_file() for file in variant.files):
            raise _NoCompilerError("the sources of kernels must be files, got an archive")
        found = shipped_kernels(dtype)
        if found is not None:
            return found
        return kept_library(variant.name(), lambda folder: _build(variant, folder), _load)
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        return None, error


def shipped_kernels(dtype: torch.dtype) -> tuple[ctypes.CDLL, Path] | None:
    """The kernels that came with the package for this CPU, and their file; None without any."""
    for file in SHIPPED.glob(f"{_variant_here(dtype).name()}-*.so"):
        with suppress(OSError):  # of another C library
            return _load(file), file
    return None


def compile_kernels(dtype: torch.dtype, folder: Path) -> ctypes.CDLL:
    """The kernels for this CPU, compiled into ``folder``.

    Raises:
        OSError: if there is no compiler, or it fails.
    """
    return _load(_build(_variant_here(dtype), folder))


def compile_all(folder: Path) -> list[Path]:
    """Compile the kernels for both precisions and all instructions of such machines.

    Args:
        folder: where the files go, which may then be put into a package, as ``SHIPPED``.

    Raises:
        OSError: if there is no compiler, or it fails.
    """
    capabilities = ["DEFAULT", *(_INSTRUCTIONS if platform.machine() in _X86 else ())]
    variants = [_variant(dtype, each) for dtype in _NUMBERS for each in capabilities]
    return [_build(variant, folder) for variant in variants]


class _Variant(NamedTuple):
    """Kernels for one precision and one kind of CPU."""

    flags: list[str]
    files: list[Path]

    def name(self) -> str:
        """Tells all that the compiled kernels depend on, but for the compiler."""
        what = [platform.system(), platform.machine(), *self.flags]
        key = hashlib.sha256("\n".join(what).encode())
        for source in self.files:
            key.update(source.read_bytes())
        return f"kernels-{key.hexdigest()[:32]}"


def _variant(dtype: torch.dtype, capability: str) -> _Variant:
    real, floor = _NUMBERS[dtype]
    constants = {"REAL": real, "FLOOR": floor, "MOST": MOST}
    constants |= {"LANES": LANES, "DEGREE": DEGREE, "END": END, "STEP": STEP}
    flags = [*_FLAGS, *_INSTRUCTIONS.get(capability, ())]
    flags += [f"-D{name}={value}" for name, value in constants.items()]
    return _Variant(flags, [Path(__file__).with_name(name) for name in (*SOURCES, *HEADERS)])


def _variant_here(dtype: torch.dtype) -> _Variant:
    return _variant(dtype, torch.backends.cpu.get_cpu_capability())


def _build(variant: _Variant, folder: Path) -> Path:
    command = [*_compiler(), *variant.flags]
    return compile_library(command, variant.files[: len(SOURCES)], folder, variant.name())


def _load(file: Path) -> ctypes.CDLL:
    """The kernels of a file, or OSError if it does not hold them."""
    loaded = ctypes.CDLL(str(file))
    for symbol in SYMBOLS:
        if not hasattr(loaded, symbol):
            raise OSError(f"{file} has no kernel {symbol}")
    loaded.les_waves_space.restype = ctypes.c_int64
    loaded.les_large_pages.restype = None
    return loaded


@functools.lru_cache(maxsize=8)
def _warn_once(problem: str) -> None:
    warnings.warn(
        f"`les` runs without its compiled kernels, which is slower: {problem}\n"
        "They are kept in $XDG_CACHE_HOME/les/kernels or ~/.cache/les/kernels and compiled by $CC, "
        f"{', '.join(COMPILERS)}; {SWITCH}=0 turns them off",
        stacklevel=3,
    )


def _compiler() -> list[str]:
    """The first that is there; ``$CC`` may have arguments."""
    chosen = os.environ.get("CC", "")
    try:
        words = shlex.split(chosen)
    except ValueError as error:
        raise OSError(f"cannot read CC={chosen}: {error}") from error
    for command in (words, *([name] for name in COMPILERS)):
        path = shutil.which(command[0]) if command else None
        if path is not None:
            return [path, *command[1:]]
    raise _NoCompilerError("no C compiler")
