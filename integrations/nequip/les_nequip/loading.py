"""Models and what turns structures into their input, for the calculator."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from nequip.data import AtomicDataDict
from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper
from nequip.integrations.utils import basic_transforms, handle_chemical_species_map
from nequip.model.inference_models import load_compiled_model
from nequip.nn import graph_model

from les_nequip.edges import record_edges
from les_nequip.keys import METADATA_KEY
from les_nequip.model_files import COMPILED, load_model
from les_nequip.upstream_files import check_compiled

DTYPES = ("", "float32", "float64")


@dataclass(frozen=True)
class Loaded:
    """A model and what its calculator has to know."""

    model: Any
    transforms: list[Callable[..., Any]]
    #: ``"float32"`` or ``"float64"``.
    precision: str
    #: Of a compiled model: what its metadata say about LES, the names of its outputs, and whether
    #: periodic axes are among its input.
    settings: dict[str, Any] | None = None
    outputs: frozenset[str] = field(default_factory=frozenset)
    takes_pbc: bool = False


def types_of_numbers(transforms: Sequence[Callable[..., Any]]) -> torch.Tensor | None:
    """Type of each atomic number ``[n_numbers]``, -1 for those without one.

    Args:
        transforms: what turns structures into input.

    Returns:
        The table, or ``None`` if nothing says which elements the types are.
    """
    for mapper in transforms:
        if isinstance(mapper, ChemicalSpeciesToAtomTypeMapper):
            table: torch.Tensor = mapper.lookup_table
            return table
    return None


def load(
    model: torch.nn.Module | str | Path,
    device: torch.device,
    *,
    dtype: str = "",
    allow_pickle: bool = False,
    transforms: Sequence[Callable[..., Any]] | None = None,
    species: dict[str, str] | bool | None = None,
    **neighbours: Any,
) -> Loaded:
    """A model to evaluate; arguments and errors as those of ``les_nequip.LESCalculator``."""
    if dtype not in DTYPES:
        raise ValueError(f"`dtype` must be one of {', '.join(DTYPES[1:])}, got {dtype!r}")
    if isinstance(model, torch.nn.Module):
        model.eval()
        record_edges(model)
        own = getattr(model, "model_dtype", None)
        if dtype and own is not None and own != getattr(torch, dtype):
            raise ValueError(
                f"`dtype` is {dtype}, but this model is built already, in {own}; give the file it "
                "is from, or leave `dtype` out"
            )
        if transforms is None:
            metadata: Any = model.metadata
            transforms = _transforms(metadata, species, neighbours)
        return Loaded(model, list(transforms), str(own).removeprefix("torch."))
    if transforms is not None:
        raise ValueError("`transforms` have no effect on a model file, got some beside `model`")
    path = Path(model)
    if path.name.endswith(".nequip.pth"):
        raise ValueError(f"{path} is TorchScript; compile the model with --mode aotinductor")
    if path.name.endswith(COMPILED):
        check_compiled(path, allow_pickle)
        return _compiled(path, device, dtype, species, neighbours)
    loaded = load_model(path, dtype=dtype, allow_pickle=allow_pickle)
    return Loaded(
        loaded,
        _transforms(loaded.metadata, species, neighbours),
        str(loaded.model_dtype).removeprefix("torch."),
    )


def _compiled(
    path: Path,
    device: torch.device,
    dtype: str,
    species: dict[str, str] | bool | None,
    neighbours: dict[str, Any],
) -> Loaded:
    try:
        model, metadata = load_compiled_model(str(path), device, None, None)
    except Exception as error:  # upstream and torch raise many kinds
        reason = (str(error).splitlines() or [""])[0]
        raise ValueError(f"{path} cannot be loaded as a compiled model: {reason}") from error
    outputs = frozenset(model.output_keys)
    needed = {AtomicDataDict.TOTAL_ENERGY_KEY, AtomicDataDict.FORCE_KEY}
    if not needed <= outputs or AtomicDataDict.BATCH_KEY in model.input_keys:
        raise ValueError(
            f"{path} was compiled for another program (its outputs are {sorted(outputs)}); compile "
            "it with --target ase_les"
        )
    own = metadata.get(graph_model.MODEL_DTYPE_KEY, dtype)
    if dtype and own != dtype:
        raise ValueError(f"`dtype` is {dtype}, but {path} was compiled in {own}; leave it out")
    settings = metadata.get(METADATA_KEY)
    return Loaded(
        model,
        _transforms(metadata, species, neighbours),
        own,
        None if settings is None else json.loads(settings),
        outputs,
        AtomicDataDict.PBC_KEY in model.input_keys,
    )


def _transforms(
    metadata: dict[str, Any],
    species: dict[str, str] | bool | None,
    neighbours: dict[str, Any],
) -> list[Callable[..., Any]]:
    types = metadata[graph_model.TYPE_NAMES_KEY]
    names = types.split(" ") if isinstance(types, str) else list(types)
    # Types are chemical symbols, unless said otherwise.
    chosen = handle_chemical_species_map(True if species is None else species, names)
    cutoff = float(metadata[graph_model.R_MAX_KEY])
    made: list[Callable[..., Any]] = basic_transforms(metadata, cutoff, names, chosen, **neighbours)
    return made
