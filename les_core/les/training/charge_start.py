"""Where charges start in a training from scratch: at those of elements, by electronegativity.

The energy is quadratic in the charges, so charges near zero have hardly any gradient, and may stay
there for most of a training. Charges of elements in the order of electronegativities are of about
the right pattern and size from the first step, and have the right sign. They are held until the
short-range part has adapted to them; otherwise they shrink at once, because nothing fits them yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from les.electronegativity import charges_of_electronegativity
from les.training.freezing import FrozenParameters

if TYPE_CHECKING:
    from les.config import LESConfig
    from les.readout import ChargeReadout

#: Share of the epochs in which the charges of elements are held.
HELD = 0.15
#: Scale of what is read from features at the start: at random it may oppose those charges.
FEATURES = 0.01


def start_charges(
    readout: ChargeReadout | None, config: LESConfig | None, atomic_numbers: Sequence[int]
) -> None:
    """Give elements their charges, if the model has such.

    There are none without charges of elements, for equilibrated charges and several on each atom,
    where nothing holds the sum of the charges, and where oxidation states are added to them.

    Args:
        readout: of the model that is trained; ``None`` for one without charges.
        config: of its charges.
        atomic_numbers: of the readout's elements, in the order of their indices.
    """
    if not _applies(readout, config):
        return
    assert readout is not None and readout.of_elements is not None
    with torch.no_grad():
        charges = charges_of_electronegativity(atomic_numbers)
        readout.of_elements.charges.copy_(charges.unsqueeze(1))
    readout.scale_weights(FEATURES)


def held_charges(
    readout: ChargeReadout | None, config: LESConfig | None, n_epochs: int
) -> FrozenParameters:
    """What holds these charges in the first of ``n_epochs`` epochs.

    Args:
        readout, config: as for :func:`start_charges`.
        n_epochs: of the whole training.
    """
    held: Iterable[nn.Parameter] = ()
    if _applies(readout, config):
        assert readout is not None and readout.of_elements is not None
        held = readout.of_elements.parameters()
    return FrozenParameters(held, round(HELD * n_epochs))


def _applies(readout: ChargeReadout | None, config: LESConfig | None) -> bool:
    if readout is None or config is None or readout.of_elements is None:
        return False
    changed = config.charge_equilibration or config.use_fixed_atomic_charges
    return config.neutrality != "none" and config.n_channels == 1 and not changed
