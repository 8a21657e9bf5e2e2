"""A process of ``test_divided.py``: its share of structures, summed with ``torch.distributed``.

``python gloo_worker.py STORE CASES RANK SIZE RESULTS``; cases are what the test has written.
"""

import sys

import torch
from torch import distributed

from les import Ewald
from les.sums.divided import divided_sum
from les.sums.reduction import TorchReduction

store, cases, rank, size, results = sys.argv[1:]
distributed.init_process_group(
    "gloo", init_method=f"file://{store}", rank=int(rank), world_size=int(size)
)
found = []
for settings, charges, positions, cell, pbc, owner in torch.load(cases):
    own = owner % int(size) == int(rank)
    sums = Ewald(**settings).settings()
    result = divided_sum(sums, charges[own], positions[own], cell, pbc, TorchReduction())
    found.append((own, *result))
torch.save(found, results)
distributed.destroy_process_group()
