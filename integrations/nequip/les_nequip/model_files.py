"""Model files: our own of plain values, and upstream's checkpoints, read as plain values.

A model is written as the section of the configuration that builds it, its weights and its
format. Reading one runs no code but the builders in ``les_nequip.sections``.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import torch

from les.backends.model_files import check_parts, load_plain
from les.backends.models import model_path
from les.files import replacing
from les.versions import mark, read_mark
from les_nequip.sections import plain, refuse_other_builders
from les_nequip.stored import Stored, is_state
from les_nequip.upstream_files import as_upstream_loads_it, read_package, read_trained

#: What the mark of a file calls its model.
FORMAT: Final = "les_nequip.model"
#: Endings of the names of model files.
PLAIN, CHECKPOINT, PACKAGE, COMPILED = ".nequip.pt", ".ckpt", ".nequip.zip", ".nequip.pt2"


def save_model(model: Any, path: str | Path, section: Mapping[str, Any] | None = None) -> None:
    """Write ``model`` for :func:`load_model`; the file is written completely or not at all.

    Args:
        model: a model of nequip.
        path: the file, whose name ends with ``.nequip.pt``.
        section: the section ``training_module.model`` of a configuration that builds it; models
            that were read from a file have their own.

    Raises:
        ValueError: for another name, without a ``section``, or with one that is not plain or
            names other functions than builders of models.
    """
    path = Path(path)
    if not path.name.endswith(PLAIN):
        raise ValueError(f"the name {path} must end with {PLAIN}, which tells whose model it is")
    section = getattr(model, "les_section", None) if section is None else section
    if section is None:
        raise ValueError("`section` must be given: how this model was built is not known")
    section = plain(section, "`section`")
    refuse_other_builders(section, "`section`", advice="such a model cannot be written")
    names = ("les", "nequip", "nequip-allegro", "e3nn", "torch")
    content = {
        "format": mark(FORMAT),
        "section": section,
        "state_dict": {key: x.detach().cpu() for key, x in model.state_dict().items()},
        "versions": {name: _version(name) for name in names},
    }
    with replacing(path) as temporary:
        torch.save(content, temporary)


def load_model(path: str | Path, *, dtype: str = "", allow_pickle: bool = False) -> Any:
    """Read a model from a plain file, a checkpoint, or with ``allow_pickle`` a package.

    Args:
        path: ends with ``.nequip.pt``, ``.ckpt`` or ``.nequip.zip``.
        dtype: ``"float32"``, ``"float64"`` or, empty, the precision of the model.
        allow_pickle: read files that run the code they hold when they are loaded.

    Raises:
        FileNotFoundError, OSError, ValueError: as ``les.backends.model_files.load_plain``; for
            files that hold no model of nequip, or one that does not fit what is installed.
    """
    path = model_path(path)
    if allow_pickle and path.name.endswith((PACKAGE, CHECKPOINT)):
        foreign = as_upstream_loads_it(path)
        if foreign is not None and (not dtype or getattr(torch, dtype) == foreign.model_dtype):
            return foreign.eval()
    return read_stored(path, allow_pickle=allow_pickle).model(dtype)


def read_stored(
    path: str | Path, *, allow_pickle: bool = False, named_by: tuple[Path, ...] = ()
) -> Stored:
    """What a model file holds; errors as those of :func:`load_model`.

    Args:
        path: the file.
        allow_pickle: see :func:`load_model`.
        named_by: files that are being read, each of which names the next one as its model.
    """

    def section_of(name: str) -> dict[str, Any]:
        names = (*named_by, Path(path).resolve())
        return read_stored(name, allow_pickle=allow_pickle, named_by=names).section

    path = model_path(path)
    if path.resolve() in named_by:
        raise ValueError(f"{path} names itself as the file of its model")
    if path.name.endswith(PLAIN):
        return _read_plain(path, allow_pickle)
    if path.name.endswith(CHECKPOINT):
        return read_trained(path, allow_pickle, section_of)
    if path.name.endswith(PACKAGE):
        return read_package(path, allow_pickle, section_of)
    raise ValueError(
        f"the name {str(path)!r} must end with {PLAIN} (a model file), {CHECKPOINT} (a checkpoint) "
        f"or {PACKAGE} (a package)"
    )


def _read_plain(path: Path, allow_pickle: bool) -> Stored:
    content = load_plain(path, "NequIP model", allow_pickle=allow_pickle)
    check_parts(content, ("format", "section", "state_dict"), path, "NequIP model")
    read_mark(content["format"], (FORMAT,), path, "NequIP model")
    if not isinstance(content["section"], Mapping) or not is_state(content["state_dict"]):
        raise ValueError(f"{path} is no NequIP model: its parts are of other kinds")
    if not allow_pickle:
        refuse_other_builders(content["section"], path)
    return Stored(path, plain(content["section"], path), dict(content["state_dict"]))


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
