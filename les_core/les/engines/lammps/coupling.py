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

from les.engines.cluster import Cluster, find_graph
from les.engines.lammps.atoms import Box, Seen, by_tag, largest_tag
from les.engines.lammps.charges import Charges
from les.engines.lammps.checks import check_neighbour_lists, check_settings, numbers_of_types
from les.engines.lammps.failures import (
    PATIENCE,
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
    """Let a model compute the forces in LAMMPS; all ranks must call this function.

    It makes the ``fix NAME all external pf/callback 1 1``. It sets ``comm_modify cutoff``,
    ``neighbor`` and ``neigh_modify``, so that ghosts cover the receptive field of the model, and
    ``fix_modify ... energy yes virial yes``. Set none of them afterwards.

    Args:
        lmp: a ``lammps.lammps`` with ``units metal`` and atoms.
        model: a model file, or a ``LESCalculator``, whose charges keep its ``sign``.
        elements: chemical symbols of LAMMPS's atom types, in their order.
        fix: name of that fix. Its vector has the dipole of the unwrapped positions [e A] and the
            long-range energy [eV], in thermo output ``f_NAME[1]`` to ``f_NAME[4]``. Charges are the
            property ``d_les_charge`` of atoms, in the order of dumps.
        skin: distance that two atoms together move until neighbour lists are computed again [A].
        total_charge: total charge of the structure [e].
        born_every: compute Born effective charges at the first step and at all multiples of this
            number; by default never. They are the property ``d2_les_born`` of atoms [e], nine
            numbers with the component of the polarisation first. The vector of the compute
            ``les_current`` is the current [e A/ps], computed from them and the velocities. In
            between, both use the Born effective charges of the last such step.
        patience: time that a rank waits for the others [s]. Then it considers one of them lost,
            and ends all ranks by ``MPI_Abort``, with a message.
        stop: function that is called with the message on all ranks when a step has failed. By
            default, the present command of ``lmp`` raises it, as an :class:`EngineError`.
        options: options of ``Backend.calculator`` for a model file, and ``backend``. A calculator
            with ``bec`` or ``eps_inf`` is refused, because neither has an effect here.

    Raises:
        EngineError: on all ranks, for any error on one of them.
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
        potential: the model, and the sum over ranks.
        failure: the reason why LAMMPS was stopped, or ``None``.
        whole: results of the last step for the structure.
        charges: charges as LAMMPS gets them, with the dipole of the last step.
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
        self.patience, self.stop = patience, stop
        self.failure: EngineError | None = None
        self.whole: Whole | None = None
        self.charges = Charges(lmp, potential, self.numbers, fix, sign, born_every)

    def start(self, skin: float) -> None:
        """Make the settings that LAMMPS needs, and become its callback."""
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
        self.charges.start()
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
                born = self.charges.born_shares(seen) if self.charges.born_due(step) else None
            if self.failure is None:
                self._together(seen, own, born, forces)
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

    def _together(
        self, seen: Seen, own: Own, born: tuple[Tensor, Tensor] | None, forces: NDArray[Any]
    ) -> None:
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
        self.charges.tell(seen, box, whole)
        if born is not None:
            self.charges.tell_born(seen, box, whole, *born)
