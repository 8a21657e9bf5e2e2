"""Kernels in several threads, and in processes that fork."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
import torch

from les import Ewald
from les.sums.cpu.threads import in_parallel

pytestmark = pytest.mark.cpu_only("compiled kernels")


def test_errors_of_threads(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)

    def fail(first, last):
        if first > 0:
            raise RuntimeError("in a thread")

    with pytest.raises(RuntimeError, match="in a thread"):
        in_parallel(fail, 4, work=2**40)


def test_threads_with_little_stack(compiled):
    """Long cells have many waves."""
    charges, positions = torch.ones(3).double(), torch.rand(3, 3).double()
    cell = torch.diag(torch.tensor([4.0, 4.0, 5e4])).double().unsqueeze(0)
    results = []

    def evaluate():
        r = positions.clone().requires_grad_()
        energy, _ = Ewald(method="direct")(charges, r, cell)
        results.append(torch.autograd.grad(energy.sum(), r)[0])

    usual = threading.stack_size(512 * 1024)
    try:
        thread = threading.Thread(target=evaluate)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(usual)
    assert torch.isfinite(results[0]).all()


def test_forked_processes():
    """Threads do not survive a fork."""
    code = """
import os, torch
from les.sums.cpu import threads
threads.WORK_OF_A_THREAD, torch.get_num_threads = 1, lambda: 2
done = []
threads.in_parallel(lambda first, last: done.append(first), 2, work=10)
child = os.fork()
threads.in_parallel(lambda first, last: done.append(first), 2, work=10)
assert len(done) == 4
if child:
    assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=60)
