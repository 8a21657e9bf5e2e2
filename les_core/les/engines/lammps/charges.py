"""What LAMMPS is told of charges: themselves, dipole, Born effective charges, and the current."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from les.engines.born import born_charges, born_shares
from les.engines.cluster import find_graph
from les.engines.lammps.atoms import Box, Seen, by_tag, largest_tag
from les.engines.potential import DividedPotential, Whole
from les.response.gauge import ChargeSign

#: Fix of LAMMPS that charges are kept in, and their name in dumps.
CHARGE_FIX, CHARGE_NAME = "les_charge", "d_les_charge"

#: The same of Born effective charges, and the compute of the current that follows [e A/ps].
BORN_FIX, BORN_NAME, CURRENT = "les_born", "d2_les_born", "les_current"

#: Components of the vector of the fix: the dipole [e A], and the long-range energy [eV].
VECTOR_LENGTH = 4


class Charges:
    """Charges of a model in LAMMPS, and what follows from them.

    Args:
        lmp: a ``lammps.lammps``.
        potential: the model and what adds up over the ranks.
        numbers: atomic numbers of LAMMPS's atom types, which begin with 1 ``[n_types + 1]``.
        fix: name of the ``fix external`` whose vector has dipole and long-range energy.
        sign: that of the charges.
        born_every: at which multiples of steps, beside the first step, there are Born effective
            charges; 0 for none.

    Attributes:
        dipole: of the last step ``[3]`` [e A], of unwrapped positions; one branch of a multivalued
            quantity. ``None`` for a model with several charges on each atom.

    Raises:
        ValueError: for Born effective charges of such a model.
    """

    def __init__(
        self,
        lmp: Any,
        potential: DividedPotential,
        numbers: NDArray[np.int64],
        fix: str,
        sign: ChargeSign,
        born_every: int,
    ) -> None:
        self.lmp, self.potential, self.numbers, self.fix = lmp, potential, numbers, fix
        self.sign, self.born_every, self.has_born = sign, born_every, False
        self.dipole: Tensor | None = None
        n_channels = potential.model.config.n_channels
        self.single = n_channels == 1
        if born_every and not self.single:
            raise ValueError(
                f"`born_every` is for one charge on each atom, the model has {n_channels}"
            )

    def start(self) -> None:
        """Make the fixes and computes that have them."""
        lmp = self.lmp
        if self.single and not lmp.has_id("fix", CHARGE_FIX):
            lmp.command(f"fix {CHARGE_FIX} all property/atom {CHARGE_NAME}")
        if self.born_every and not lmp.has_id("fix", BORN_FIX):
            lmp.command(f"fix {BORN_FIX} all property/atom {BORN_NAME} 9")
            for row, axis in enumerate("xyz"):
                terms = (f"{BORN_NAME}[{3 * row + i}]*v{x}" for i, x in enumerate("xyz", start=1))
                lmp.command(f"variable les_j{axis} atom {'+'.join(terms)}")
            lmp.command(f"compute {CURRENT} all reduce sum v_les_jx v_les_jy v_les_jz")
        lmp.fix_external_set_vector_length(self.fix, VECTOR_LENGTH)

    def tell(self, seen: Seen, box: Box, whole: Whole) -> None:
        """Give LAMMPS charges, dipole and long-range energy; all ranks must call it."""
        lmp, n_own = self.lmp, seen.n_own
        values = [0.0, 0.0, 0.0]
        if self.single:
            charges = whole.charges.cpu() * self._sign_of(seen, whole)
            if n_own:
                lmp.numpy.extract_atom(CHARGE_NAME, nelem=n_own)[:n_own] = charges.numpy()
            if self.potential.model.config.moments_without_mean:
                charges = charges - (self.sign.sign or 1) * whole.mean_charge.cpu()
            moment = charges @ seen.unwrapped(box.cell)
            self.dipole = self.potential.reduction.sum(moment)
            values = self.dipole.tolist()
        for place, value in enumerate([*values, whole.les_energy], start=1):
            lmp.fix_external_set_vector(self.fix, place, value)

    def born_due(self, step: int) -> bool:
        """Whether there are Born effective charges at this step: the first one, and multiples."""
        return self.born_every > 0 and (not self.has_born or step % self.born_every == 0)

    def born_shares(self, seen: Seen) -> tuple[Tensor, Tensor]:
        """What own charges add to Born effective charges; no other rank is asked.

        Returns:
            The two of :func:`les.engines.born.born_shares`, for all atoms seen.
        """
        model, n_seen = self.potential.model, len(seen.tags)
        each = np.arange(n_seen)  # each image by itself
        graph = find_graph(seen.positions, each, seen.n_own, model.cutoff, model.n_layers)
        cluster = graph.cluster(
            self.numbers[seen.types], seen.positions, seen.n_own, self.potential.total_charge
        )
        nodes = torch.from_numpy(graph.nodes)
        shares, plain = (values.cpu() for values in born_shares(self.potential, cluster))
        return (
            shares.new_zeros([n_seen, 3, 3]).index_copy(0, nodes, shares),
            plain.new_zeros([n_seen, 3]).index_copy(0, nodes, plain),
        )

    def tell_born(self, seen: Seen, box: Box, whole: Whole, shares: Tensor, plain: Tensor) -> None:
        """Give LAMMPS Born effective charges, after :meth:`tell`; all ranks must call it.

        Args:
            seen: the atoms that this rank sees.
            box: the box.
            whole: results of the step.
            shares: what :meth:`born_shares` returns, and ``plain``.
        """
        reduction, n_own = self.potential.reduction, seen.n_own
        largest = largest_tag(seen.tags, reduction.rank, reduction.size, reduction)
        tags = torch.from_numpy(seen.tags)
        shares, plain = (
            by_tag(values, tags, largest, reduction)[tags[:n_own]] for values in (shares, plain)
        )
        whole = whole._replace(charges=whole.charges.cpu(), mean_charge=whole.mean_charge.cpu())
        places = torch.from_numpy(seen.positions[:n_own])
        found = born_charges(self.potential, shares, plain, places, whole, box.cell, box.pbc)
        self.has_born = True
        if n_own:
            tensors = self.lmp.numpy.extract_atom(BORN_NAME, nelem=n_own, dim=9)
            tensors[:n_own] = (self.sign.sign or 1) * found.reshape(-1, 9).numpy()

    def _sign_of(self, seen: Seen, whole: Whole) -> int:
        """The sign of all charges, which the first step decides; all ranks must call it."""
        if self.sign.sign is None:
            reduction, own = self.potential.reduction, seen.tags[: seen.n_own]
            largest = largest_tag(own, reduction.rank, reduction.size, reduction)
            numbers = torch.from_numpy(self.numbers[seen.types[: seen.n_own]])
            pairs = torch.stack([whole.charges.cpu(), numbers.double()], dim=1)
            all_atoms = by_tag(pairs, torch.from_numpy(own), largest, reduction)
            present = all_atoms[all_atoms[:, 1] > 0]
            return self.sign(present[:, 0], present[:, 1].long())
        return self.sign.sign
