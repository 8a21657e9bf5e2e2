"""What a MACE model reads for its long-range energy: charges, their sums, moments, and a field."""

from __future__ import annotations

import types
from typing import Any

import mace  # noqa: F401  (before e3nn: it makes e3nn 0.4 importable on current torch)
import torch
from mace.modules.models import ScaleShiftMACE
from torch import Tensor

from les.electronegativity import electronegativity_and_hardness
from les.fragments import told_fragments
from les.moment_readout import ReadMoments
from les.structures import ChargeSums
from les_mace.moments import read_moments
from les_mace.readouts import read


class ChargeReader(ScaleShiftMACE):
    """The part of a model that reads the features of its short-range part, and its input.

    Attributes:
        les: ``les.Les``.
        les_readouts: readouts of charges, for each layer, and after them that of moments.
        layer_widths: numbers of features of the layers.
    """

    #: Upstream's forward under a name of its own, because TorchScript knows no
    #: ``super().forward``, and takes a method's name from the function.
    short_range = types.FunctionType(
        ScaleShiftMACE.forward.__code__,
        ScaleShiftMACE.forward.__globals__,
        "short_range",
        ScaleShiftMACE.forward.__defaults__,
    )
    short_range.__annotations__ = ScaleShiftMACE.forward.__annotations__

    def require_embedded(self, data: dict[str, Tensor]) -> None:
        """Raise ``ValueError`` for input without what the model embeds."""
        if hasattr(self, "joint_embedding"):
            for name in self.embedding_specs.keys():  # noqa: SIM118 (for TorchScript)
                if name not in data:
                    raise ValueError("the input must have `" + name + "`, which this model embeds")

    def charge_sums(self, data: dict[str, Tensor]) -> ChargeSums:
        """What the charges sum to, as far as the model makes them and is told; 0 by default."""
        if self.les.neutrality == "none":
            return ChargeSums(None, None, None)
        total_charge: Tensor | None = None
        if "total_charge" in data:
            total_charge = data["total_charge"].view(-1)
        if "fragment" not in data:
            return ChargeSums(total_charge, None, None)
        if torch.jit.is_scripting():
            if bool((data["fragment"] != -1).any()):  # which is told by nobody
                raise ValueError(
                    "`fragment` in the data is not for a model compiled by TorchScript, which "
                    "takes structures as a whole; use the model it was made of"
                )
            return ChargeSums(total_charge, None, None)
        return self._sums_of_fragments(total_charge, data)

    @torch.jit.unused
    def _sums_of_fragments(
        self, total_charge: Tensor | None, data: dict[str, Tensor]
    ) -> ChargeSums:
        told = told_fragments(data["fragment"], data.get("fragment_charge"))
        return ChargeSums(total_charge, *told)

    def external_field(self, data: dict[str, Tensor]) -> Tensor | None:
        """The field ``[n_graphs, 3]`` [V/A] of a model that takes one and is told."""
        if not self.les.external_field or "external_field" not in data:
            return None
        field = data["external_field"].view(-1, 3)
        if torch.jit.is_scripting():
            if bool((field != 0).any()):
                raise ValueError(
                    "`external_field` in the data is not for a model compiled by TorchScript; use "
                    "the model it was made of"
                )
            return None
        return field

    def raw_charges(self, node_feats: Tensor | None, data: dict[str, Tensor]) -> Tensor:
        """Charges ``[n_atoms]`` [e] as read from upstream's concatenated layer features.

        With ``charge_equilibration`` these are electronegativities and hardnesses
        ``[n_atoms, 2]`` [eV/e, eV/e^2].
        """
        assert node_feats is not None  # for TorchScript
        node_heads = torch.zeros_like(data["batch"])
        if "head" in data:
            node_heads = data["head"][data["batch"]]
        layers = torch.split(node_feats, self.layer_widths, dim=-1)
        n_readouts = len(self.readouts)
        nothing = torch.zeros_like(node_feats[:, 0])
        numbers = [nothing, nothing]
        n_charges = n_readouts * (2 if self.les.charge_equilibration else 1)
        for i, readout in enumerate(self.les_readouts):
            if i < n_charges:  # others read moments
                layer = layers[-1] if n_readouts == 1 else layers[i % n_readouts]
                if torch.jit.is_scripting():
                    values = readout(layer, node_heads)
                else:
                    values = self._read(readout, layer, node_heads)
                which = i // n_readouts
                numbers[which] = numbers[which] + _of_head(values, node_heads)
        if self.les.charge_equilibration:
            return electronegativity_and_hardness(torch.stack(numbers, dim=1))
        return numbers[0]

    @torch.jit.unused
    def _read_moments(self, node_feats: Tensor | None) -> ReadMoments:
        return read_moments(self, node_feats)

    @torch.jit.unused
    def _read(self, readout: Any, features: Tensor, heads: Tensor) -> Tensor:
        return read(readout, features, heads)


def _of_head(values: Tensor, heads: Tensor) -> Tensor:
    """Those of each atom's own head ``[n_atoms]``, of ``values`` ``[n_atoms, n_heads]``."""
    if values.shape[1] == 1:
        return values[:, 0]
    return values.gather(1, heads.unsqueeze(1)).squeeze(1)
