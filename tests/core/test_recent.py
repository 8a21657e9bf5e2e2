"""What is kept for the tensors of the latest sum is found for these, and for no others."""

from __future__ import annotations

import gc
import weakref
from typing import Any, NamedTuple

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


@pytest.mark.parametrize("place", [0, 1])
def test_results_are_dropped_with_their_tensors(place: int) -> None:
    """With any of them, and not with tensors of results that were kept before."""

    class Result:
        pass

    recent, tensors = Recent(), [torch.ones(3), torch.zeros(2)]
    earlier = torch.ones(1)
    recent.keep([earlier], "settings", "earlier")
    result = Result()
    reference = weakref.ref(result)
    recent.keep(tensors, "settings", result)
    del earlier, result
    assert reference() is not None
    assert recent.find(tensors, "settings") is reference()
    del tensors[place]
    assert reference() is None


def test_tensors_of_inference_mode_are_not_kept() -> None:
    recent = Recent()
    with torch.inference_mode():
        value = torch.ones(3)
        recent.keep([value], "settings", "result")
        assert recent.find([value], "settings") is None


class Sum(NamedTuple):
    """What the operators of one sum take."""

    settings: Any
    charges: Tensor
    positions: Tensor
    cell: Tensor

    @classmethod
    def of(cls, periodic: bool) -> Sum:
        generator = torch.Generator().manual_seed(1)
        charges = torch.randn(12, generator=generator, dtype=torch.float64)
        positions = 6.0 * torch.rand(12, 3, generator=generator, dtype=torch.float64)
        cell = 6.0 * torch.eye(3, dtype=torch.float64)[None] * float(periodic)
        return cls(Ewald().settings(), charges, positions, cell)

    def first(self) -> None:
        torch.ops.les.ewald_sum(*self[1:], None, None, *self.settings, [True, True, False])

    def second(self) -> list[Tensor]:
        """Along ones for charges and positions."""
        directions = torch.ones_like(self.charges), torch.ones_like(self.positions), None
        given = (*self[1:], None, None)
        found: list[Tensor] = torch.ops.les.ewald_product(
            *directions, *given, *self.settings, [True, True, False]
        )
        return found[:2]

    def second_by_autograd(self) -> list[Tensor]:
        leaves = self.charges.clone().requires_grad_(), self.positions.clone().requires_grad_()
        energy = Ewald()(*leaves, self.cell)[0].sum()
        first = torch.autograd.grad(energy, leaves, create_graph=True)
        return list(torch.autograd.grad(first[0].sum() + first[1].sum(), leaves))


@pytest.mark.skipif(
    not engine_for(torch.device("cpu"), torch.float64).compiled,
    reason="only kernels are kept, and there are none",
)
@pytest.mark.parametrize("periodic", [True, False])
def test_second_derivatives_plan_once(periodic: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    plans = []
    make_plan = derivatives.make_plan
    monkeypatch.setattr(
        derivatives, "make_plan", lambda *given: plans.append(1) or make_plan(*given)
    )
    own = Sum.of(periodic)
    own.first()
    own.second()
    assert len(plans) == 1


@pytest.mark.parametrize("periodic", [True, False])
def test_second_derivatives_are_those_of_eager_evaluation(periodic: bool) -> None:
    own = Sum.of(periodic)
    own.first()
    torch.testing.assert_close(own.second(), own.second_by_autograd())


@pytest.mark.parametrize("name", ["charges", "positions", "cell"])
def test_second_derivatives_after_a_change_in_place(name: str) -> None:
    """What was kept before the change is not taken."""
    own = Sum.of(True)
    own.first()
    before = own.second()
    getattr(own, name).mul_(1.1)
    found = own.second()
    torch.testing.assert_close(found, own.second_by_autograd())
    assert (found[1] - before[1]).abs().max() > 1e-3


def test_nothing_of_a_sum_outlives_its_tensors() -> None:
    own = Sum.of(True)
    own.first()
    assert derivatives._RECENT._kept is not None
    del own
    gc.collect()
    assert derivatives._RECENT._kept is None
