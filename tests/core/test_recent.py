"""What is kept for the tensors of the latest sum is found for these, and for no others."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import Tensor

from les import Ewald
from les.sums import derivatives
from les.sums.plan import engine_for
from les.sums.recent import Recent


@pytest.fixture
def kept() -> tuple[Recent, list[Tensor | None]]:
    recent, tensors = Recent(), [torch.ones(3), None, torch.zeros(2, 2)]
    recent.keep(tensors, "settings", "result")
    return recent, tensors


def test_same_tensors_and_aliases_are_found(kept: tuple[Recent, list[Tensor | None]]) -> None:
    recent, tensors = kept
    assert recent.find(tensors, "settings") == "result"
    aliases = [None if value is None else value.detach() for value in tensors]
    assert recent.find(aliases, "settings") == "result"


def test_other_tensors_are_not(kept: tuple[Recent, list[Tensor | None]]) -> None:
    recent, (first, second, third) = kept
    assert first is not None and third is not None
    assert recent.find([first, second, third], "others") is None
    assert recent.find([first.clone(), second, third], "settings") is None
    assert recent.find([first, first, third], "settings") is None
    assert recent.find([first, second, None], "settings") is None
    assert recent.find([first, second, third.T], "settings") is None
    assert recent.find([first[:2], second, third], "settings") is None


@pytest.mark.parametrize("alias", ["detached", "data"])
def test_what_was_changed_is_not(kept: tuple[Recent, list[Tensor | None]], alias: str) -> None:
    recent, tensors = kept
    changed = tensors[0]
    assert changed is not None
    changed.add_(1.0)
    assert recent.find(tensors, "settings") is None
    other = changed.detach() if alias == "detached" else changed.data
    assert recent.find([other, *tensors[1:]], "settings") is None


def test_nothing_is_kept_alive() -> None:
    recent, first = Recent(), torch.ones(3)
    recent.keep([first], "settings", "result")
    alias = first.detach()
    del first
    gc.collect()
    assert recent.find([alias], "settings") is None


def test_tensors_of_inference_mode_are_not_kept() -> None:
    recent = Recent()
    with torch.inference_mode():
        value = torch.ones(3)
        recent.keep([value], "settings", "result")
        assert recent.find([value], "settings") is None


@pytest.mark.parametrize("periodic", [True, False])
def test_second_derivatives_plan_once(periodic: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what is kept they are those of eager evaluation, and the sum is planned once."""
    plans = []
    make_plan = derivatives.make_plan
    monkeypatch.setattr(
        derivatives, "make_plan", lambda *given: plans.append(1) or make_plan(*given)
    )
    generator = torch.Generator().manual_seed(1)
    charges = torch.randn(12, generator=generator, dtype=torch.float64)
    positions = 6.0 * torch.rand(12, 3, generator=generator, dtype=torch.float64)
    cell = 6.0 * torch.eye(3, dtype=torch.float64)[None] * float(periodic)
    ewald, directions = Ewald(), (torch.ones_like(charges), torch.ones_like(positions), None)
    settings, wanted = ewald.settings(), [True, True, False]
    given = charges, positions, cell, None, None
    torch.ops.les.ewald_sum(*given, *settings, wanted)
    found = torch.ops.les.ewald_product(*directions, *given, *settings, wanted)
    if engine_for(positions.device, positions.dtype).compiled:
        assert len(plans) == 1

    leaves = charges.clone().requires_grad_(), positions.clone().requires_grad_()
    energy = ewald(*leaves, cell)[0].sum()
    first = torch.autograd.grad(energy, leaves, create_graph=True)
    expected = torch.autograd.grad(first[0].sum() + first[1].sum(), leaves)
    torch.testing.assert_close(found[:2], expected)
