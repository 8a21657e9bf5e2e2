"""Calculators of MACE models: signs, outputs, options."""

from __future__ import annotations

import copy

import mace  # noqa: F401  (before e3nn)
import numpy as np
import pytest
import torch
from mace.calculators import MACECalculator
from mace.tools.torch_tools import default_dtype

from les.testing.adapter import results_of
from les.testing.derivatives import derivative
from les.testing.slabs import slab
from les.testing.structures import crystal, dimer, strained
from les_mace import MACELES, LESCalculator


@pytest.mark.parametrize("structure", [dimer, slab, crystal])
@pytest.mark.parametrize("bec", [False, True])
def test_hessian(model, structure, bec):
    calculator = LESCalculator(copy.deepcopy(model), bec=bec)
    atoms = structure()
    hessian = calculator.get_hessian(atoms).reshape(18, 18)
    for row in (0, 4, 14):

        def forces(shift, row=row):
            moved = atoms.copy()
            moved.positions[row // 3, row % 3] += shift
            return results_of(calculator, moved)["forces"].ravel()

        np.testing.assert_allclose(hessian[row], -derivative(forces), atol=1e-6)


def test_calculators_that_share_a_model(model):
    """Each keeps its own choice of outputs."""
    shared = copy.deepcopy(model)
    with_bec = LESCalculator(shared, bec=True)
    without = LESCalculator(shared)
    atoms = dimer()
    assert "born_effective_charges" in results_of(with_bec, atoms)
    assert "born_effective_charges" not in results_of(without, atoms)
    assert "born_effective_charges" in results_of(with_bec, atoms)


def test_calculator_for_a_short_range_model(short_range_model):
    calculator = LESCalculator(copy.deepcopy(short_range_model))
    results = results_of(calculator, dimer())
    assert "les_energy" not in results
    assert "charges" not in results
    bad = dimer()
    bad.positions[0] = np.nan
    with pytest.raises(ValueError, match="finite"):
        calculator.calculate(bad)


def test_upstream_is_left_as_it_is(model):
    """Its own models read the cell that its neighbour list makes of a slab's."""
    import mace.data
    from mace.data import atomic_data

    from les_mace.neighbours import own_cells

    atoms = slab()
    LESCalculator(model).calculate(atoms)  # replaces the function in this module, but not there

    def neighborhood(function):  # upstream's changes the cell that it is given
        return function(atoms.positions, 4.0, tuple(atoms.pbc), atoms.cell[:].copy())

    original = neighborhood(mace.data.get_neighborhood)
    for actual, expected in zip(neighborhood(atomic_data.get_neighborhood), original, strict=True):
        np.testing.assert_array_equal(actual, expected)
    assert not np.allclose(original[3], atoms.cell[:])
    with own_cells():
        own = neighborhood(atomic_data.get_neighborhood)[3]
    np.testing.assert_array_equal(own, atoms.cell[:])


def test_calculator_of_a_short_range_model_takes_slabs(short_range_model):
    """Their neighbours are those that upstream's own calculator finds."""
    atoms = slab()
    ours = results_of(LESCalculator(copy.deepcopy(short_range_model)), atoms)
    theirs = results_of(MACECalculator(models=copy.deepcopy(short_range_model)), atoms)
    for key in ("energy", "forces"):
        np.testing.assert_allclose(ours[key], theirs[key], rtol=1e-10, atol=1e-12)


def test_sign_is_chosen_once(model, scale_charges):
    """Charges that change sign along a trajectory must not be turned back."""
    own = copy.deepcopy(model)
    calculator = LESCalculator(own)
    first = results_of(calculator, dimer())
    scale_charges(own, -1.0)
    second = results_of(calculator, dimer())
    for key in ("charges", "dipole"):
        np.testing.assert_allclose(second[key], -np.asarray(first[key]), rtol=1e-12)
    given = results_of(LESCalculator(own, sign=-calculator.charge_sign.sign), dimer())
    np.testing.assert_allclose(given["charges"], first["charges"], rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sign": 2}, "`sign` must be 1, -1 or None, got 2"),
        ({"compile_mode": "default"}, "`compile_mode` is not supported"),
        ({"compute_atomic_stresses": True}, "`compute_atomic_stresses` needs a model without LES"),
        ({"dtype": "float16"}, "`dtype` must be one of float32, float64, got 'float16'"),
        (
            {"dtype": "float32", "default_dtype": "float64"},
            "must be the same, got 'float32' and 'float64'",
        ),
        ({"head": "other"}, "`head` must be one of Default, got 'other'"),
        ({"device": "gpu"}, "`device` must be auto, cpu, cuda or cuda:N, got 'gpu'"),
    ],
)
def test_bad_options_of_the_calculator(model, options, message):
    with pytest.raises(ValueError, match=message):
        LESCalculator(copy.deepcopy(model), **options)


def test_born_effective_charges_need_charges(short_range_model):
    with pytest.raises(ValueError, match=r"`bec` needs a model with LES"):
        LESCalculator(copy.deepcopy(short_range_model), bec=True)


def test_stress_of_a_short_range_wire(short_range_model):
    """One periodic axis is for models without LES only."""
    calculator = LESCalculator(copy.deepcopy(short_range_model))
    atoms = crystal("triclinic")
    atoms.pbc = [False, True, False]

    def energy(amount):
        strain = np.diag([0.0, amount, 0.0])
        return results_of(calculator, strained(atoms, strain))["energy"]

    expected = derivative(energy) / atoms.get_volume()
    assert abs(expected) > 1e-5
    assert results_of(calculator, atoms)["stress"][1] == pytest.approx(float(expected), abs=1e-8)


@pytest.mark.parametrize("name", ["models", "model_paths", "model_path"])
def test_upstreams_names_of_several_models(model, name):
    with pytest.raises(ValueError, match=rf"`{name}` must be given as `model`: "):
        LESCalculator(**{name: [model, model]})


def test_model_that_is_none():
    for model in (None, torch.nn.Linear(1, 1)):
        with pytest.raises(TypeError, match="`model` must be a MACE model or a model file"):
            LESCalculator(model)


def test_the_given_model_keeps_its_precision(model):
    own = copy.deepcopy(model)
    for keyword in ("dtype", "default_dtype"):
        single = LESCalculator(own, **{keyword: "float32"})
        assert results_of(single, dimer())["forces"].dtype == np.float32
    assert {parameter.dtype for parameter in own.parameters()} == {torch.float64}


@pytest.mark.parametrize("structure", [dimer, slab, crystal])
def test_single_precision_far_from_the_origin(model, structure):
    calculator = LESCalculator(copy.deepcopy(model), dtype="float32", bec=True)
    atoms = structure()
    near = results_of(calculator, atoms)
    hessian = calculator.get_hessian(atoms)
    atoms.positions += [1e4, -3e4, 2e4]
    far = results_of(calculator, atoms)
    assert calculator.atoms == atoms
    for key in ("energy", "les_energy", "forces", "charges", "born_effective_charges"):
        np.testing.assert_allclose(far[key], near[key], rtol=1e-5, atol=1e-5, err_msg=key)
    np.testing.assert_allclose(calculator.get_hessian(atoms), hessian, rtol=1e-4, atol=1e-3)


def test_calculators_leave_nothing_behind(model):
    own = copy.deepcopy(model)
    before = list(MACECalculator.implemented_properties)
    results_of(LESCalculator(own), dimer())
    assert not own._forward_hooks
    assert MACECalculator.implemented_properties == before


# --- models with several heads


@pytest.fixture(scope="module")
def two_heads(mace_arguments):
    """A model with the heads ``pbe`` and ``scan``."""
    arguments = {
        **mace_arguments,
        "heads": ["pbe", "scan"],
        "atomic_energies": np.array([[-1.0, -2.0], [-3.0, -4.0]]),
        "atomic_inter_scale": [1.0, 2.0],
        "atomic_inter_shift": [0.0, 0.1],
    }
    with default_dtype(torch.float64):
        return MACELES(**arguments)


def test_head(two_heads, mace_batch):
    for index, head in enumerate(two_heads.heads):
        batch = mace_batch([dimer()])
        batch["head"] = torch.tensor([index])
        expected = copy.deepcopy(two_heads)(batch)
        actual = results_of(LESCalculator(copy.deepcopy(two_heads), head=head), dimer())
        for key in ("energy", "les_energy"):
            assert actual[key] == pytest.approx(expected[key].item(), rel=1e-12)


def test_head_that_nobody_has_chosen(two_heads):
    """The settings can be looked at; results cannot be had."""
    calculator = LESCalculator(copy.deepcopy(two_heads))
    assert calculator.les_config is not None
    for compute in (calculator.calculate, calculator.get_hessian):
        with pytest.raises(ValueError, match="the heads pbe, scan: say which one is meant"):
            compute(dimer())
    with pytest.raises(ValueError, match="`head` must be one of pbe, scan, got 'pbesol'"):
        LESCalculator(copy.deepcopy(two_heads), head="pbesol")
