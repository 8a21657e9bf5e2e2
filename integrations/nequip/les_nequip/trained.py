"""Models from files, as a builder for configurations: to be trained further, or to get LES."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nequip.model.utils import get_current_compile_mode
from nequip.utils import dtype_from_name

from les_nequip.model_files import read_stored
from les_nequip.sections import build, refuse_other_builders


def TrainedModel(
    model_file: str,
    section: Mapping[str, Any] | None = None,
    *,
    compile_mode: str | None = None,
    allow_pickle: bool = False,
    seed: int | None = None,
    type_names: Sequence[str] | None = None,
    model_dtype: str | None = None,
) -> Any:
    """A model with the weights in a file, for the section ``training_module.model``.

    Unlike upstream's ``ModelFromCheckpoint``, it reads only plain values, and checkpoints of the
    new training do not depend on the file.

    Args:
        model_file: a model file (``.nequip.pt``), a checkpoint (``.ckpt``) or a package
            (``.nequip.zip``), which needs ``allow_pickle``.
        section: section that builds the model; the default is the section in the file.
        compile_mode: ``"eager"`` or ``"compile"``.
        allow_pickle: read files that run the code they hold when they are loaded.
        seed: has no effect, because nothing is random.
        type_names: must be those of the model, if given.
        model_dtype: must be that of the model, if given.

    Raises:
        FileNotFoundError, ValueError: as ``les_nequip.load_model``, and for a model with other
            types or another precision than given.
    """
    override = get_current_compile_mode(return_override=True)
    if section is not None and override[1]:  # a checkpoint is loaded, which has the weights
        if not allow_pickle:
            refuse_other_builders(section, "`section`")
        return build(section, override[0])
    stored = read_stored(Path(model_file), allow_pickle=allow_pickle)
    model = stored.model(compile_mode=compile_mode or "eager").train()
    refuse_other_model(model, type_names, model_dtype)
    return model


def refuse_other_model(
    model: Any, type_names: Sequence[str] | None, model_dtype: str | None
) -> None:
    """Raise ``ValueError`` if a model has other types or another precision than given."""
    found = list(model.type_names)
    if type_names is not None and list(type_names) != found:
        raise ValueError(f"the trained model knows the types {found}, got {list(type_names)}")
    if model_dtype is not None and dtype_from_name(model_dtype) != model.model_dtype:
        raise ValueError(
            f"the trained model has the precision {model.model_dtype}, got {model_dtype!r}"
        )
