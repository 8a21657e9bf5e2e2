"""Sums over atoms that are divided among ranks: as the ordinary sum of all of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from les import Ewald
from les.sums.divided import divided_sum
from les.sums.reduction import OneProcess
from les.testing.ranks import on_ranks

TRICLINIC = [[9.3, 0.4, -0.7], [2.1, 8.2, 0.3], [-1.4, 1.9, 10.1]]
CELLS = {
    "cubic": [[9.1, 0.0, 0.0], [0.0, 9.1, 0.0], [0.0, 0.0, 9.1]],
    "triclinic": TRICLINIC,
    "left-handed": [TRICLINIC[1], TRICLINIC[0], TRICLINIC[2]],
}
N_ATOMS = 14


@pytest.fixture
def make_case(device):
    """Makes arguments of the sum, and a rank of each atom."""

    def make(kind="triclinic", pbc=(True, True, True), n_channels=None, **settings):
        generator = torch.Generator().manual_seed(3)
        cell = torch.tensor(CELLS[kind], dtype=torch.float64)
        random = torch.rand(N_ATOMS, 4, dtype=torch.float64, generator=generator, device="cpu")
        random = random.to(cell.device)
        places = random[:, :3]
        if not all(pbc):
            places = places * torch.tensor([1.0 if axis else 0.4 for axis in pbc])
        shape = [N_ATOMS] if n_channels is None else [N_ATOMS, n_channels]
        charges = torch.sin(40.0 * (random[:, 3:] + torch.arange(n_channels or 1)))
        owner = torch.arange(N_ATOMS) * 7 % 6
        # Atoms need not be in the cell.
        positions = places @ cell + 30.0 * cell[0]
        return settings, charges.reshape(shape), positions, cell, torch.tensor(pbc), owner

    return make


def of_all(case):
    """Energy and first derivatives by the ordinary sum, differentiated by autograd."""
    settings, charges, positions, cell, pbc, _ = case
    leaves = [x.clone().requires_grad_() for x in (charges, positions, cell)]
    ewald = Ewald(**settings)
    energy, _ = ewald(leaves[0], leaves[1], leaves[2][None], pbc=pbc[None])
    return energy[0].detach(), *torch.autograd.grad(energy.sum(), leaves)


def check(case, found):
    """``found`` on the ranks, with the atoms that each has, must be the whole of ``case``."""
    energy, potential, of_positions, of_cell = of_all(case)
    # Derivatives with respect to cells are sums of terms as large as this.
    size = (of_positions.abs().sum() * case[2].abs().max()).item() / case[3].abs().max().item()
    assert of_positions.abs().max() > 0.01 and of_cell.abs().max() > 0.01
    for own, own_energy, own_potential, own_gradient, whole in found:
        close = {"rtol": 1e-12, "atol": 1e-12}
        torch.testing.assert_close(own_energy, energy, **close)
        torch.testing.assert_close(own_potential, potential[own], **close)
        torch.testing.assert_close(own_gradient, of_positions[own], **close)
        torch.testing.assert_close(whole, of_cell, rtol=1e-12, atol=1e-12 * max(1.0, size))


SLABS = [(True, True, False), (True, False, True), (False, True, True)]
CASES = {
    "cubic": {"kind": "cubic"},
    "triclinic": {},
    "left-handed": {"kind": "left-handed", "remove_self_interaction": False},
    "sharp": {"cutoff": "sharp", "sigma": 0.7, "dl": 1.5},
    "channels": {"n_channels": 2},
    "mesh": {"method": "mesh"},
    "mesh of a slab": {"method": "mesh", "pbc": (True, False, True), "n_channels": 2},
    **{f"slab {i}": {"pbc": pbc} for i, pbc in enumerate(SLABS)},
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("size", [1, 3, 7])
def test_sum_is_that_of_all_atoms(make_case, name, size):
    """Seven ranks are one more than have atoms."""
    case = make_case(**CASES[name])
    settings, charges, positions, cell, pbc, owner = case

    def on_rank(reduction):
        own = owner % size == reduction.rank
        sums = Ewald(**settings).settings()
        result = divided_sum(sums, charges[own], positions[own], cell, pbc, reduction)
        return own, *result

    check(case, on_ranks(size, on_rank))


@pytest.mark.cpu_only("gloo")
@pytest.mark.parametrize("size", [2, 3])
def test_with_torch_distributed(make_case, tmp_path, size):
    cases = [make_case(**CASES[name]) for name in ("cubic", "triclinic", "slab 1", "mesh")]
    torch.save(cases, tmp_path / "cases")
    worker = str(Path(__file__).with_name("gloo_worker.py"))
    processes = [
        subprocess.Popen(
            [sys.executable, worker, tmp_path / "store", tmp_path / "cases", str(rank), str(size)]
            + [tmp_path / f"results-{rank}"]
        )
        for rank in range(size)
    ]
    assert [process.wait(timeout=120) for process in processes] == [0] * size
    results = [torch.load(tmp_path / f"results-{rank}") for rank in range(size)]
    for case, *found in zip(cases, *results, strict=True):
        check(case, found)


def test_float32_is_summed_exactly(make_case):
    _, charges, positions, cell, pbc, _ = make_case()
    given = [x.float() for x in (charges, positions, cell)]
    sums = Ewald().settings()
    single = divided_sum(sums, *given, pbc, OneProcess())
    double = divided_sum(sums, *(x.double() for x in given), pbc, OneProcess())
    for value, exact in zip(single, double, strict=True):
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, exact.float(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("pbc", "message"),
    [
        ((False, False, False), "pairs of an open structure is not divided"),
        ((True, False, False), "wires are not supported"),
    ],
)
def test_what_cannot_be_divided_is_refused(make_case, pbc, message):
    _, charges, positions, cell, pbc, _ = make_case(pbc=pbc)
    with pytest.raises(ValueError, match=message):
        divided_sum(Ewald().settings(), charges, positions, cell, pbc, OneProcess())


def test_ranks_that_wait_in_vain_are_told():
    with pytest.raises(TimeoutError, match=r"ranks have waited 0\.05 s for one another"):
        on_ranks(2, lambda ranks: ranks.rank or ranks.sum(torch.ones(1)), patience=0.05)
