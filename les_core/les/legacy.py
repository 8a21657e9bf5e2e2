"""What settings mean that others have written: published LES, its host models, earlier releases."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from les.config_checks import OF_ELEMENTS, OF_MULTIPOLES
from les.keys import refuse_unknown
from les.neutrality import DEFAULT_NEUTRALITY, UNSAID_NEUTRALITY
from les.versions import FORMAT_VERSION, upgraded

logger = logging.getLogger("les")

#: Keys that host models put into the same dictionary; they are the host's business.
HOST_KEYS = frozenset(
    {
        "compute_bec",
        "bec_output_index",
        "alpha_1o_linear_w_pos",
        "alpha_1o_nonlinear_readout",
        "alpha_irreps",
        "distribute_lr_energy",
        "kappa_alpha_positive",
        "l_max",
        "make_alpha_positive",
        "make_kappa_positive",
        "kappa_scale",
        "alpha_scale",
        "output_scale",
    }
)

#: Other names of settings.
SYNONYMS = {"use_quad": "use_quadrupole"}

#: Settings that published dictionaries have also where they mean nothing -> the switch of each.
DEPENDENT_KEYS = {
    "fixed_atomic_charges_scaling_factor": "use_fixed_atomic_charges",
    "use_anisotropic_polarizability": "use_induced_dipole",
}

#: Keys of published LES for what is not supported here yet, with the value that turns
#: the feature off.
UNSUPPORTED_KEYS: dict[str, Any] = {
    "use_epsilon_r_scaling": False,
    "is_periodic": None,
    "N_max": None,
}


def own_settings(values: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the keys in a dictionary of published LES that are settings of les.

    Keys that belong to the host model are left to it.

    Args:
        values: the dictionary.
        known: the settings of les -> the default of each.

    Raises:
        ValueError: for a key that nobody knows (the message names the closest one), and for a
            feature of published LES that is not supported yet.
    """
    refuse_unknown(values, {*known, *HOST_KEYS, *UNSUPPORTED_KEYS, *SYNONYMS})
    for name, meant in SYNONYMS.items():
        if name in values:
            if values.get(meant, values[name]) != values[name]:
                raise ValueError(f"`{name}` and `{meant}` contradict each other")
            values = {**values, meant: values[name]}
    for name, off in UNSUPPORTED_KEYS.items():
        given = values.get(name, off)
        if given != off and given is not None:
            raise ValueError(f"`{name}` = {given!r} is not supported yet")
    values = _that_have_an_effect(values, known)
    ignored = sorted(set(values) & HOST_KEYS)
    if ignored:
        logger.debug("keys left to the host model: %s", ", ".join(ignored))
    return {name: value for name, value in values.items() if name in known}


def _that_have_an_effect(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` without what their writers leave in them where its switch is off.

    Of a default nothing is said: hosts write those that nobody has set.
    """
    values = {
        name: value
        for name, value in values.items()
        if value is not None or name not in (*OF_ELEMENTS, *OF_MULTIPOLES)
    }
    for name, switch in DEPENDENT_KEYS.items():
        if values.get(switch, False):
            continue
        if values.pop(name, defaults[name]) != defaults[name]:
            logger.info("`%s` has no effect without `%s` and is left out", name, switch)
    return values


def settings_of_new_models(reads_charges: bool) -> dict[str, Any]:
    """What makes a model a new one where settings that are not said mean what they used to.

    Args:
        reads_charges: whether the model reads charges by ``les.ChargeReadout``.
    """
    return {
        "neutrality": DEFAULT_NEUTRALITY,
        **({"element_charges": True} if reads_charges else {}),
    }


def stored_settings(values: Mapping[str, Any], version: int = 1) -> dict[str, Any]:
    """The settings that a model carries, as this release means them.

    Args:
        values: fields of ``les.LESConfig``, maybe with their own version beside them.
        version: the version of settings that do not say it.

    Raises:
        ValueError: as ``les.versions.upgraded``.
    """
    settings = dict(values)
    return upgraded(settings, settings.pop(FORMAT_VERSION, version))


def settings_of_pickle(state: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a published ``Les`` module.

    Args:
        state: what its pickle holds, with its modules under ``"_modules"``.

    Raises:
        ValueError: for a model that needs what is not supported.
    """
    if state.get("use_atomwise", False):
        raise ValueError(
            "this model reads charges with the published Atomwise network (`use_atomwise`), which "
            "cannot be loaded; only models whose host passes latent charges can"
        )
    for name in ("use_fixed_atomic_charges", "use_atomic_alpha", "use_epsilon_r_scaling"):
        if state.get(name, False):
            raise ValueError(f"this model uses `{name}`, which cannot be loaded from a pickle")
    ewald, bec = state["_modules"]["ewald"], state["_modules"].get("bec")
    return {
        "sigma": ewald.sigma,
        "dl": ewald.dl,
        "cutoff": "sharp",
        "remove_self_interaction": ewald.remove_self_interaction,
        "norm_factor": ewald.norm_factor,
        "remove_mean": getattr(bec, "remove_mean", True),
        "epsilon_factor": getattr(bec, "epsilon_factor", 1.0),
        "neutrality": UNSAID_NEUTRALITY,
    }
