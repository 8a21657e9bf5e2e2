"""The scalar features that charges are read from: NequIP's of atoms, or Allegro's of edges."""

from __future__ import annotations

import math
from typing import Any, Final

from nequip.data import AtomicDataDict
from nequip.nn.utils import scatter
from torch import Tensor

#: Typical number of neighbours, to scale the sum of Allegro's edge features.
NEIGHBOURS: Final[float] = 20.0


def scalar_features(irreps_in: dict[str, Any]) -> tuple[str, int]:
    """Key and number of the scalar features to read charges from.

    Args:
        irreps_in: what the modules before LES provide.

    Raises:
        ValueError: for a model without such features, or with others among them.
    """
    for key in (AtomicDataDict.NODE_FEATURES_KEY, AtomicDataDict.EDGE_FEATURES_KEY):
        irreps = irreps_in.get(key)
        if irreps is not None:
            if any(irrep != (0, 1) for _, irrep in irreps):
                raise ValueError(f"LES reads charges from scalars, `{key}` here are {irreps}")
            return key, irreps.dim
    raise ValueError(
        "LES needs a model with node features (NequIP) or edge features (Allegro) before its "
        f"`pair_potential`, this one has only {sorted(irreps_in)}"
    )


def atom_features(data: AtomicDataDict.Type, key: str) -> Tensor:
    """Scalar features of each atom ``[n_atoms, n_features]``.

    Args:
        data: the input of LES.
        key: that of its scalar features.
    """
    features = data[key]
    if key == AtomicDataDict.NODE_FEATURES_KEY:
        return features
    # Summed before the readout: edge features vanish at the cutoff, biases do not.
    centres = data[AtomicDataDict.EDGE_INDEX_KEY][0]
    n_atoms = data[AtomicDataDict.POSITIONS_KEY].shape[0]
    return scatter(features, centres, dim=0, dim_size=n_atoms) / math.sqrt(NEIGHBOURS)
