"""What models cannot do that are compiled, or that bring the code of an earlier release."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nequip.data import AtomicDataDict

from les_nequip.keys import BEC_METHOD

if TYPE_CHECKING:
    from ase import Atoms


def check_bec_method(
    method: str,
    model: Any,
    settings: Mapping[str, Any],
    les_modules: Sequence[Any],
    outputs: Collection[str],
) -> None:
    """Refuse a way to evaluate Born effective charges that a model does not have.

    Args:
        method: one of ``les.response.born.METHODS``.
        model: the model or its file, for messages.
        settings: what the model says about LES.
        les_modules: its modules of LES; none of a compiled one.
        outputs: names of the outputs of a compiled model.

    Raises:
        ValueError: saying what the model has.
    """
    if outputs and AtomicDataDict.BORN_CHARGE_KEY not in outputs:
        raise ValueError(
            f"{model} has no Born effective charges; compile it with --target ase_les_bec"
        )
    model = str(model) if isinstance(model, (str, Path)) else "`model`"
    compiled = not les_modules
    if compiled:
        only = settings.get(BEC_METHOD, "phase")
    else:  # a package brings its own code
        recent = all(hasattr(module, "edge_record") for module in les_modules)
        only = method if recent else "phase"
    if only == method:
        return
    if only == "phase":
        raise ValueError(
            f"{model} is from an earlier release of les and has the published approximation of "
            "Born effective charges: take that with bec='phase', or "
            f"{'compile' if compiled else 'package'} the model again for exact ones"
        )
    raise ValueError(
        f"{model} was compiled with exact Born effective charges: take these with bec=True; "
        f"bec={method!r} is for models that are not compiled"
    )


def check_compiled_for(
    atoms: Atoms, total_charge: float, boundary: str, *, fragments: bool
) -> None:
    """Refuse a structure that a compiled model, which does not see all of it, was not made for.

    Args:
        atoms: the structure.
        total_charge: its total charge [e].
        boundary: ``"periodic"``, ``"open"`` or ``"mixed"``, of the model.
        fragments: whether the structure tells fragments that the model would be given.

    Raises:
        ValueError: for fragments, a total charge, and other periodic axes.
    """
    if fragments:
        raise ValueError(
            "compiled models take structures as a whole, got one with fragments (the array "
            "'fragment'): use the model as it was trained, or take the array out"
        )
    if total_charge != 0.0:
        raise ValueError(
            "compiled models are for structures without a total charge, got one of "
            f"{total_charge:g}: use the model as it was trained"
        )
    if boundary != "mixed" and atoms.pbc.any() != (boundary == "periodic"):
        raise ValueError(
            f"this model was compiled for {boundary} structures, got pbc {atoms.pbc.tolist()}"
        )
