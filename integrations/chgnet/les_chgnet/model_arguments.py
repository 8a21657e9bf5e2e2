"""Arguments of CHGNet models: which there are, and as plain values."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from typing import Any

from chgnet.model import CHGNet
from torch import nn

from les.keys import refuse_unknown
from les_chgnet.atomic_energies import AtomicEnergies

#: What upstream takes among its further keyword arguments, where it ignores all others.
FURTHER = frozenset({"conv_norm", "mlp_out_bias", "final_mlp", "num_heads", "converter_verbose"})

#: What is among the arguments of upstream's model 0.2.0, and means nothing any more.
OUTDATED = frozenset({"cutofff_coeff", "skip_connection"})


def refuse_unknown_arguments(
    arguments: Mapping[str, Any], further: Collection[str] = FURTHER
) -> None:
    """Refuse what no argument of ``CHGNet`` is, with the closest that is.

    Args:
        arguments: keyword arguments for ``CHGNet``.
        further: those that upstream's signature does not name.

    Raises:
        ValueError: naming the argument.
    """
    named = set(inspect.signature(CHGNet.__init__).parameters) - {"self", "kwargs"}
    refuse_unknown(arguments, named.union(further))


def plain_dict(content: Mapping[str, Any]) -> dict[str, Any]:
    """What ``CHGNet.as_dict`` returns, without the module that may be among its arguments.

    Raises:
        ValueError: for reference energies that upstream's own name does not stand for.
    """
    arguments = dict(content["model_args"])
    composition_model = arguments["composition_model"]
    if isinstance(composition_model, nn.Module):
        AtomicEnergies.like(composition_model)  # refuses what is no AtomRef
        if not composition_model.is_intensive:
            raise ValueError(
                "`composition_model` must be intensive to be saved, "
                "got one with `is_intensive` false"
            )
        # The energies are among the weights; the name only says of what kind they are.
        arguments["composition_model"] = "MPtrj"
    return {**content, "model_args": arguments}
