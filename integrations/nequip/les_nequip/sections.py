"""Sections of a configuration that build a model: what they may name, and building it.

A checkpoint says by name which functions make its model. A file from elsewhere could name any
function there is, so only those that are known to build models are called on its behalf.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final

from hydra.utils import get_method
from nequip.model import override_model_compile_mode
from nequip.utils.global_state import global_state_initialized, set_global_state

from les.backends.model_files import OPT_IN, PickleRefusedError

#: Builder of a model that a file holds; see ``les_nequip.trained``.
TRAINED_MODEL: Final = ("les_nequip.TrainedModel", "les_nequip.trained.TrainedModel")
ADD_LES: Final = ("les_nequip.AddLES", "les_nequip.fine_tuning.AddLES")
LES: Final = ("les_nequip.LES", "les_nequip.module.LES")
CHAIN: Final = ("les_nequip.PairPotentials", "les_nequip.chain.PairPotentials")

#: Builders of upstream that unpickle the file they are given, whatever module they are named in.
UNPICKLING: Final = frozenset(
    {"ModelFromCheckpoint", "ModelFromPackage", "ModelTypeNamesFromPackage"}
)

#: What builds models and their parts from plain values, and does nothing else.
BUILDERS: Final = frozenset(
    {
        *ADD_LES,
        *LES,
        *CHAIN,
        "nequip.model.NequIPGNNModel",
        "nequip.model.PresetNequIPGNNModel",
        "nequip.model.FullNequIPGNNModel",
        "nequip.model.ZBLPairPotential",
        "nequip.model.modify",
        "nequip.model.modify_utils.modify",
        "nequip.model.nequip_models.NequIPGNNModel",
        "nequip.model.nequip_models.PresetNequIPGNNModel",
        "nequip.model.nequip_models.FullNequIPGNNModel",
        "nequip.model.pair_potential.ZBLPairPotential",
        "nequip.nn.embedding.PolynomialCutoff",
        "nequip.nn.embedding.cutoffs.PolynomialCutoff",
        "nequip.nn.pair_potential.ZBL",
        "allegro.model.AllegroModel",
        "allegro.model.allegro_models.AllegroModel",
        "allegro.model.allegro_models.FullAllegroModel",
        "allegro.nn.TwoBodyBesselScalarEmbed",
        "allegro.nn.TwoBodySplineScalarEmbed",
        "allegro.nn.scalarembed.TwoBodyBesselScalarEmbed",
        "allegro.nn.scalarembed.TwoBodySplineScalarEmbed",
    }
)


#: Deepest nesting of a section; those of models have about five levels.
DEPTH: Final = 50


def nested(value: Any, where: Any, depth: int = 0) -> Iterator[Any]:
    """All mappings and texts in ``value``, of nested mappings and lists.

    Raises:
        ValueError: naming ``where``, if it is nested without an end.
    """
    _check_depth(depth, where)
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield value
        for pair in value.items():
            yield from nested(pair, where, depth + 1)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from nested(item, where, depth + 1)


def _check_depth(depth: int, where: Any) -> None:
    if depth > DEPTH:
        raise ValueError(f"{where} holds a section that is nested more than {DEPTH} times")


def targets(value: Any, where: Any) -> Iterator[str]:
    """All that ``value`` names to be called; errors as those of :func:`nested`."""
    for item in nested(value, where):
        if isinstance(item, Mapping) and "_target_" in item:
            yield str(item["_target_"])


def refuse_other_builders(
    value: Any, path: Any, also: Collection[str] = (), advice: str = OPT_IN
) -> None:
    """Refuse a part of a file that would have anything but models built.

    Args:
        value: the part, of plain values.
        path: the file, for messages.
        also: further names that may be called.
        advice: what to do about it, for messages.

    Raises:
        PickleRefusedError: naming the first that is neither in :data:`BUILDERS` nor in ``also``.
        ValueError: if the part is nested without an end.
    """
    for name in targets(value, path):
        if name not in BUILDERS and name not in also:
            raise PickleRefusedError(
                f"{path} says that {name} is to be called, which is none of the functions that les "
                f"knows to build models; {advice}"
            )
    if any("${" in item for item in nested(value, path) if isinstance(item, str)):
        raise PickleRefusedError(f"{path} holds values that are yet to be resolved; {advice}")


def refuse_consent(value: Any, where: Any) -> None:
    """Refuse sections that have other files unpickled: who writes the command consents to that.

    Args:
        value: the sections, of plain values.
        where: what holds them, for messages.

    Raises:
        PickleRefusedError: for a builder of upstream that unpickles the file it is given, and for
            ``allow_pickle``.
        ValueError: if the sections are nested without an end.
    """
    for item in nested(value, where):
        if not isinstance(item, Mapping):
            continue
        if item.get("allow_pickle") not in (None, False):
            raise PickleRefusedError(
                f"{where} has `allow_pickle` for {item.get('_target_')}, which is given on the "
                f"command line only; {OPT_IN}"
            )
        if is_unpickling(item):
            raise PickleRefusedError(
                f"{where} names {item['_target_']}, which unpickles the file it is given; use "
                f"{TRAINED_MODEL[0]}, which reads plain values only, or, {OPT_IN}"
            )


def is_unpickling(section: Mapping[str, Any]) -> bool:
    """Whether ``section`` names a builder of upstream that unpickles a file."""
    return str(section.get("_target_")).rpartition(".")[2] in UNPICKLING


def plain(value: Any, where: Any, depth: int = 0) -> Any:
    """``value`` in dictionaries, lists, texts and numbers.

    Raises:
        ValueError: naming ``where``, if it holds anything else, or is nested without an end.
    """
    _check_depth(depth, where)
    deeper = depth + 1
    if isinstance(value, Mapping):
        return {
            plain(key, where, deeper): plain(item, where, deeper) for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [plain(item, where, deeper) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"{where} holds a {type(value).__name__} where plain values are expected")


def without_files(
    section: Mapping[str, Any], where: Any, read: Callable[[str], dict[str, Any]]
) -> dict[str, Any]:
    """``section`` with the sections of the models in the files that it names in their place.

    Args:
        section: of plain values.
        where: what holds it, for messages.
        read: returns the section of the model in a file.

    Raises:
        ValueError: if a builder that needs a file is given none.
    """
    target = section.get("_target_")
    if target in TRAINED_MODEL and isinstance(section.get("section"), Mapping):
        inner: dict[str, Any] = section["section"]
        return inner
    for names, key in (
        (TRAINED_MODEL, "model_file"),
        (("nequip.model.ModelFromCheckpoint",), "checkpoint_path"),
        (("nequip.model.ModelFromPackage",), "package_path"),
    ):
        if target in names:
            if not isinstance(section.get(key), str):
                raise ValueError(f"{where} has {target} without the file `{key}`")
            return read(section[key])
    return {
        key: without_files(value, where, read) if isinstance(value, Mapping) else value
        for key, value in section.items()
    }


def in_precision(section: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """``section`` with the precision ``dtype`` wherever it names one."""
    return {
        key: dtype
        if key == "model_dtype"
        else in_precision(value, dtype)
        if isinstance(value, Mapping)
        else value
        for key, value in section.items()
    }


def build(section: Mapping[str, Any], compile_mode: str = "eager") -> Any:
    """The model of a ``section``.

    Raises:
        ValueError: if nothing can be built from it; the message says why.
    """
    if not global_state_initialized():
        set_global_state()
    arguments = dict(section)
    target = arguments.pop("_target_", None)
    if not isinstance(target, str):
        raise ValueError(f"the section names no builder of a model as `_target_`, got {target!r}")
    try:
        with override_model_compile_mode(compile_mode):
            return get_method(target)(**arguments)
    except Exception as error:  # builders and Hydra raise many kinds
        reason = (str(error).splitlines() or [""])[0]
        raise ValueError(
            f"{target} cannot build the model: {type(error).__name__}: {reason}"
        ) from error
