"""Where tensors are: the option ``--device``, and tensors for which no device is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from les import Ewald, Les, LESConfig, fix_charge_sign
from les.sums import crossover
from les.sums.plain import Bounds, traceable_potential
from les.sums.reciprocal.lattice import grid_extent

TESTS = Path(__file__).parent


@pytest.mark.parametrize(
    ("name", "status", "message"),
    [("cuda:99", 0, "3 skipped"), ("quda", 4, "--device: Expected one of cpu, cuda")],
)
def test_option(name, status, message):
    """The tests are skipped where there is no such device."""
    test = f"{TESTS / 'test_readout.py'}::test_bad_features"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--device", name, test]
    run = subprocess.run(command, cwd=TESTS.parents[1], capture_output=True, text=True)
    assert run.returncode == status
    assert message in run.stdout + run.stderr


@pytest.fixture
def arguments(make_system, join):
    """Of a slab, two crystals, and molecules of which one is larger by far."""
    kinds = [("cubic", 5), ("triclinic", 6), ("triclinic", 6), ("open", 40), ("open", 4)]
    systems = join([make_system(kind, size, seed=i) for i, (kind, size) in enumerate(kinds)])
    pbc = torch.tensor([[True, True, False], *[[True] * 3] * 2, *[[False] * 3] * 2])
    return *(value.requires_grad_() for value in systems[:3]), systems.batch, pbc


def with_derivatives(outputs, leaves):
    """Outputs, their first derivatives, and those of something that is not linear in these."""
    loss = sum(value.square().sum() for value in outputs)
    first = torch.autograd.grad(loss, leaves, create_graph=True)
    second = torch.autograd.grad(sum(value.square().sum() for value in first), leaves)
    return [value.detach() for value in (*outputs, *first, *second)]


def sum_of(method, convert=lambda ewald: ewald):
    def prepare(arguments):
        ewald = convert(Ewald(method=method))
        return lambda: with_derivatives(ewald(*arguments, compute_potential=True), arguments[:3])

    return prepare


def model(arguments):
    """All that ``Les`` has."""
    les = Les(LESConfig(use_atomwise=True, n_features=3)).double()
    _, positions, cell, batch, pbc = arguments

    def evaluate():
        features = torch.sin(positions)
        out = les(
            positions,
            cell,
            desc=features,
            batch=batch,
            pbc=pbc,
            compute_bec=True,
            compute_atom_energies=True,
        )
        outputs = [out[key] for key in ("E_lr", "E_lr_atoms", "BEC")]
        return with_derivatives(outputs, [positions, cell])

    return evaluate


def one_structure(arguments):
    """The first one, without ``batch``."""
    les = Les()
    charges, positions, cell, _, pbc = arguments

    def evaluate():
        given = {"latent_charges": charges[:5], "pbc": pbc[:1]}
        out = les(positions[:5], cell[:1], **given, compute_bec=True)
        return with_derivatives([out["E_lr"], out["BEC"]], arguments[:3])

    return evaluate


def traceable(arguments):
    charges, positions, cell, batch, _ = arguments
    ewald, extent = Ewald(), grid_extent(cell[:3].detach(), 2.0)
    given = charges, positions, cell, batch, Bounds("mixed", extent)
    return lambda: with_derivatives([traceable_potential(ewald.settings(), *given)], arguments[:3])


def sign(arguments):
    charges = arguments[0].detach()
    numbers = torch.tensor([8, 1] * charges.numel())[: charges.numel()]
    return lambda: [fix_charge_sign(charges, numbers)]


CASES = {
    "direct": sum_of("direct"),
    "mesh": sum_of("mesh"),
    "scripted": sum_of("auto", torch.jit.script),
    "model": model,
    "one structure": one_structure,
    "traceable": traceable,
    "sign": sign,
}


@pytest.mark.parametrize("native", ["0", "1"])
@pytest.mark.parametrize("case", CASES)
def test_default_device(arguments, monkeypatch, forget_tables, case, native):
    """On the meta device there are no values, and nothing else goes with it."""
    monkeypatch.setenv("LES_NATIVE", native)
    monkeypatch.setitem(crossover.WORTH_A_MESH, False, (20, 1e12))
    monkeypatch.setitem(crossover.WORTH_A_MESH, True, (20, 1e12))
    monkeypatch.setattr("les.sums.mesh.SORTED_FROM", 1)
    monkeypatch.setattr("les.sums.bases.mesh_waves.POINTS_AT_A_TIME", 1)
    evaluate = CASES[case](arguments)
    expected = evaluate()
    forget_tables()
    with torch.device("meta"):
        found = evaluate()
    for value, target in zip(found, expected, strict=True):
        assert value.device == target.device
        torch.testing.assert_close(value, target, rtol=1e-10, atol=1e-10)
