"""Published CACE models, which are pickled modules, as ours.

Their pickles are read without the packages that wrote them: classes of these become empty ones
(:class:`Stub`), which only keep what the pickle says. Keys and shapes are those of the published
models of arXiv:2402.07472 and arXiv:2408.15165.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import nn

from les.readout import AtomReadout
from les_cace.model import CACE
from les_cace.representation import Layer, Representation

#: Packages whose classes are loaded as they are.
REAL = ("builtins", "collections", "copyreg", "numpy", "torch")

#: Settings of the published long-range part, and of its response, under their names here.
LES_SETTINGS = ("sigma", "dl", "remove_self_interaction", "norm_factor")
RESPONSE_SETTINGS = ("remove_mean", "epsilon_factor")


#: By class, attributes that change what a model computes, and the values supported here.
SUPPORTED: dict[str, dict[str, Any]] = {
    "NeuralNetworkPotential": {"do_postprocessing": False},
    "EdgeEncoder": {"directed": True},
    "LesWrapper": {"feature_key": "node_feats", "compute_energy": True},
    "FeatureAdd": {"feature_keys": ["SR_energy", "ewald_potential"]},
    "Atomwise": {
        "feature_key": "node_feats",
        "n_out": 1,
        "aggregation_mode": "sum",
        "residual": False,
        "use_batchnorm": False,
        "post_process": None,
        "bias": True,
    },
    "Les": {"use_atomwise": True},
}
#: Functions between layers, by the names of functions and classes.
ACTIVATIONS = ("silu", "SiLU")


class Stub:
    """Stands for a module of a package that is not needed to read what it holds."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.__dict__.update(kwargs)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__"):
            for group in ("_parameters", "_buffers", "_modules"):
                content = self.__dict__.get(group, {})
                if name in content:
                    return content[name]
        raise AttributeError(f"its {type(self).__name__} has no {name!r}")


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] in REAL:
            return super().find_class(module, name)
        return type(name, (Stub,), {"__module__": module})


class _PickleModule:
    """What ``torch.load`` wants of a module for pickles."""

    Unpickler = _Unpickler
    load = staticmethod(pickle.load)


def load_published(path: str | Path, *, allow_pickle: bool = False) -> CACE:
    """The model in a published checkpoint ``path``, such as ``best_model.pth``.

    Reference energies per element are not in such a file: they are zero.

    Args:
        path: a pickled module of the package ``cace``, which need not be installed.
        allow_pickle: confirms that the file is from a trusted source: a pickle can run code.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: without ``allow_pickle``; if the file holds something else, or a model of
            another kind than the published ones.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no model file {path}")
    if not allow_pickle:
        raise ValueError(
            f"{path} is a pickle; if its source is one you trust, pass allow_pickle=True, or "
            "--allow-pickle (loading it can run the code it holds)"
        )
    try:
        module = torch.load(
            path, map_location="cpu", weights_only=False, pickle_module=_PickleModule
        )
    except Exception as error:  # of many kinds; the file is what matters
        raise ValueError(f"{path} cannot be read: {type(error).__name__}: {error}") from error
    if not isinstance(module, Stub) or type(module).__name__ != "NeuralNetworkPotential":
        raise ValueError(f"{path} must hold a NeuralNetworkPotential, got {type(module).__name__}")
    try:
        return _model(module)
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} holds a model of another kind than the published ones: {error}"
        ) from error


def _check(module: Any) -> None:
    """Refuse what changes the results and is not supported, in ``module`` and all it holds."""
    kind = type(module).__name__
    for name, expected in SUPPORTED.get(kind, {}).items():
        value = getattr(module, name, expected)  # older files have fewer of them
        if kind == "Atomwise" and name == "n_out" and "les" in type(module).__module__:
            continue  # channels of charges
        if value != expected:
            raise ValueError(f"`{name}` of its {kind} is {value!r}, supported is {expected!r}")
    if kind == "Atomwise":
        *hidden, last = module.outnet
        for layer in hidden:
            if _name(layer.activation) not in ACTIVATIONS:
                raise ValueError(f"its {kind} has the activation {_name(layer.activation)!r}")
        if _name(last.activation) != "Identity":
            raise ValueError(f"its {kind} ends with the activation {_name(last.activation)!r}")
    for part in getattr(module, "_modules", {}).values():
        if part is not None:
            _check(part)


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def _model(module: Stub) -> CACE:
    _check(module)
    outputs = list(module.output_modules)
    charges = [output.les for output in outputs if hasattr(output, "les")]
    energies = [output for output in outputs if type(output).__name__ == "Atomwise"]
    if len(energies) != 1 or len(charges) > 1:
        kinds = [type(output).__name__ for output in outputs]
        raise ValueError(f"one readout of energies and one of charges expected, got {kinds}")
    model = CACE(
        _representation_arguments(module.representation),
        _les_arguments(charges[0]) if charges else None,
        n_layers=energies[0].n_layers,
        n_hidden=energies[0].n_hidden,
        add_linear_nn=energies[0].add_linear_nn,
    ).double()  # two biases become one, which single precision would round
    with torch.no_grad():
        _copy_representation(module.representation, model.representation)
        _copy_readout(energies[0], model.readout)
        if model.charge_readout is not None:
            _copy_readout(charges[0].atomwise, model.charge_readout)
    return model.eval()


def _representation_arguments(source: Stub) -> dict[str, Any]:
    for part, expected in (("radial_basis", "BesselRBF"), ("cutoff_fn", "PolynomialCutoff")):
        kind = type(getattr(source, part)).__name__
        if kind != expected:
            raise ValueError(f"its {part} is a {kind}, supported is {expected}")
    arguments = {
        "zs": list(source.zs),
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


def _les_arguments(source: Stub) -> dict[str, Any]:
    arguments = {name: getattr(source.ewald, name) for name in LES_SETTINGS}
    arguments |= {name: getattr(source.bec, name) for name in RESPONSE_SETTINGS}
    for name in ("n_layers", "n_hidden", "add_linear_nn", "output_scaling_factor"):
        arguments[name] = getattr(source.atomwise, name)
    arguments["n_channels"] = len(source.atomwise.outnet[-1].linear.bias)
    return {**arguments, "cutoff": "sharp"}


def _copy_representation(source: Stub, target: Representation) -> None:
    _copy(source.node_embedding_sender.embedding_weights, target.sender_embedding)
    assert target.receiver_embedding is not None
    _copy(source.node_embedding_receiver.embedding_weights, target.receiver_embedding)
    _copy(source.radial_basis.bessel_weights, target.radial_basis.frequencies)
    # As stored: it has been rounded to float32.
    _copy(source.radial_basis.prefactor, target.radial_basis.get_buffer("amplitude"))
    _copy_all(source.radial_transform.weights, target.mixing)
    for kinds, layer in zip(source.message_passing_list, target.layers):
        assert isinstance(layer, Layer)
        memory, radial, weights = kinds
        if layer.memory is not None:
            _copy_all(memory.memory_coef, layer.memory.coefficients)
        if layer.radial is not None:
            _copy_all(radial.prefactor, layer.radial.amplitudes)
            _copy_all(radial.invr0, layer.radial.decays)
        if layer.weights is not None:
            _copy_linear(weights.hnet, layer.weights.network)


def _copy_readout(source: Stub, target: AtomReadout) -> None:
    _copy_linear(source.outnet, target.network)
    if target.linear is not None:
        _copy(source.linear_nn.linear.weight, target.linear.weight)
        # One bias serves for both.
        last = target.network[-1]
        assert isinstance(last, nn.Linear)
        last.bias.add_(source.linear_nn.linear.bias)


def _copy_linear(sources: Any, network: nn.Sequential) -> None:
    targets = [layer for layer in network if isinstance(layer, nn.Linear)]
    for source, target in zip(sources, targets, strict=True):
        _copy(source.linear.weight, target.weight)
        _copy(source.linear.bias, target.bias)


def _copy_all(sources: Any, targets: nn.ParameterList) -> None:
    for source, target in zip(sources, targets, strict=True):
        _copy(source, target)


def _copy(source: Any, target: torch.Tensor) -> None:
    if source.shape != target.shape:
        raise ValueError(f"weights of the shape {list(target.shape)} expected, got {source.shape}")
    target.copy_(source)
