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


@functools.lru_cache(maxsize=1)
def _pool(process: int, n_threads: int) -> ThreadPoolExecutor:
    """Threads do not survive a fork: each process has its own."""
    return ThreadPoolExecutor(n_threads, thread_name_prefix="les")
