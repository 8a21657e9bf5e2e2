r"""The sum of the charges of a structure, which a model may be made to keep.

A readout gives each atom a charge of its own, :math:`q_i`, and nothing makes them sum to the
total charge Q of the structure. With ``neutrality = "shift"`` what is missing is spread evenly
over its N atoms,

.. math:: q_i - \frac{1}{N} \sum_j q_j + \frac{Q}{N \sqrt{\epsilon_\infty}},

before the energy, so that energy, forces, dipoles and Born effective charges are those of charges
with the right sum. It also changes what training does first: without it the charges of all atoms
grow together, since one number for all of them lowers the loss soonest, and the energy of that
total charge then makes training shrink all charges.

A structure may tell its fragments, such as the molecules of a liquid (``les.fragments``). Then each
fragment keeps its own total charge in this way, and not only their sum.

The energy of a crystal per cell does not depend on the supercell that is taken for it: the mean
over the supercell is that over the cell.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from les.fragments import charges_of_fragments, fragments_of
from les.response.dipoles import structure_mean
from les.structures import ChargeSums
from les.sums.checks import check_finite, check_tensors, is_compiling
from les.sums.reciprocal.lattice import exactly

#: What is done about the sum of the charges: nothing, or an even shift to the total charge.
NEUTRALITIES = ("none", "shift")

#: That of new models, where nothing else is asked for.
DEFAULT_NEUTRALITY = "shift"

#: That of models which do not say: published ones, and those of releases up to 0.1.0.
UNSAID_NEUTRALITY = "none"


def shifted_charges(
    charges: Tensor,
    total_charge: Tensor | None,
    batch: Tensor,
    n_structures: int,
    epsilon_factor: float = 1.0,
) -> Tensor:
    """Charges shifted evenly so that those of each structure sum to its total charge.

    Fragments are structures here. Nothing looks at values, so that graphs can be captured of it.

    Args:
        charges: ``[n_atoms]`` or ``[n_atoms, n_channels]`` [e]; each channel is shifted alone.
        total_charge: ``[n_structures]`` [e]; zero without it.
        batch: structure of each atom ``[n_atoms]``.
        n_structures: number of structures.
        epsilon_factor: high-frequency dielectric constant. Charges times its square root sum to
            the total charge: it is they that dipoles are made of, and far apart two ions in a
            medium interact as their charges divided by it.

    Returns:
        Charges of the shape and precision of ``charges``.
    """
    q = exactly(charges)
    count = torch.ones_like(batch, dtype=q.dtype)
    count = q.new_zeros(n_structures).index_add(0, batch, count).clamp(min=1.0)
    q = q - structure_mean(q, batch, n_structures)
    if total_charge is not None:
        share = (total_charge.to(q.dtype) / (math.sqrt(epsilon_factor) * count))[batch]
        q = q + (share.unsqueeze(-1) if q.dim() == 2 else share)
    return q.to(charges.dtype)


def charges_with_sum(
    neutrality: str,
    charges: Tensor,
    total_charge: Tensor | None,
    batch: Tensor,
    n_structures: int,
    epsilon_factor: float,
) -> Tensor:
    """Charges with the sum that ``neutrality`` asks for; other arguments as above.

    Raises:
        ValueError, TypeError: as :func:`check_total_charge`, and for a ``total_charge`` that has
            no effect.
    """
    if neutrality == "none":
        if total_charge is not None:
            raise ValueError(
                "`total_charge` has no effect with `neutrality` 'none', it must be None"
            )
        return charges
    check_total_charge(total_charge, charges, n_structures)
    return shifted_charges(charges, total_charge, batch, n_structures, epsilon_factor)


def charges_with_sums(
    neutrality: str,
    charges: Tensor,
    sums: ChargeSums,
    batch: Tensor,
    n_structures: int,
    epsilon_factor: float,
) -> Tensor:
    """Charges of which also those of fragments have the sums that ``neutrality`` asks for.

    Args:
        neutrality, charges, batch, n_structures, epsilon_factor: as above.
        sums: what they sum to.

    Raises:
        ValueError, TypeError: as :func:`charges_with_sum`, and as ``les.fragments``; for fragments
            that have no effect, for charges of fragments with several channels, and for a
            ``total_charge`` that requires gradients beside fragments.
    """
    total_charge, fragment, fragment_charge = sums
    if fragment is None and fragment_charge is None:
        return charges_with_sum(
            neutrality, charges, total_charge, batch, n_structures, epsilon_factor
        )
    if neutrality == "none":
        raise ValueError(
            "`fragment` and `fragment_charge` have no effect with `neutrality` 'none', they must "
            "be None"
        )
    check_total_charge(total_charge, charges, n_structures)
    if total_charge is not None and total_charge.requires_grad:
        raise ValueError(
            "`total_charge` must not require gradients beside `fragment`: there are no derivatives "
            "with respect to it, which is the sum of the charges of fragments"
        )
    fragments = fragments_of(fragment, batch, n_structures)
    of_fragments = charges_of_fragments(
        fragments, fragment_charge, total_charge, batch, n_structures
    )
    several = charges.dim() == 2 and charges.shape[1] > 1
    if several and fragment_charge is not None and bool((fragment_charge != 0).any()):
        raise ValueError(
            f"`fragment_charge` must be 0 for {charges.shape[1]} channels of charges, got "
            f"{float(fragment_charge[fragment_charge != 0][0]):g}: nothing says how it is divided "
            "among them"
        )
    return shifted_charges(charges, of_fragments, *fragments, epsilon_factor)


def check_total_charge(
    total_charge: Tensor | None, charges: Tensor, n_structures: int, values: bool = True
) -> None:
    """Refuse total charges that do not belong to ``n_structures`` structures with ``charges``.

    Graphs that are being captured have no values, and with ``values`` false nobody looks at them,
    which takes a transfer from the device; there only kinds and shapes are checked.

    Raises:
        TypeError: for what is not a tensor of real numbers.
        ValueError: for another shape, values that are not finite, and total charges other than 0
            of several channels, among which nothing says how they are divided.
    """
    if total_charge is None:
        return
    if not torch.jit.is_scripting():
        check_tensors(total_charge=total_charge)
    if total_charge.dtype == torch.bool or total_charge.is_complex():
        raise TypeError(f"`total_charge` must hold real numbers, got {total_charge.dtype}")
    if total_charge.dim() != 1 or total_charge.shape[0] != n_structures:
        raise ValueError(
            f"`total_charge` must have shape [n_structures] = [{n_structures}], got "
            f"{list(total_charge.shape)}"
        )
    if total_charge.device != charges.device:
        raise ValueError(
            f"`total_charge` must be on the device of the charges ({charges.device}), got "
            f"{total_charge.device}"
        )
    if not values or is_compiling():
        return
    check_finite("total_charge", total_charge)
    several = charges.dim() == 2 and charges.shape[1] > 1
    if several and bool((total_charge != 0).any()):
        other = float(total_charge[total_charge != 0][0])
        raise ValueError(
            f"`total_charge` must be 0 for {charges.shape[1]} channels of charges, got {other}: "
            "nothing says how it is divided among them"
        )
