"""The sign of all charges."""

from __future__ import annotations

import pytest
import torch

from les import ChargeSign, charge_sign, fix_charge_sign
from les.response.gauge import orient_charges

WATER = torch.tensor([8, 1, 1])


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("offset", [0.0, 2.0, -2.0], ids=["neutral", "cation", "anion"])
def test_oxygen_of_water_is_negative(dtype, sign, offset):
    """Relative to the mean, so that the total charge does not matter."""
    charges = torch.tensor([-0.8, 0.4, 0.4], dtype=dtype) + sign * offset
    assert charge_sign(sign * charges, WATER) == sign
    torch.testing.assert_close(fix_charge_sign(sign * charges, WATER), charges)


def test_channels_count_together():
    charges = torch.tensor([[0.9, -0.1], [-0.5, 0.1], [-0.4, 0.0]])
    assert charge_sign(charges, WATER) == -1.0
    torch.testing.assert_close(fix_charge_sign(charges, WATER), -charges)


@pytest.mark.parametrize(
    ("numbers", "negative"),
    [
        ([11, 17], 17),  # NaCl
        ([12, 8], 8),  # MgO
        ([1, 3], 1),  # LiH
        ([6, 7], 7),
        ([16, 9], 9),
        ([79, 55], 79),  # CsAu
        ([54, 36], 54),
        ([2, 3], 3),  # helium has no electronegativity, so never decides
        ([118, 3], 3),
    ],
)
def test_most_electronegative_element(numbers, negative):
    charges = torch.tensor([-0.5 if number == negative else 0.5 for number in numbers])
    assert charge_sign(charges, torch.tensor(numbers)) == 1.0
    assert charge_sign(-charges, torch.tensor(numbers)) == -1.0


def test_one_element_has_no_sign():
    charges = torch.randn(7)
    assert torch.equal(fix_charge_sign(charges, torch.full((7,), 6)), charges)


def test_gradients_pass():
    charges = torch.tensor([0.8, -0.4, -0.4], requires_grad=True)
    fix_charge_sign(charges, WATER).sum().backward()
    assert charges.grad.tolist() == [-1.0, -1.0, -1.0]


# --- along a trajectory


def test_trajectory_keeps_the_sign_of_its_first_structure():
    sign = ChargeSign()
    charges = torch.tensor([0.8, -0.4, -0.4])
    assert sign(charges, WATER) == -1
    assert sign(-charges, WATER) == -1
    assert ChargeSign()(-charges, WATER) == 1


def test_trajectory_waits_for_a_structure_that_can_decide():
    sign = ChargeSign()
    for charges in (torch.tensor([0.5, -0.5]), torch.tensor([-0.5, 0.5])):
        assert sign(charges, torch.tensor([8, 8])) == 1
    assert sign.sign is None
    assert sign(torch.tensor([0.5, -0.5]), torch.tensor([8, 1])) == -1
    assert sign(torch.tensor([0.5, -0.5]), torch.tensor([8, 8])) == -1


@pytest.mark.parametrize("given", [1, -1])
def test_sign_of_ones_own(given):
    charges = torch.tensor([0.8, -0.4, -0.4])
    sign = ChargeSign(given)
    assert sign(charges, WATER) == sign(-charges, WATER) == given


@pytest.mark.parametrize("sign", [0, 2, -1.5, "+"])
def test_bad_sign(sign):
    with pytest.raises(
        ValueError, match=f"`sign` must be 1, -1 or None, got {sign!r}".replace("+", r"\+")
    ):
        ChargeSign(sign)


def test_trajectory_needs_finite_charges():
    sign = ChargeSign()
    with pytest.raises(ValueError, match="`charges` must be finite"):
        sign(torch.tensor([float("nan"), 0.0, 0.0]), WATER)
    assert sign.sign is None


def test_wrong_shape():
    with pytest.raises(ValueError, match=r"`atomic_numbers` must have shape .* \[3\], got \[2\]"):
        charge_sign(torch.zeros(3), torch.tensor([1, 8]))


def test_charges_must_be_finite():
    with pytest.raises(ValueError, match="`charges` must be finite, got nan"):
        charge_sign(torch.tensor([0.1, float("nan")]), torch.tensor([1, 8]))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_orientation(sign):
    """The first structure of several elements decides; what was right stays."""
    water = torch.tensor([0.2, 0.2, -0.4]) * sign, torch.tensor([1, 1, 8])
    oxygen = torch.tensor([0.3, -0.3]), torch.tensor([8, 8])
    opposite = -water[0], water[1]
    turned = []
    changed = orient_charges([oxygen, water, opposite], lambda: turned.append(True))
    assert changed == bool(turned) == (sign < 0)
    assert not orient_charges([oxygen], lambda: turned.append(True))
