"""Published CACE models, which are pickled modules, as ours.

Their pickles are read without the packages that wrote them (``les_cace.stubs``). Keys and shapes
are those of the published models of arXiv:2402.07472, arXiv:2408.15165 and arXiv:2504.05169, also
in their earlier forms: a combination of a short-range and a long-range potential, and charges in
units in which the prefactor of their energy is one.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from les.backends.model_files import OPT_IN, PickleRefusedError, check_file
from les.config_checks import OF_MULTIPOLES
from les.legacy import stored_settings
from les_cace.model import CACE
from les_cace.published_energy import POTENTIALS, Term, charge_readout, energy_terms
from les_cace.published_weights import copy_readout, copy_representation
from les_cace.stubs import Stub, kind_of, parts_of, read_stubs

#: ``2 pi k_e`` [eV A / e^2] in the published models: earlier ones have a factor of 1 in its place,
#: and charges that are larger by its square root.
PUBLISHED_NORM_FACTOR = 90.0474

#: Settings of the published long-range part, and of its response, under their names here.
LES_SETTINGS = ("sigma", "dl", "remove_self_interaction", "norm_factor")
RESPONSE_SETTINGS = ("remove_mean", "epsilon_factor")

#: Further features of the published long-range part, which are not supported.
LES_FEATURES = (
    *OF_MULTIPOLES,
    "use_quad",
    "use_fixed_atomic_charges",
    "use_atomic_alpha",
    "use_epsilon_r_scaling",
)

#: By class, attributes that change what a model computes, and the values supported here.
SUPPORTED: dict[str, dict[str, Any]] = {
    "NeuralNetworkPotential": {"do_postprocessing": False},
    "Cace": {"forward_features": []},
    "EdgeEncoder": {"directed": True},
    "LesWrapper": {"feature_key": "node_feats", "compute_energy": True},
    "Les": {"use_atomwise": True, **dict.fromkeys(LES_FEATURES, False)},
    "EwaldPotential": {
        "exponent": 1,
        "aggregation_mode": "sum",
        "external_field": None,
        "charge_neutral_lambda": None,
    },
    "Atomwise": {"feature_key": "node_feats", "residual": False, "use_batchnorm": False},
    "MessageBchi": {"residual": False, "use_batchnorm": False},
}
#: The same for what reads energies.
SUPPORTED_ENERGIES = {"n_out": 1, "aggregation_mode": "sum", "post_process": None}

#: By class, its perceptron.
PERCEPTRONS = {"Atomwise": "outnet", "MessageBchi": "hnet"}
#: Functions between the layers of perceptrons, by the names of functions and classes.
ACTIVATIONS = ("silu", "SiLU")


def load_published(path: str | Path, *, allow_pickle: bool = False) -> CACE:
    """Read a model from a published checkpoint ``path``, such as ``best_model.pth``.

    Such a file has no reference energies of the elements, so they are zero.

    Args:
        path: a pickled module of the package ``cace``, which need not be installed.
        allow_pickle: confirms that the file is from a trusted source: a pickle can run code.

    Raises:
        FileNotFoundError: if there is no such file.
        PickleRefusedError: without ``allow_pickle``.
        ValueError: if the file is damaged, holds something else, or a model of another kind than
            the published ones.
    """
    path = Path(path)
    check_file(path, "published CACE model")
    if not allow_pickle:
        raise PickleRefusedError(f"{path} is a pickle; {OPT_IN}")
    module = read_stubs(path)
    if not isinstance(module, Stub) or kind_of(module) not in POTENTIALS:
        raise ValueError(f"{path} must hold a {' or a '.join(POTENTIALS)}, got {kind_of(module)}")
    try:
        return _model(module)
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} holds a model of another kind than the published ones: {error}"
        ) from error


def _check(module: Any) -> None:
    """Refuse what changes the results and is not supported, in ``module`` and all it holds."""
    for part in parts_of(module):
        kind = kind_of(part)
        _check_values(part, SUPPORTED.get(kind, {}))
        if kind in PERCEPTRONS:
            layers = getattr(part, PERCEPTRONS[kind])
            if layers is None:
                raise ValueError(f"its {kind} has no weights: it was never evaluated")
            *hidden, last = [kind_of(layer.activation) for layer in layers]
            for name in hidden:
                if name not in ACTIVATIONS:
                    raise ValueError(f"its {kind} has the activation {name!r}")
            if last != "Identity":
                raise ValueError(f"its {kind} ends with the activation {last!r}")


def _check_values(module: Any, supported: dict[str, Any]) -> None:
    for name, expected in supported.items():
        value = getattr(module, name, expected)  # older files have fewer of them
        if value != expected:
            raise ValueError(
                f"`{name}` of its {kind_of(module)} is {value!r}, supported is {expected!r}"
            )


def _model(module: Stub) -> CACE:
    _check(module)
    terms = energy_terms(module)
    energies = [term for term in terms if kind_of(term.module) == "Atomwise"]
    long_range = [term for term in terms if kind_of(term.module) != "Atomwise"]
    if len(energies) != 1 or len(long_range) > 1:
        kinds = [kind_of(term.module) for term in terms]
        raise ValueError(f"one readout of energies and one of charges expected, got {kinds}")
    _check_values(energies[0].module, SUPPORTED_ENERGIES)
    representation = energies[0].potential.representation
    charges = _charges(long_range[0]) if long_range else None
    others = [x.potential.representation for x in long_range]  # mostly the same
    others = [x for x in others if x is not representation]
    model = CACE(
        _representation_arguments(representation),
        None if charges is None else stored_settings(charges.arguments),
        charge_representation=_representation_arguments(others[0]) if others else None,
        **_readout_arguments(energies[0].module),
    ).double()  # two biases become one, which single precision would round
    with torch.no_grad():
        for source, target in zip([representation, *others], model.representations()):
            copy_representation(source, target)
        copy_readout(energies[0].module, model.readout, energies[0].weight)
        if charges is not None:
            assert model.charge_readout is not None
            copy_readout(charges.readout, model.charge_readout)
    return model.eval()


def _representation_arguments(source: Stub) -> dict[str, Any]:
    for part, expected in (("radial_basis", "BesselRBF"), ("cutoff_fn", "PolynomialCutoff")):
        kind = kind_of(getattr(source, part))
        if kind != expected:
            raise ValueError(f"its {part} is a {kind}, supported is {expected}")
    arguments = {
        "zs": [int(z) for z in source.zs],
        "n_atom_basis": source.n_atom_basis,
        "cutoff": float(source.cutoff),
        "n_rbf": source.n_radial_func,
        "n_radial_basis": source.n_radial_basis,
        "max_l": source.max_l,
        "max_nu": source.max_nu,
        "num_message_passing": source.num_message_passing,
        "avg_num_neighbors": source.mp_norm_factor**-2,
        "cutoff_exponent": round(float(source.cutoff_fn.p)),
        "trainable_radial_basis": isinstance(source.radial_basis.bessel_weights, nn.Parameter),
        "embed_receiver_nodes": source.node_embedding_receiver is not source.node_embedding_sender,
    }
    if source.num_message_passing == 0:
        return {**arguments, "message_types": []}
    kinds = list(source.message_passing_list[0])
    active = [name for name, kind in zip(("M", "Ar", "Bchi"), kinds) if kind is not None]
    arguments["message_types"] = active
    if "Bchi" in active:
        widths = [dense.linear.weight.shape[0] for dense in kinds[2].hnet]
        arguments["message_hidden"] = widths[:-1]
        arguments["shared_channels"] = bool(kinds[2].shared_channels)
        arguments["shared_degrees"] = bool(kinds[2].shared_l)
    return arguments


def _readout_arguments(source: Stub) -> dict[str, Any]:
    widths = [len(layer.linear.weight) for layer in source.outnet]
    return {
        "n_layers": len(widths),
        "n_hidden": widths[:-1],
        "add_linear_nn": source.add_linear_nn,
    }


class Charges(NamedTuple):
    """Of a long-range energy: what reads its charges, and our settings for both."""

    readout: Stub
    arguments: dict[str, Any]


def _charges(term: Term) -> Charges:
    if term.weight <= 0.0:
        raise ValueError(f"its long-range energy has the weight {term.weight}, supported is > 0")
    if kind_of(term.module) == "LesWrapper":
        les = term.module.les
        readout = les.atomwise
        settings = {name: getattr(les.ewald, name) for name in LES_SETTINGS}
        settings |= {name: getattr(les.bec, name) for name in RESPONSE_SETTINGS}
        scale = readout.output_scaling_factor * math.sqrt(term.weight)
    else:
        readout = charge_readout(term)
        settings = {name: getattr(term.module, name) for name in LES_SETTINGS}
        # From the units of the file to e.
        scale = math.sqrt(term.weight * settings["norm_factor"] / PUBLISHED_NORM_FACTOR)
        settings["norm_factor"] = PUBLISHED_NORM_FACTOR
        settings |= _response(term, scale)
    settings |= _readout_arguments(readout)
    settings["n_channels"] = len(readout.outnet[-1].linear.weight)
    settings["output_scaling_factor"] = scale
    settings["cutoff"] = "sharp"
    return Charges(readout, settings)


def _response(term: Term, scale: float) -> dict[str, Any]:
    """Settings of the polarization that a model computes from charges, if it does.

    Args:
        scale: from charges in the units of the file to those in e.
    """
    modules = [x for x in term.potential.output_modules if kind_of(x) == "Polarization"]
    found = {
        # Its sign is the common one of all charges, which has no meaning.
        (x.remove_mean, (getattr(x, "normalization_factor", scale) / scale) ** 2)
        for x in modules
        if x.charge_key == term.module.feature_key
    }
    if len(found) > 1:
        raise ValueError("its modules Polarization have different settings")
    return dict(zip(RESPONSE_SETTINGS, *found)) if found else {}
