"""Models of all backends for ML-PEG, the suite of benchmarks for any ASE calculator.

In the file of models that ML-PEG reads, one entry is enough for each model::

    water-les:
      module: les_bench.ml_peg
      class_name: calculator
      device: cpu
      trained_on_dispersion: true
      kwargs: {model: water.pt}
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from les.backends import backend_of, get_backend


def calculator(
    model: str,
    device: str = "cpu",
    default_dtype: str = "float64",
    backend: str | None = None,
    allow_pickle: bool = False,
) -> Any:
    """The ASE calculator of a model file, with the arguments that ML-PEG gives.

    Args:
        model: the file.
        device: ``"cpu"``, ``"cuda"``, or ``"auto"`` for a GPU if there is one.
        default_dtype: ``"float32"`` or ``"float64"``: ML-PEG's precision.
        backend: whose model it is, if the ending of its name does not tell.
        allow_pickle: read pickled models, which can run code.

    Raises:
        FileNotFoundError: if there is no such file.
        les.backends.BackendError: if the backend is not known, or cannot be used here.
    """
    path = Path(model)
    if not path.is_file():
        raise FileNotFoundError(f"`model` must be a model file, got {model!r}")
    if device == "auto":
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
    found = get_backend(backend or backend_of(path))
    found.require()
    return found.calculator(path, device=device, dtype=default_dtype, allow_pickle=allow_pickle)
