r"""Energy, forces and virial of a structure whose atoms are divided among ranks.

The energy of a rank is that of its own atoms, plus the pull of the charges: with the potential
:math:`\phi` of the whole structure, kept constant, :math:`\sum_i q_i\phi_i` over own atoms has the
derivatives that the long-range energy has by way of the charges. Its gradient with respect to all
atoms of the cluster is found by autograd on each rank alone. What other ranks' atoms get of it has
to be sent to them, which is left to the program.
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import torch
from torch import Tensor

from les.engines.cluster import Cluster, ShortRange
from les.ewald import Ewald
from les.long_range import scaled
from les.sums.divided import check_divisible, divided_sum
from les.sums.reduction import Reduction

#: Fields of a configuration that are heeded here; others must have their defaults.
HEEDED = {
    *("sigma", "dl", "method", "cutoff", "accuracy", "spacing", "order"),
    *("remove_self_interaction", "norm_factor", "remove_mean", "neutrality", "epsilon_factor"),
    # Those of the readout are the model's own affair, and the sign is that of the results.
    *("sign", "use_atomwise", "n_features", "n_channels", "n_layers", "n_hidden"),
    *("add_linear_nn", "element_charges", "initial_charge_scale", "output_scaling_factor"),
}


class Own(NamedTuple):
    """What a rank finds by itself."""

    cluster: Cluster
    #: Positions ``[n_nodes, 3]`` [A] and a strain ``[3, 3]``, which the other two depend on.
    leaves: tuple[Tensor, Tensor]
    #: Short-range energy of the own atoms [eV].
    energy: Tensor
    #: Their charges as they are read ``[n_own]`` or ``[n_own, n_channels]`` [e].
    charges: Tensor


class Whole(NamedTuple):
    """Results for the structure, and for the atoms of a rank."""

    #: Energy, and its long-range part [eV].
    energy: float
    les_energy: float
    #: Derivatives of the energy that this rank knows of ``[n_nodes, 3]`` [eV/A]; those of an atom
    #: are to be added up over the ranks.
    gradient: Tensor
    #: Minus the derivative of the energy with respect to strain ``[3, 3]`` [eV].
    virial: Tensor
    #: Charges of the own atoms, times the square root of ``epsilon_factor``, in the shape of the
    #: charges that were read [e].
    charges: Tensor
    #: Mean charge of the structure, one number for each channel [e].
    mean_charge: Tensor


class DividedPotential:
    """A model with LES, evaluated by several ranks together.

    Args:
        model: its short-range part, the same on all ranks.
        reduction: what adds up over the ranks.
        total_charge: of the structure [e].

    Raises:
        ValueError: for a ``total_charge`` of a model that has no use for it, or that is not finite,
            and for a model whose charges come about in another way than is evaluated here.
    """

    def __init__(self, model: ShortRange, reduction: Reduction, total_charge: float = 0.0) -> None:
        self.model, self.reduction, self.total_charge = model, reduction, float(total_charge)
        self.settings = Ewald(**model.config.sum_settings()).settings()
        for field in dataclasses.fields(model.config):
            value = getattr(model.config, field.name)
            if field.name not in HEEDED and value != field.default:
                raise ValueError(
                    f"atoms of a model with `{field.name}` = {value!r} cannot be divided among "
                    "ranks yet"
                )
        if not math.isfinite(self.total_charge):
            raise ValueError(f"`total_charge` must be a finite number, got {total_charge}")
        if self.total_charge != 0.0 and not model.config.uses_total_charge:
            raise ValueError(
                f"`total_charge` has no effect on this model, which has `neutrality` "
                f"{model.config.neutrality!r}: it must be 0, got {total_charge:g}"
            )
        if self.total_charge != 0.0 and model.config.n_channels > 1:
            raise ValueError(
                f"`total_charge` must be 0 for {model.config.n_channels} channels of charges, "
                f"got {total_charge:g}"
            )

    @property
    def reach(self) -> float:
        """How far from its own atoms a rank has to see others [A]."""
        return self.model.cutoff * self.model.n_layers

    def check(self, pbc: Tensor) -> None:
        """Raise ``ValueError`` for periodic axes ``[3]`` that there is no sum for."""
        check_divisible(pbc)

    def of_rank(self, cluster: Cluster) -> Own:
        """What a rank finds by itself, of a cluster in float64; no other rank is asked.

        Raises:
            ValueError: for results that are not finite.
        """
        device, dtype, n_channels = (
            self.model.device,
            self.model.dtype,
            self.model.config.n_channels,
        )
        positions = cluster.positions.detach().to(device, dtype).requires_grad_()
        strain = torch.zeros([3, 3], device=device, dtype=dtype).requires_grad_()
        if cluster.n_own == 0:
            nothing = torch.zeros([0] if n_channels == 1 else [0, n_channels], device=device)
            return Own(cluster, (positions, strain), nothing.sum().to(dtype), nothing.to(dtype))
        shifts = cluster.shifts.to(device, dtype)
        strained = cluster._replace(
            numbers=cluster.numbers.to(device),
            positions=positions + positions @ strain,
            sender=cluster.sender.to(device),
            receiver=cluster.receiver.to(device),
            shifts=shifts + shifts @ strain,
        )
        with torch.enable_grad():
            energies, charges = self.model(strained)
        energy, charges = energies[: cluster.n_own].sum(), charges[: cluster.n_own]
        if n_channels == 1:
            charges = charges.reshape(-1)
        for name, value in (("energies", energy), ("charges", charges)):
            if not bool(torch.isfinite(value).all()):
                raise ValueError(f"the model gives NaN or infinite values for the {name}")
        return Own(cluster, (positions, strain), energy, charges)

    def of_all(self, own: Own, cell: Tensor, pbc: Tensor) -> Whole:
        """The whole structure; all ranks must call it together.

        Args:
            own: what this rank has found.
            cell: ``[3, 3]`` [A], float64.
            pbc: ``[3]``, boolean.
        """
        n_own, config, reduction = own.cluster.n_own, self.model.config, self.reduction
        device = self.model.device
        read = own.charges.detach().double()
        several = read.dim() == 2
        counted = torch.cat([read.new_tensor([n_own]), read.sum(dim=0).flatten()])
        counted = reduction.sum(counted)
        n_atoms, mean = counted[0].clamp(min=1.0), counted[1:] / counted[0].clamp(min=1.0)
        charges = read
        if config.uses_total_charge:
            share = self.total_charge / (n_atoms * math.sqrt(config.epsilon_factor))
            charges = read - (mean if several else mean[0]) + share
            mean = torch.zeros_like(mean) + share
        places = own.cluster.positions[:n_own].to(device).double()
        cell = cell.to(device)
        found = divided_sum(self.settings, charges, places, cell, pbc.to(device), reduction)
        pull = found.potential
        if config.uses_total_charge:
            # What is taken off all charges follows each of them.
            all_pulls = reduction.sum(pull.sum(dim=0).flatten())
            pull = pull - (all_pulls if several else all_pulls[0]) / n_atoms
        gradient, of_strain = (torch.zeros_like(leaf) for leaf in own.leaves)
        if n_own > 0:
            target = own.energy + (own.charges * pull.to(own.charges.dtype)).sum()
            gradient, of_strain = torch.autograd.grad(target, own.leaves)
        gradient = gradient.double()
        gradient[:n_own] += found.of_positions
        moved = of_strain.double() + places.t() @ found.of_positions
        shared = torch.cat([own.energy.detach().double().view(1), moved.flatten()])
        shared = reduction.sum(shared)
        of_strain = shared[1:].view(3, 3) + cell.t() @ found.of_cell
        les_energy = float(found.energy)
        return Whole(
            float(shared[0]) + les_energy,
            les_energy,
            gradient,
            -0.5 * (of_strain + of_strain.t()),
            scaled(charges, config.epsilon_factor),
            scaled(mean, config.epsilon_factor),
        )
