"""A model with LES as the forces of LAMMPS, by ``fix external``.

LAMMPS divides the box among ranks, moves atoms from rank to rank, and integrates. At every step
each rank evaluates the model for its own atoms, and all of them add up the structure factors.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from les.engines.born import born_charges, born_shares
from les.engines.cluster import Cluster, find_graph
from les.engines.lammps.atoms import Box, Seen, by_tag, largest_tag
from les.engines.lammps.checks import check_neighbour_lists, check_settings, numbers_of_types
from les.engines.lammps.failures import (
    EngineError,
    Impatient,
    abort,
    raise_after_commands,
    shared_message,
    waiting,
)
from les.engines.potential import DividedPotential, Own, Whole
from les.ranges import check_number
from les.response.gauge import ChargeSign
from les.sums.reduction import MPIReduction, OneProcess, Reduction

#: Fix of LAMMPS that charges are kept in, and their name in dumps.
CHARGE_FIX, CHARGE_NAME = "les_charge", "d_les_charge"

#: The same of Born effective charges, and the compute of the current that follows [e A/ps].
BORN_FIX, BORN_NAME, CURRENT = "les_born", "d2_les_born", "les_current"

#: Components of the vector of the fix: the dipole [e A], and the long-range energy [eV].
VECTOR_LENGTH = 4

#: How long a rank waits for others [s].
PATIENCE = 3600.0


def couple(
    lmp: Any,
    model: Any,
    elements: Sequence[str],
    *,
    fix: str = "les",
    skin: float = 1.0,
    total_charge: float = 0.0,
    born_every: int = 0,
    patience: float = PATIENCE,
    stop: Callable[[str], None] | None = None,
    **options: Any,
) -> Coupling:
    """Let a model be the forces of LAMMPS; all ranks must call it.

    It makes the ``fix NAME all external pf/callback 1 1``, and sets ``comm_modify cutoff``,
    ``neighbor`` and ``neigh_modify``, so that ghosts reach as far as the model does, and
    ``fix_modify ... energy yes virial yes``. Set none of them afterwards.

    Args:
        lmp: a ``lammps.lammps`` with ``units metal`` and atoms.
        model: a model file, or a ``LESCalculator``, whose charges keep its ``sign``.
        elements: chemical symbols of LAMMPS's atom types, in their order.
        fix: name of that fix. Its vector has the dipole of the unwrapped positions [e A] and the
            long-range energy [eV], in thermo output ``f_NAME[1]`` to ``f_NAME[4]``. Charges are the
            property ``d_les_charge`` of atoms, in the order of dumps.
        skin: how far atoms move, two of them together, until neighbour lists are made anew [A].
        total_charge: of the structure [e].
        born_every: compute Born effective charges at each step whose number is a multiple of it;
            without it at none. They are the property ``d2_les_born`` of atoms [e], nine numbers
            with the component of the polarisation first, and the vector of the compute
            ``les_current`` is the current [e A/ps] that follows from them and the velocities. In
            between, both have charges of the last such step.
        patience: how long a rank waits for the others [s], until it takes one of them for lost and
            ends all by ``MPI_Abort``, with a message.
        stop: is called with the message on all ranks when a step has failed. Without it, the
            command of ``lmp`` that was being executed raises it, as an :class:`EngineError`.
        options: those of ``Backend.calculator``, for a model file, and ``backend``. A calculator
            with ``bec`` or ``eps_inf`` is refused, because neither has an effect here.

    Raises:
        EngineError: on all ranks, for all that keeps one of them from going on.
    """
    communicator = lmp.get_mpi_comm()
    if communicator is None:
        raise EngineError('LAMMPS on ranks needs mpi4py: pip install "les[lammps]"')
    made, error = None, None
    try:
        check_settings(lmp, fix)
        check_number("skin", skin)
        check_number("patience", patience)
        if isinstance(born_every, bool) or not isinstance(born_every, int) or born_every < 0:
            raise ValueError(f"`born_every` must be a number of steps, got {born_every!r}")
        calculator = _calculator(model, options)
        known = [int(number) for number in calculator.elements()]
        numbers = numbers_of_types(lmp, elements, known)
        size = communicator.Get_size()
        reduction: Reduction = OneProcess()
        if size > 1:
            reduction = Impatient(MPIReduction(communicator), communicator, patience)
        potential = DividedPotential(calculator.short_range_part(), reduction, total_charge)
        potential.check(Box.of(lmp).pbc)
        made = Coupling(
            *(lmp, communicator, potential, numbers, fix, calculator.charge_sign),
            born_every=born_every,
            patience=patience,
            stop=stop,
        )
    except Exception as exception:
        error = exception
    message = shared_message(error, communicator)
    if message is not None or made is None:
        raise EngineError(message) from error
    made.start(skin)
    return made


def _calculator(model: Any, options: dict[str, Any]) -> Any:
    if not isinstance(model, (str, Path)):
        if options:
            raise ValueError(f"{', '.join(options)} have no effect on a calculator")
        return _checked(model)
    from les.backends import backend_of, get_backend
    from les.backends.loading import load_calculator

    backend = get_backend(options.pop("backend", None) or backend_of(Path(model)))
    return _checked(load_calculator(backend, model, **options))


def _checked(calculator: Any) -> Any:
    instead = {
        "bec": (calculator.bec, "give `born_every`"),
        "eps_inf": (
            calculator.eps_inf is not None,
            "evaluate the trajectory with a calculator that has it",
        ),
    }
    for name, (given, what) in instead.items():
        if given:
            raise ValueError(f"`{name}` has no effect in LAMMPS: leave it out, and {what}")
    return calculator


class Coupling:
    """A potential as the callback of LAMMPS; see :func:`couple`.

    Attributes:
        potential: the model and what adds up over the ranks.
        failure: why LAMMPS was stopped, or ``None``.
        whole: results of the last step for the structure.
        dipole: of the last step ``[3]`` [e A], of unwrapped positions; one branch of a multivalued
            quantity. ``None`` for a model with several charges on each atom.
    """

    def __init__(
        self,
        lmp: Any,
        communicator: Any,
        potential: DividedPotential,
        numbers_of_types: Sequence[int],
        fix: str,
        sign: ChargeSign,
        *,
        born_every: int = 0,
        patience: float = PATIENCE,
        stop: Callable[[str], None] | None = None,
    ) -> None:
        self.lmp, self.communicator, self.potential, self.fix = lmp, communicator, potential, fix
        self.numbers = np.array([0, *numbers_of_types])
        self._node_tags = torch.zeros(0, dtype=torch.int64)
        self.sign, self.patience, self.stop = sign, patience, stop
        self.failure: EngineError | None = None
        self.whole: Whole | None = None
        self.dipole: Tensor | None = None
        self.single = potential.model.config.n_channels == 1
        self.born_every = born_every
        if born_every and not self.single:
            raise ValueError(
                "`born_every` is for one charge on each atom, the model has "
                f"{potential.model.config.n_channels}"
            )

    def start(self, skin: float) -> None:
        """Set what LAMMPS needs, and become its callback."""
        lmp, fix = self.lmp, self.fix
        lmp.commands_list(
            [
                f"fix {fix} all external pf/callback 1 1",
                f"neighbor {skin:.16g} bin",
                "neigh_modify every 1 delay 0 check yes",
                f"comm_modify cutoff {self.potential.reach + skin:.16g}",
                f"fix_modify {fix} energy yes virial yes",
            ]
        )
        if self.single and not lmp.has_id("fix", CHARGE_FIX):
            lmp.command(f"fix {CHARGE_FIX} all property/atom {CHARGE_NAME}")
        if self.born_every and not lmp.has_id("fix", BORN_FIX):
            lmp.command(f"fix {BORN_FIX} all property/atom {BORN_NAME} 9")
            for row, axis in enumerate("xyz"):
                terms = (f"{BORN_NAME}[{3 * row + i}]*v{x}" for i, x in enumerate("xyz", start=1))
                lmp.command(f"variable les_j{axis} atom {'+'.join(terms)}")
            lmp.command(f"compute {CURRENT} all reduce sum v_les_jx v_les_jy v_les_jz")
        lmp.fix_external_set_vector_length(fix, VECTOR_LENGTH)
        if self.stop is None:
            raise_after_commands(lmp, lambda: self.failure)
        lmp.set_fix_external_callback(fix, self)

    def __call__(
        self, _: Any, step: int, n_own: int, tags: Any, positions: Any, forces: NDArray[Any]
    ) -> None:
        """One step, as LAMMPS calls it."""
        if self.failure is not None:  # further runs of a script that goes on
            forces[:n_own] = math.nan
            return
        try:
            with self._failing_together(forces, n_own):
                seen = Seen.of(self.lmp, n_own)
                check_neighbour_lists(self.lmp)
                own = self.potential.of_rank(self._cluster(seen))
                due = bool(self.born_every) and step % self.born_every == 0
                born = self._born_shares(seen) if due else None
            if self.failure is None:
                self._together(seen, own, forces)
                if born is not None:
                    self._tell_born_charges(seen, *born)
        except BaseException:
            abort(self.communicator)  # others may be waiting for this rank

    @contextlib.contextmanager
    def _failing_together(self, forces: NDArray[Any], n_own: int) -> Iterator[None]:
        """What a rank does alone; if it fails on one, all are stopped."""
        error: Exception | None = None
        try:
            yield
        except Exception as exception:
            error = exception
        with waiting(self.communicator, self.patience):
            message = shared_message(error, self.communicator)
        if message is None:
            return
        self.failure = EngineError(message)
        self.failure.__cause__ = error
        if self.stop is not None:
            self.stop(message)
        forces[:n_own] = math.nan
        self.lmp.force_timeout()

    def _cluster(self, seen: Seen) -> Cluster:
        model = self.potential.model
        graph = find_graph(seen.positions, seen.tags, seen.n_own, model.cutoff, model.n_layers)
        self._node_tags = torch.from_numpy(seen.tags[graph.nodes])
        numbers = self.numbers[seen.types]
        return graph.cluster(numbers, seen.positions, seen.n_own, self.potential.total_charge)

    def _born_shares(self, seen: Seen) -> tuple[Tensor, Tensor]:
        """What own charges add to Born effective charges: two tensors of all atoms seen."""
        model, n_seen = self.potential.model, len(seen.tags)
        each = np.arange(n_seen)  # each image by itself
        graph = find_graph(seen.positions, each, seen.n_own, model.cutoff, model.n_layers)
        cluster = graph.cluster(
            self.numbers[seen.types], seen.positions, seen.n_own, self.potential.total_charge
        )
        nodes = torch.from_numpy(graph.nodes)
        shares, plain = born_shares(self.potential, cluster)
        return (
            shares.new_zeros([n_seen, 3, 3]).index_copy(0, nodes.to(shares.device), shares).cpu(),
            plain.new_zeros([n_seen, 3]).index_copy(0, nodes.to(plain.device), plain).cpu(),
        )

    def _tell_born_charges(self, seen: Seen, shares: Tensor, plain: Tensor) -> None:
        """Give LAMMPS the Born effective charges; all ranks must call it."""
        assert self.whole is not None and self.sign.sign is not None
        reduction, n_own, whole = self.potential.reduction, seen.n_own, self.whole
        largest = largest_tag(seen.tags, reduction.rank, reduction.size, reduction)
        tags, box = torch.from_numpy(seen.tags), Box.of(self.lmp)
        shares, plain = (
            by_tag(values, tags, largest, reduction)[tags[:n_own]] for values in (shares, plain)
        )
        whole = whole._replace(charges=whole.charges.cpu(), mean_charge=whole.mean_charge.cpu())
        places = torch.from_numpy(seen.positions[:n_own])
        found = born_charges(self.potential, shares, plain, places, whole, box.cell, box.pbc)
        if n_own:
            tensors = self.lmp.numpy.extract_atom(BORN_NAME, nelem=n_own, dim=9)
            tensors[:n_own] = self.sign.sign * found.reshape(-1, 9).numpy()

    def _together(self, seen: Seen, own: Own, forces: NDArray[Any]) -> None:
        """What ranks do together: all of them are here."""
        lmp, reduction, n_own = self.lmp, self.potential.reduction, seen.n_own
        box = Box.of(lmp)
        whole = self.potential.of_all(own, box.cell, box.pbc)
        self.whole = whole
        gradient = whole.gradient.cpu()
        if reduction.size > 1:
            # Derivatives with respect to ghosts go home.
            largest = largest_tag(seen.tags, reduction.rank, reduction.size, reduction)
            home = by_tag(gradient, self._node_tags, largest, reduction)
            gradient = home[torch.from_numpy(seen.tags[:n_own])]
        forces[:n_own] = -gradient[:n_own].numpy()
        lmp.fix_external_set_energy_global(self.fix, whole.energy)
        w = whole.virial.cpu().numpy()
        voigt = [w[0, 0], w[1, 1], w[2, 2], w[0, 1], w[0, 2], w[1, 2]]
        lmp.fix_external_set_virial_global(self.fix, voigt)
        self._tell_charges(seen, box, whole)

    def _tell_charges(self, seen: Seen, box: Box, whole: Whole) -> None:
        """Give LAMMPS charges, dipole and long-range energy."""
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
