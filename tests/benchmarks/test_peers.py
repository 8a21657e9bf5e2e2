"""Other packages' sums, how their settings are matched, and the command that compares them."""

from __future__ import annotations

import math
import sys

import pytest
import torch

from les import Ewald
from les.units import COULOMB_CONSTANT
from les_bench.speed import kernels, matching, peers
from les_bench.speed.cases import Case, energies_of, energy_and_forces

#: Small, and charged.
BATCH = Case("2 x 40 atoms", 2, 40, periodic=True)


def families(name: str, dtype: torch.dtype = torch.float64) -> list[peers.Family]:
    return [family for family in peers.contestants(dtype)[0] if family.name == name]


def background(inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """What peers subtract from the energy of each structure [eV]."""
    charges, _, cell, batch = inputs
    total = torch.zeros_like(cell[:, 0, 0]).index_add(0, batch, charges)
    return COULOMB_CONSTANT * math.pi * peers.SIGMA**2 * total**2 / torch.linalg.det(cell)


def check_peer(name: str) -> None:
    """Energies but for the background, and forces, agree with those of les."""
    inputs = BATCH.inputs(torch.float64)
    expected = matching.converged_forces(inputs)
    exact = Ewald(peers.SIGMA, dl=0.8, method="direct")
    found = families(name)
    assert found
    for family in found:
        setting = matching.coarsest(family, inputs, expected, 2e-3)
        assert setting is not None, family.text
        assert 1e-5 < setting.error <= 2e-3
        energies = setting.energy(*inputs) + background(inputs)
        torch.testing.assert_close(energies, exact(*inputs)[0], rtol=2e-3, atol=0.0)


@pytest.mark.parametrize("name", ["torch-pme Ewald", "torch-pme PME", "torch-pme P3M"])
def test_torch_pme(name):
    pytest.importorskip("torchpme")
    check_peer(name)


def test_convergence_of_torch_pme():
    """The same sum, to all digits, and not just at the error that is asked for."""
    pytest.importorskip("torchpme")
    inputs = BATCH.inputs(torch.float64)
    energy = families("torch-pme Ewald")[0].make(0.4)
    forces = energy_and_forces(energy, inputs, training=False)
    torch.testing.assert_close(forces, matching.converged_forces(inputs), rtol=1e-10, atol=1e-10)
    exact = energies_of(Ewald(peers.SIGMA, dl=0.8, method="direct"))
    torch.testing.assert_close(
        energy(*inputs) + background(inputs), exact(*inputs), rtol=1e-10, atol=0.0
    )


@pytest.mark.slow  # it compiles its kernels first
@pytest.mark.parametrize("name", ["nvalchemi Ewald", "nvalchemi PME"])
def test_nvalchemi(name):
    pytest.importorskip("nvalchemiops")
    check_peer(name)


@pytest.mark.parametrize("name", ["plain", "les"])
@pytest.mark.parametrize("error", [3e-3, 1e-4])
def test_setting_is_the_coarsest(name, error):
    inputs = BATCH.inputs(torch.float64)
    expected = matching.converged_forces(inputs)
    (family,) = families(name)
    setting = matching.coarsest(family, inputs, expected, error)
    errors = [
        float((energy_and_forces(family.make(x), inputs, False) - expected).norm())
        / float(expected.norm())
        for x in family.ladder[:49]
    ]
    first = next(i for i, value in enumerate(errors) if value <= error)
    assert setting.error == pytest.approx(errors[first], rel=1e-6)
    assert setting.text == family.text.format(family.ladder[first])


def test_error_out_of_reach():
    inputs = BATCH.inputs(torch.float32)
    expected = matching.converged_forces(inputs)
    (family,) = families("les", torch.float32)
    assert matching.coarsest(family, inputs, expected, 1e-12) is None


def test_reference_of_large_structures(monkeypatch):
    inputs = BATCH.inputs(torch.float32)
    direct = matching.converged_forces(inputs)
    monkeypatch.setattr(matching, "DIRECT_ATOMS", 0)
    mesh = matching.converged_forces(inputs)
    assert direct.dtype == torch.float64
    assert 0.0 < float((mesh - direct).norm() / direct.norm()) < 1e-7


def test_command(monkeypatch, capsys):
    """Without any peer: what to install, what does not take part, and a table of the rest."""
    monkeypatch.setattr("les_bench.speed.timing.SECONDS", 0.0)
    monkeypatch.setattr("les_bench.speed.timing.REPETITIONS", 1)
    monkeypatch.setattr(kernels, "PEER_CASES", (BATCH, Case("too large", 1, 41, True)))
    monkeypatch.setattr(peers, "DENSE_ATOMS", 39)
    for module in ("torchpme", "nvalchemiops.torch.interactions.electrostatics"):
        monkeypatch.setitem(sys.modules, module, None)
    assert kernels.main(["--peers", "--error", "1e-3", "--atoms", "40"]) == 0
    printed = capsys.readouterr().out
    for package in peers.PEERS:
        assert f"`pip install {package}`" in printed
    assert "too large" not in printed
    rows = [line for line in printed.splitlines() if line.startswith(BATCH.title)]
    assert ["too many atoms" in row for row in rows] == [True, False, True, False]
    for row in rows[1::2]:
        *_, error, milliseconds, ratio = row.split()
        assert 0.0 < float(error) <= 1e-3
        assert float(milliseconds) > 0.0
        assert float(ratio) == 1.0
