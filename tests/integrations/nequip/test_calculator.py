"""Calculators of NequIP and Allegro models: signs, outputs, files."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from ase.stress import voigt_6_to_full_3x3_stress
from nequip.data import AtomicDataDict
from nequip.integrations.ase import NequIPCalculator
from nequip.scripts._compile_utils import ASE_TARGET

from les import LESConfig
from les.testing.adapter import results_of
from les.testing.derivatives import derivative
from les.testing.earlier import AS_BEFORE, earlier_settings
from les.testing.structures import crystal, dimer, structures
from les_nequip import LES, LESCalculator
from les_nequip.backend import AllegroBackend, NequIPBackend
from les_nequip.registration import COMPILE_TARGETS

pytestmark = pytest.mark.usefixtures("nequip_state")

SETTINGS = {"output_scaling_factor": 3.0}


def les_of(model):
    return next(module for module in model.modules() if isinstance(module, LES))


def test_calculator_for_a_short_range_model(nequip_model, nequip_transforms):
    model = nequip_model()
    calculator = LESCalculator(model, transforms=nequip_transforms, skin=0.0)
    upstream = NequIPCalculator(model, "cpu", transforms=nequip_transforms)
    slab = crystal("cubic")
    slab.pbc = [True, True, False]
    for atoms in (*structures().values(), slab):
        actual, expected = results_of(calculator, atoms), results_of(upstream, atoms)
        assert set(expected) - set(actual) <= {"stress"}
        assert set(actual) <= set(expected)
        for key, value in actual.items():
            np.testing.assert_array_equal(value, expected[key], err_msg=key)
    bad = dimer()
    bad.positions[0] = np.nan
    with pytest.raises(ValueError, match="finite"):
        calculator.calculate(bad)
    with pytest.raises(ValueError, match="`bec` needs a model with LES"):
        LESCalculator(model, bec=True, transforms=nequip_transforms)


@pytest.mark.parametrize("pbc", [[True, True, False], [False, True, False], [True, True, True]])
def test_stress_of_a_short_range_model(pbc, nequip_model, nequip_transforms):
    """The derivative of the energy per volume of the cell as given, for any periodic axes."""
    calculator = LESCalculator(nequip_model(), transforms=nequip_transforms)
    atoms = crystal("triclinic")
    atoms.pbc = pbc
    atoms.positions += [0.0, 0.0, 17.0]
    stress = voigt_6_to_full_3x3_stress(results_of(calculator, atoms)["stress"])
    for row, column in ((0, 0), (1, 1), (2, 2), (1, 2)):

        def energy(amount, row=row, column=column):
            strain = np.eye(3)
            strain[row, column] += 0.5 * amount
            strain[column, row] += 0.5 * amount
            strained = atoms.copy()
            strained.set_cell(atoms.cell[:] @ strain)
            strained.positions = atoms.positions @ strain
            return results_of(calculator, strained)["energy"]

        expected = derivative(energy) / atoms.get_volume()
        assert stress[row, column] == pytest.approx(expected, rel=0, abs=1e-8)
    flat = crystal("cubic")
    flat.pbc = [True, True, False]
    flat.cell[2] = 0.0
    assert "stress" not in results_of(calculator, flat)


def test_dipoles_are_those_of_the_charges(nequip_model, nequip_transforms):
    """Alone and in a batch they are the same, also if the model has a ``dipole`` of its own."""
    model = nequip_model(les=SETTINGS)
    calculator = LESCalculator(model, transforms=nequip_transforms)
    frames = [dimer(), dimer()[:3]]
    expected = [results_of(calculator, atoms)["dipole"] for atoms in frames]

    def add_dipole(_module, _inputs, out):
        return {**out, AtomicDataDict.DIPOLE_KEY: torch.ones(len(out["total_energy"]), 3)}

    model.register_forward_hook(add_dipole)
    alone = [results_of(calculator, atoms)["dipole"] for atoms in frames]
    together = [results["dipole"] for results in calculator.calculate_together(frames)]
    np.testing.assert_array_equal(alone, expected)
    np.testing.assert_allclose(together, expected, rtol=0, atol=1e-12)


def test_sign_is_chosen_once(nequip_model, nequip_transforms):
    """Charges that change sign along a trajectory must not be turned back."""
    model = nequip_model(les=SETTINGS)
    calculator = LESCalculator(model, bec=True, transforms=nequip_transforms)
    calculator.calculate(dimer()[1:2])  # one element says nothing
    assert calculator.charge_sign.sign is None
    first = results_of(calculator, dimer())
    les_of(model).readout.output_scaling_factor *= -1.0
    second = results_of(calculator, dimer())
    for key in ("charges", "dipole", "born_effective_charges"):
        np.testing.assert_allclose(second[key], -first[key], rtol=0, atol=1e-12)
    given = LESCalculator(model, sign=-calculator.charge_sign.sign, transforms=nequip_transforms)
    np.testing.assert_allclose(results_of(given, dimer())["charges"], first["charges"])
    with pytest.raises(ValueError, match="`sign` must be 1, -1 or None, got 2"):
        LESCalculator(model, sign=2)


def test_calculators_that_share_a_model(nequip_model, nequip_transforms):
    """Each keeps its own choice of outputs."""
    model = nequip_model(les=SETTINGS)
    with_bec = LESCalculator(model, bec=True, transforms=nequip_transforms)
    without = LESCalculator(model, transforms=nequip_transforms)
    for _ in range(2):
        assert "born_effective_charges" in results_of(with_bec, dimer())
        assert "born_effective_charges" not in results_of(without, dimer())


def test_ways_to_evaluate_born_effective_charges(nequip_model, nequip_transforms):
    """Calculators that share a model keep their own, and leave what is configured."""
    model = nequip_model(les=SETTINGS)
    calculators = {
        bec: LESCalculator(model, bec=bec, transforms=nequip_transforms)
        for bec in (True, "exact", "phase")
    }
    found = {}
    for bec, calculator in calculators.items():
        found[bec] = results_of(calculator, crystal("cubic"))["born_effective_charges"]
        assert calculator.bec_method == ("phase" if bec == "phase" else "exact")
        assert (les_of(model).compute_bec, les_of(model).bec_method) == (False, "exact")
    np.testing.assert_array_equal(found["exact"], found[True])
    assert np.abs(found["phase"] - found[True]).max() > 1e-4
    with pytest.raises(ValueError, match="`bec` must be true, false or one of exact, phase"):
        LESCalculator(model, bec="exactly", transforms=nequip_transforms)


def test_package_of_an_earlier_release(nequip_model, nequip_transforms, monkeypatch):
    """It brings its own code, which knows the published approximation and no sum of charges."""
    model = nequip_model(les={**SETTINGS, **AS_BEFORE})
    expected = results_of(
        LESCalculator(model, bec="phase", transforms=nequip_transforms), crystal("cubic")
    )
    del les_of(model).edge_record
    les_of(model).bec_method = "phase"
    monkeypatch.delattr(LES, "edge_record")
    to_dict = LESConfig.to_dict
    monkeypatch.setattr(LESConfig, "to_dict", lambda self: earlier_settings(to_dict(self)))
    with pytest.raises(ValueError, match=r"is from an earlier release .*bec='phase', or package"):
        LESCalculator(model, bec=True, transforms=nequip_transforms)
    for bec in (False, "phase"):
        calculator = LESCalculator(model, bec=bec, transforms=nequip_transforms)
        config = calculator.les_config
        assert (config.neutrality, config.element_charges) == ("none", False)
        actual = results_of(calculator, crystal("cubic"))
        assert set(expected) - set(actual) == ({"born_effective_charges"} if not bec else set())
        for key, value in actual.items():
            np.testing.assert_array_equal(value, expected[key], err_msg=key)


def test_file_that_an_earlier_release_compiled(monkeypatch, tmp_path, nequip_model):
    """It says nothing of its Born effective charges, which are the published approximation.

    Nor does it of the sum of its charges.
    """
    metadata = dict(nequip_model(les={"boundary": "periodic", "max_cell": 9.0}).metadata)
    settings = earlier_settings(json.loads(metadata["les"]))
    del settings["bec_method"]
    metadata["les"] = json.dumps(settings)
    _, inputs, outputs = COMPILE_TARGETS["ase_les_bec"]
    program = torch.nn.Module().eval()
    program.input_keys = [*ASE_TARGET["input"], *inputs]
    program.output_keys = [*ASE_TARGET["output"], *outputs]
    monkeypatch.setattr(
        "les_nequip.loading.load_compiled_model", lambda *arguments: (program, metadata)
    )
    path = tmp_path / "model.nequip.pt2"
    torch.save({}, path)
    with pytest.raises(ValueError, match=r"earlier release of les .* bec='phase', or compile the"):
        LESCalculator(path, bec=True, allow_pickle=True)
    assert LESCalculator(path, bec="phase", allow_pickle=True).bec_method == "phase"
    config = LESCalculator(path, allow_pickle=True).les_config
    assert (config.neutrality, config.element_charges) == ("none", False)


def test_compiled_models_are_for_neutral_structures(monkeypatch, tmp_path, nequip_model):
    """Their program has no total charge in its input, and nobody may think that it has."""
    les = {"boundary": "periodic", "max_cell": 9.0, "neutrality": "shift"}
    _, inputs, outputs = COMPILE_TARGETS["ase_les"]
    program = torch.nn.Module().eval()
    program.input_keys = [*ASE_TARGET["input"], *inputs]
    program.output_keys = [*ASE_TARGET["output"], *outputs]
    metadata = dict(nequip_model(les=les).metadata)
    monkeypatch.setattr(
        "les_nequip.loading.load_compiled_model", lambda *arguments: (program, metadata)
    )
    torch.save({}, tmp_path / "model.nequip.pt2")
    calculator = LESCalculator(tmp_path / "model.nequip.pt2", allow_pickle=True)
    atoms = crystal("cubic")
    atoms.info["charge"] = 1
    with pytest.raises(ValueError, match="compiled models are for structures without a total"):
        calculator.calculate(atoms)


def test_metadata(nequip_model, nequip_data):
    """What compiled models know about themselves."""
    model = nequip_model(les={"sigma": 1.3})
    settings = json.loads(model.metadata["les"])
    assert settings["boundary"] == "auto"
    model(nequip_data(crystal("cubic")))
    settings = json.loads(model.metadata["les"])
    assert settings["boundary"] == "periodic"
    assert settings["max_cell"] == pytest.approx([5.5, 5.5, 5.5])
    assert settings["bec_method"] == "exact"
    assert settings["slabs"] is False
    others = ("boundary", "max_cell", "slabs", "bec_method")
    config = {key: value for key, value in settings.items() if key not in others}
    assert LESConfig.from_dict(config) == les_of(model).config
    assert config["sigma"] == 1.3


# --- files


@pytest.fixture(scope="module")
def checkpoint(nequip_section, nequip_model, nequip_checkpoint, nequip_data, tmp_path_factory):
    model = nequip_model(les=SETTINGS)
    model(nequip_data(dimer(), crystal("cubic")))
    path = tmp_path_factory.mktemp("model") / "model.ckpt"
    return nequip_checkpoint(path, nequip_section(les=SETTINGS), model)


@pytest.mark.parametrize("backend", [NequIPBackend(), AllegroBackend()])
def test_plain_checkpoints_need_no_trust(backend, checkpoint):
    """Read as plain values or as upstream does, a checkpoint is the same model."""
    results = [
        results_of(backend.calculator(checkpoint, allow_pickle=trust, bec=True), dimer())
        for trust in (False, True)
    ]
    assert results[0]["born_effective_charges"].shape == (6, 9)
    for key, value in results[1].items():
        np.testing.assert_array_equal(results[0][key], value, err_msg=key)
    with pytest.raises(FileNotFoundError, match=r"no .* file .*other\.ckpt"):
        backend.calculator(checkpoint.with_name("other.ckpt"), allow_pickle=True)


def test_record_of_structures_is_in_the_file(checkpoint):
    """So that it can be compiled."""
    model = LESCalculator(checkpoint).model
    assert les_of(model).reach.boundary() == "mixed"
    assert les_of(model).reach.longest == [5.0, 5.0, 5.0]


def test_unknown_element(checkpoint):
    gold = dimer()
    gold.numbers[0] = 79
    with pytest.raises(ValueError, match="knows the elements H, O, got Au"):
        LESCalculator(checkpoint).calculate(gold)
