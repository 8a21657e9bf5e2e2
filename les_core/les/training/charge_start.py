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
from torch import Tensor, nn

from les.electronegativity import charges_of_electronegativity, has_electronegativity
from les.training.freezing import FrozenParameters, FrozenShortRange

if TYPE_CHECKING:
    from les.config import LESConfig
    from les.readout import ChargeReadout

#: Share of the epochs in which the charges of elements are held.
HELD = 0.15
#: Scale of what is read from features at the start: at random it may oppose those charges.
FEATURES = 0.01
#: Smallest difference of elements' charges [e] that makes a start.
DIFFERENCE = 0.1


def starts_from_elements(
    readout: ChargeReadout | None, config: LESConfig | None, structures: Iterable[Tensor]
) -> bool:
    """Whether a training from scratch starts charges from those of elements.

    It does not without learned charges of elements, with equilibrated charges or several on each
    atom, where nothing holds the sum of the charges, and where oxidation states are added to them;
    nor if an element has no accepted electronegativity, or if those of no structure's elements
    differ.

    Args:
        readout: of the model that is trained; ``None`` for one without charges.
        config: of its charges.
        structures: atomic numbers ``[n_atoms]`` of each structure of the training data.
    """
    if readout is None or config is None or readout.of_elements is None:
        return False
    changed = config.charge_equilibration or config.use_fixed_atomic_charges
    if changed or config.neutrality == "none" or config.n_channels > 1:
        return False
    compositions = {frozenset(numbers.tolist()) for numbers in structures}
    if not all(has_electronegativity(number) for each in compositions for number in each):
        return False
    ranges = [charges_of_electronegativity(sorted(each)) for each in compositions]
    return any(float(charges.max() - charges.min()) >= DIFFERENCE for charges in ranges)


def start_charges(readout: ChargeReadout, atomic_numbers: Sequence[int]) -> None:
    """Give elements their charges, and let little be read from features.

    Args:
        readout: of the model that is trained.
        atomic_numbers: of the readout's elements, in the order of their indices.
    """
    assert readout.of_elements is not None
    with torch.no_grad():
        charges = charges_of_electronegativity(atomic_numbers)
        readout.of_elements.charges.copy_(charges.unsqueeze(1))
    readout.scale_weights(FEATURES)


def held_charges(readout: ChargeReadout, n_epochs: int) -> FrozenParameters:
    """What holds these charges in the first of the ``n_epochs`` epochs of a training."""
    assert readout.of_elements is not None
    return FrozenParameters(readout.of_elements.parameters(), round(HELD * n_epochs))


def fixed_at_first(
    model: nn.Module,
    readout: ChargeReadout | None,
    charges: Iterable[nn.Parameter],
    n_epochs: int,
    *,
    short_range_epochs: int | None,
    starts: bool,
) -> FrozenParameters | None:
    """The part of a model that is fixed in the first epochs of a training, if there is one.

    Args:
        model: the model that is trained.
        readout: of its charges; ``None`` for a model without.
        charges: those of its parameters that charges alone depend on.
        n_epochs: of the whole training.
        short_range_epochs: number of epochs in which all but ``charges`` is fixed, if asked for.
        starts: whether charges start from those of elements, which are then held.
    """
    if readout is None:
        return None
    if short_range_epochs is not None:
        return FrozenShortRange(model, charges, short_range_epochs)
    return held_charges(readout, n_epochs) if starts else None
