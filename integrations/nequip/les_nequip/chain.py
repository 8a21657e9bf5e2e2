"""Several pair potentials in the one slot that a model has for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from hydra.utils import instantiate
from nequip.nn import SequentialGraphNetwork


class PairPotentials(SequentialGraphNetwork):
    """Modules that add to the atomic energies one after the other, such as ZBL and LES.

    In a configuration each potential needs ``_partial_: true``, because it is built here, with
    the arguments that upstream passes to the slot::

        pair_potential:
          _target_: les_nequip.PairPotentials
          potentials:
            - {_target_: nequip.nn.pair_potential.ZBL, _partial_: true, units: metal, ...}
            - {_target_: les_nequip.LES, _partial_: true}

    Args:
        potentials: callables, or mappings with ``_target_``, that build the modules.
        type_names: names of the model's atom types (upstream passes them).
        irreps_in: representations of the fields of the modules before this one (upstream passes
            them).

    Raises:
        ValueError: if there are none, or one is a module that is built already.
    """

    def __init__(
        self,
        potentials: Sequence[Any],
        type_names: Sequence[str],
        irreps_in: dict[str, Any] | None = None,
    ) -> None:
        if not potentials:
            raise ValueError("`potentials` must list at least one, got none")
        modules = []
        for potential in potentials:
            arguments = {"type_names": list(type_names), "irreps_in": irreps_in}
            if isinstance(potential, torch.nn.Module):
                raise ValueError(
                    f"`potentials` are built by the chain, got a {type(potential).__name__} that "
                    "is built already; give `_partial_: true` in its section"
                )
            if isinstance(potential, Mapping):
                module = instantiate(dict(potential), _partial_=False, **arguments)
            else:
                module = potential(**arguments)
            irreps_in = module.irreps_out
            modules.append(module)
        super().__init__(modules)
