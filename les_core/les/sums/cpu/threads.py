"""Parts of a loop in several threads: the kernels release the interpreter's lock."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

import torch

#: Less work than this, in terms of a sum (a fraction of a millisecond), is not worth a thread.
WORK_OF_A_THREAD = 2**19


def in_parallel(part: Callable[[int, int], None], n: int, work: int) -> None:
    """Call ``part(first, last)`` for ranges that together are 0 ... n, in torch's threads.

    Args:
        part: what to do; no two ranges overlap.
        n: length of the whole range.
        work: estimate of it, in operations.
    """
    n_parts = threads_for(n, work)
    if n_parts == 1:
        part(0, n)
        return
    ends = [n * i // n_parts for i in range(n_parts + 1)]
    pool, others = _pool(os.getpid(), torch.get_num_threads() - 1), []
    for first, last in itertools.pairwise(ends[1:]):
        try:
            others.append(pool.submit(part, first, last))
        except RuntimeError:  # the interpreter is about to end
            part(first, last)
    try:
        part(0, ends[1])
    finally:
        wait(others)
    for other in others:
        other.result()


def threads_for(n: int, work: int) -> int:
    """How many threads :func:`in_parallel` takes."""
    return max(1, min(torch.get_num_threads(), n, work // WORK_OF_A_THREAD))


def shares_of_atoms(n_structures: int, n_atoms: int, work: int) -> int:
    """In how many shares :func:`in_shares` takes the atoms: 1 if there are enough structures."""
    n = threads_for(n_atoms, work)
    return 1 if threads_for(n_structures, work) >= n else n


def in_shares(
    part: Callable[[slice, int], None], n_structures: int, n_shares: int, work: int
) -> None:
    """As :func:`in_parallel`, ``part(structures, share)`` for structures or shares of their atoms.

    Args:
        part: what to do.
        n_structures: there are.
        n_shares: what :func:`shares_of_atoms` returns.
        work: as there.
    """

    def some(first: int, last: int) -> None:
        if n_shares == 1:
            part(slice(first, last), 0)
        else:
            for share in range(first, last):
                part(slice(0, n_structures), share)

    in_parallel(some, n_structures if n_shares == 1 else n_shares, work)


@functools.lru_cache(maxsize=1)
def _pool(process: int, n_threads: int) -> ThreadPoolExecutor:
    """Threads do not survive a fork: each process has its own."""
    return ThreadPoolExecutor(n_threads, thread_name_prefix="les")
