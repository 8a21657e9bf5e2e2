r"""Born effective charges, the derivatives of the polarisation by the positions of atoms.

.. math:: Z^*_{i\alpha\beta} = \sqrt{\epsilon_\infty}\,\partial P_\alpha/\partial r_{i\beta}

For latent charges they were introduced by P. Zhong, D. Kim, D. S. King, B. Cheng, "Machine learning
interatomic potential can infer electrical response", arXiv:2504.05169.
"""

from __future__ import annotations

import torch
from torch import Tensor

from les.config import LESConfig
from les.equilibration import refuse_periodic_response
from les.fragments import UNTOLD, fragments_of
from les.induced import refuse_periodic_response_of_charges
from les.neutrality import charges_with_sums
from les.response.arguments import (
    BornSettings,
    check_gradients,
    check_settings,
    response_arguments,
)
from les.response.fragments import fragment_evaluation
from les.response.moments import Edges, moment_evaluation
from les.response.phase import phase_evaluation
from les.structures import ChargeSums, Structures
from les.sums.checks import has_volume

#: Ways to evaluate Born effective charges.
METHODS = ("exact", "phase")

#: Name of Born effective charges among the results of calculators, ``[n_atoms, 9]`` [e].
BORN_CHARGES = "born_effective_charges"


def born_effective_charges(
    charges: Tensor,
    positions: Tensor,
    cell: Tensor | None = None,
    batch: Tensor | None = None,
    pbc: Tensor | None = None,
    remove_mean: bool = True,
    epsilon_factor: float = 1.0,
    create_graph: bool = False,
    method: str = "exact",
    edges: Edges | None = None,
    total_charge: Tensor | None = None,
    fragment: Tensor | None = None,
) -> Tensor:
    r"""Born effective charges of latent charges.

    Args:
        charges: latent charges ``[n_atoms]`` or ``[n_atoms, 1]`` [e], computed from
            ``positions`` by differentiable operations. For a model with ``neutrality``
            ``"shift"`` pass ``raw_charges``, from before the shift. ``remove_mean`` takes care
            of the shift: in an infinite crystal, unlike in its cell, the mean of all charges
            does not depend on a single atom.
        positions: ``[n_atoms, 3]`` [A]; without ``edges`` they must require gradients.
        cell: ``[n_structures, 3, 3]`` [A]; without it all structures are open.
        batch: structure of each atom ``[n_atoms]``; may be left out for one structure.
        pbc: ``[n_structures, 3]``, boolean; without it the volume of the cell decides.
        remove_mean: subtract the mean charge of each structure first.
        epsilon_factor: high-frequency dielectric constant.
        create_graph: keep the result differentiable, to train on it.
        method: ``"exact"``, the derivative in the infinite crystal (``les.response.moments``), or
            ``"phase"``, the published approximation for large cells (``les.response.phase``). Both
            are the derivative of :func:`les.dipole_moments` along open directions.
        edges: the graph along which the charges depend on positions. ``"exact"`` needs it for
            periodic structures; ``"phase"`` does not use it.
        total_charge: sum of the charges of each structure, times the square root of
            ``epsilon_factor``, ``[n_structures]`` [e]. The Born effective charges of a molecule
            sum to it, too. It needs ``remove_mean``.
        fragment: label of the fragment of each atom ``[n_atoms]``. The charges have to sum to a
            constant in each fragment, and are used as they are. Then both methods give the same
            exact result, and ``method``, ``edges`` and ``total_charge`` have no effect
            (``les.response.fragments``).

    Returns:
        ``[n_atoms, 3, 3]`` [e]; the first index is the component of P, the second that of the
        displacement.

    Raises:
        ValueError, TypeError: as ``les.Ewald``, but not within ``torch.compile``; for several
            charge channels, an unknown method, an ``epsilon_factor`` that is not positive, a
            periodic structure without ``edges``, ``edges`` that are not used, positions or
            edges that do not require gradients or have wrong shapes, charges that do not keep the
            sums of the fragments, and a ``total_charge`` that
            is not one finite number for each structure or comes without ``remove_mean``; and as
            ``les.fragments`` for a ``fragment``, or one without end.
    """
    if method not in METHODS:
        raise ValueError(f"`method` must be one of {', '.join(METHODS)}, got {method!r}")
    if method == "phase" and edges is not None:
        raise ValueError("`edges` have no effect with `method='phase'`")
    settings = BornSettings(remove_mean, epsilon_factor, create_graph)
    q, structures = response_arguments(charges, positions, cell, batch, pbc)
    check_settings(settings, total_charge, q, len(structures.cell))
    if fragment is not None:
        if edges is not None:
            raise ValueError("`edges` have no effect with `fragment`")
        if method != "exact":
            raise ValueError(f"`method` has no effect with `fragment`, got {method!r}")
        if total_charge is not None:
            raise ValueError("`total_charge` has no effect with `fragment`")
        check_gradients(positions)
        fragments = fragments_of(fragment, structures.batch, len(structures.cell))
        return fragment_evaluation(q, structures, fragments, epsilon_factor, create_graph)
    if edges is not None:
        edges.check(len(positions))
        return moment_evaluation(q, structures, edges, settings, total_charge)
    assert structures.pbc is not None
    if method == "exact" and bool(structures.pbc.any()):
        raise ValueError(
            "exact Born effective charges of a periodic structure need `edges`, the graph that "
            "the charges come from; `method='phase'` is the published approximation without"
        )
    check_gradients(positions)
    return phase_evaluation(q, structures, settings, total_charge)


def needs_edges(config: LESConfig, method: str, structures: Structures, sums: ChargeSums) -> bool:
    """Whether Born effective charges of a model take the graph that its charges come from.

    Charges that respond to each other, equilibrated or induced ones, depend on all positions, and
    not along edges. Those of fragments, which keep their sums, are exact without a graph.

    Args:
        config: that of the model.
        method: one of :data:`METHODS`.
        structures: where the atoms are.
        sums: what charges sum to.

    Raises:
        ValueError: for periodic structures with ``charge_equilibration``, unless they have
            fragments, and for exact ones of periodic structures with ``use_induced_charge``.
    """
    if config.charge_equilibration:
        refuse_periodic_response(structures.cell, structures.pbc, sums.fragment)
    elif config.use_induced_charge and method == "exact":
        assert structures.pbc is not None
        refuse_periodic_response_of_charges(structures.pbc)
    responds = config.charge_equilibration or config.use_induced_charge
    return method == "exact" and not responds and sums.fragment is None


def born_charges_of_model(
    charges: Tensor,
    structures: Structures,
    sums: ChargeSums,
    settings: BornSettings,
    method: str = "exact",
    edges: Edges | None = None,
) -> Tensor:
    """Born effective charges of the charges that a model has read, or equilibrated.

    Args:
        charges, method, edges: as for :func:`born_effective_charges`, which has the results, too.
        structures: where the atoms are.
        sums: what charges sum to. Where they have fragments, which keep their sums, both methods
            are one, and neither means nor edges have an effect.
        settings: how they follow from latent charges.

    Raises:
        ValueError, TypeError: as :func:`born_effective_charges`, and for a periodic structure
            without fragments (``les.fragments.UNTOLD``) beside others that have some.
    """
    if sums.fragment is None:
        total_charge = sums.total_charge
        return born_effective_charges(
            charges, *structures, *settings, method=method, edges=edges, total_charge=total_charge
        )
    _require_told(structures, sums.fragment)
    # Those that were equilibrated have these sums already, and stay as they are.
    owner, n_structures = structures.batch, len(structures.cell)
    charges = charges_with_sums(
        "shift", charges, sums, owner, n_structures, settings.epsilon_factor
    )
    return born_effective_charges(
        charges,
        *structures,
        epsilon_factor=settings.epsilon_factor,
        create_graph=settings.create_graph,
        fragment=sums.fragment,
    )


def _require_told(structures: Structures, fragment: Tensor) -> None:
    """Raise ``ValueError`` where a periodic structure tells no fragments beside others that do."""
    _, cell, batch, pbc = structures
    periodic = has_volume(cell) if pbc is None else pbc.any(dim=1)
    tells = (fragment != UNTOLD).long()
    told = torch.zeros(len(cell), dtype=torch.long, device=cell.device).index_add(0, batch, tells)
    untold = periodic & (told == 0)
    if bool(untold.any()):
        structure = int(torch.nonzero(untold)[0])
        raise ValueError(
            f"structure {structure} of a batch is periodic and tells no fragments, and others do: "
            "Born effective charges take those of all periodic structures, or of none (`fragment`)"
        )
