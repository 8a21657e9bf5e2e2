"""How trained models answer to fields, against structures whose reference was made in fields."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from les import LESConfig
from les.equilibration import refuse_periodic_response
from les.spectra.polarisability import polarisability
from les_bench import cli
from les_bench.suite import field_response
from les_bench.suite.field_response import answers, field_lines
from les_bench.systems.in_field import IN_FIELD, Measured, force_slopes, read_in_field
from les_bench.systems.labels import DataError

CHARGES = np.array([-0.8, 0.4, 0.4])
#: Born effective charges ``Z[i, alpha, beta]`` [e], far from symmetric: first the component of the
#: polarisation, then that of the displacement.
BORN = np.random.default_rng(0).normal(scale=0.3, size=(3, 3, 3))
BORN += CHARGES[:, None, None] * np.eye(3)
RESPONSES = np.array([0.05, 0.01, 0.01])
AXIS = np.array([0.6, 0.8, 0.0])
#: How forces change along it, ``sum_alpha AXIS_alpha Z[i, alpha, beta]`` [e].
SLOPES = AXIS @ BORN
INDUCED = {"use_dipole": True, "use_induced_dipole": True, "self_consistent": True}


class PointCharges(Calculator):
    """Charges and Born effective charges that do not change, and maybe polarisable atoms."""

    def __init__(self, scale: float = 1.0, bec: bool | str = False, **settings: bool) -> None:
        super().__init__()
        self.scale, self.bec = scale, bec
        self.les_config = LESConfig(**settings)
        self.implemented_properties = ["energy", "forces", "dipole", "charges"]
        if self.les_config.use_induced_dipole:
            self.implemented_properties.append("atomic_polarisabilities")

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        charges = self.scale * CHARGES
        self.results = {
            "energy": 0.0,
            "forces": np.zeros((3, 3)),
            "dipole": charges @ atoms.positions,
            "atomic_polarisabilities": RESPONSES,
        }
        if self.bec:
            if self.les_config.charge_equilibration:
                cell, pbc = torch.from_numpy(atoms.cell.array[None]), torch.from_numpy(atoms.pbc)
                refuse_periodic_response(cell, pbc[None], atoms.arrays.get("fragment"))
            self.results["born_effective_charges"] = self.scale * BORN.reshape(3, 9)


def measured(strength: float, atoms: Atoms, calculator: PointCharges) -> Measured:
    """What atoms with the charges of ``calculator`` do in a field, as a reference."""
    calculator.calculate(atoms)
    alpha = np.zeros((3, 3))
    if calculator.les_config.self_consistent:
        alpha = polarisability(calculator, atoms)
    field = strength * AXIS
    # The square of the field pulls atoms, too, which slopes at zero field must not have in them.
    forces = calculator.scale * field @ BORN + 5 * strength**2 * np.array([[1.0], [-2.0], [1.0]])
    dipole = calculator.scale * CHARGES @ atoms.positions + alpha @ field
    return Measured(atoms, field, forces, dipole, alpha)


@pytest.fixture
def water() -> Atoms:
    return Atoms("OH2", [[0.0, 0, 0], [2.2, 0, 0], [0, 2.3, 0]])


def test_slopes_at_zero_field(water: Atoms) -> None:
    frames = [measured(x, water, PointCharges()) for x in (-0.1, 0.1, 0.3, 0.4)]
    (slope,) = force_slopes(frames)
    sign = np.sign(slope.axis @ AXIS)
    np.testing.assert_allclose(sign * slope.axis, AXIS, atol=1e-12)
    np.testing.assert_allclose(sign * slope.slopes, SLOPES, atol=1e-12)
    assert not list(force_slopes(frames[:3]))  # a square needs no less than four
    askew = frames[3]._replace(field=np.array([0.0, 0.0, 0.4]))
    assert not list(force_slopes([*frames[:3], askew]))
    moved = water.copy()
    moved.positions[0, 0] += 0.1
    assert not list(force_slopes([*frames[:3], frames[3]._replace(atoms=moved)]))


@pytest.mark.parametrize("settings", [{}, INDUCED], ids=["charges", "induced"])
def test_a_model_that_is_right(water: Atoms, settings: dict[str, bool]) -> None:
    frames = [measured(x, water, PointCharges(**settings)) for x in (-0.1, 0.1, 0.3, 0.4)]
    found = answers(frames, frames, lambda bec=False: PointCharges(bec=bec, **settings))
    for what in ("slopes", "dipoles"):
        assert found[what]["rmse"] == pytest.approx(0.0, abs=1e-9)
    assert ("polarisability" in found) == bool(settings)
    if settings:
        assert found["polarisability"]["rmse"] == pytest.approx(0.0, abs=1e-9)
        # Atoms far apart: not much more, nor less, than the sum of all.
        expected = 14.399645 * RESPONSES.sum()
        assert found["polarisability"]["mean"] == pytest.approx(expected, rel=0.2)


def test_errors_of_a_model_that_is_not(water: Atoms) -> None:
    frames = [measured(x, water, PointCharges(**INDUCED)) for x in (-0.1, 0.1, 0.3, 0.4)]
    found = answers(frames, frames, lambda bec=False: PointCharges(1.1, bec))
    assert found["slopes"]["rmse"] == pytest.approx(0.1 * np.sqrt(np.mean(SLOPES**2)))
    errors = [1.1 * CHARGES @ water.positions - frame.dipole for frame in frames]
    assert found["dipoles"]["rmse"] == pytest.approx(np.sqrt(np.mean(np.square(errors))))


def test_born_charges_of_crystals_whose_charges_respond(water: Atoms) -> None:
    """Exact ones do not exist there; a periodic structure has no dipole to compare."""
    water.set_cell([9.0, 9.0, 9.0])
    water.pbc = True
    frames = [measured(x, water, PointCharges()) for x in (-0.1, 0.1, 0.3, 0.4)]
    asked = []

    def make(bec: bool | str = False) -> PointCharges:
        asked.append(bec)
        return PointCharges(bec=bec, use_induced_charge=True, **INDUCED)

    assert set(answers(frames, frames, make)) == {"slopes"}
    assert asked == [False, "phase"]


def test_born_charges_of_crystals_whose_charges_flow(water: Atoms, monkeypatch, caplog) -> None:
    """There are none, unless fragments keep theirs; other models have theirs compared."""
    water.set_cell([9.0, 9.0, 9.0])
    water.pbc = True
    frames = [measured(x, water, PointCharges()) for x in (-0.1, 0.1, 0.3, 0.4)]

    def make(bec: bool | str = False) -> PointCharges:
        return PointCharges(bec=bec, charge_equilibration=True)

    assert answers(frames, frames, make) == {}

    def calculator(model: Path, bec: bool | str = False) -> PointCharges:
        return PointCharges(bec=bec, charge_equilibration=model.stem == "flow")

    backend = SimpleNamespace(calculator=calculator)
    monkeypatch.setattr(field_response, "get_backend", lambda name: backend)
    models = [Path("flow.pt"), Path("stay.pt")]
    _, _, flow, stay, _ = field_lines("water_field", frames, models, backend="mace")
    assert [line.split("|")[1].strip() for line in (flow, stay)] == ["-", "0.000"]
    assert "flow.pt: slopes of forces are left out" in caplog.text
    assert "stay.pt" not in caplog.text
    water.set_array("fragment", np.zeros(3, dtype=int))
    assert answers(frames, frames, make)["slopes"]["rmse"] == pytest.approx(0.0, abs=1e-9)


def test_models_are_loaded_once(water: Atoms) -> None:
    """And not again for each geometry."""
    other = water.copy()
    other.rattle(0.1, seed=1)
    frames = [measured(x, y, PointCharges()) for y in (water, other) for x in (-0.1, 0.1, 0.3, 0.4)]
    asked = []

    def make(bec: bool | str = False) -> PointCharges:
        asked.append(bec)
        return PointCharges(bec=bec)

    assert answers(frames, [], make)["slopes"]["n_values"] == 2 * water.positions.size
    assert asked == [False, True]


def test_the_table(water: Atoms, tmp_path: Path, monkeypatch, capsys, caplog) -> None:
    path = tmp_path / IN_FIELD["nma_field"].file
    path.parent.mkdir()
    frames = []
    for frame in [measured(x, water, PointCharges(**INDUCED)) for x in (-0.1, 0.1, 0.3, 0.4)]:
        atoms = frame.atoms.copy()
        atoms.info |= {"external_field": frame.field, "polarizability": frame.polarisability}
        atoms.info["charge"] = -1
        atoms.set_array("fragment", np.array([0, 1, 1]))
        atoms.calc = SinglePointCalculator(atoms, forces=frame.forces, dipole=frame.dipole)
        frames.append(atoms)
    write(path, frames, format="extxyz")
    monkeypatch.setenv("LES_DATA_DIR", str(tmp_path))

    def calculator(model: Path, bec: bool | str = False, **options: object) -> PointCharges:
        return PointCharges(float(model.stem), bec, **INDUCED)

    backend = SimpleNamespace(calculator=calculator)
    monkeypatch.setattr(field_response, "get_backend", lambda name: backend)
    models = [tmp_path / "1.pt", tmp_path / "1.2.pt"]
    read = read_in_field("nma_field")
    assert all(frame.atoms.info == {"charge": -1} for frame in read)  # the field is not in there
    np.testing.assert_array_equal(read[0].atoms.arrays["fragment"], [0, 1, 1])
    lines = list(field_lines("nma_field", read, models, backend="mace"))
    cells = [[cell.strip() for cell in line.split("|")] for line in lines]
    assert [row[0] for row in cells] == [
        *("model", "reference"),
        *(f"{tmp_path.name}/{model.name}" for model in models),
        "mean of 2",
    ]
    assert cells[1][1:5] == ["-"] * 4
    assert cells[1][5] == cells[2][5]  # the mean polarisability
    assert cells[2][1] == cells[2][3] == "0.000"
    error = 0.2 * np.sqrt(np.mean(SLOPES**2))
    assert cells[3][1] == f"{error:.3f}"
    assert cells[4][1] == f"{error / 2:.3f} +- {error / np.sqrt(2):.3f}"
    command = ["evaluate", "nma_field", *map(str, models), "--backend", "mace"]
    assert cli.main(command) == 0
    assert capsys.readouterr().out.splitlines() == lines

    frames[2].info["polarizability"][0] = np.nan
    write(path, frames, format="extxyz")
    assert cli.main(command) == 1
    assert "frame 2: must have `polarizability` of shape [3, 3], got" in caplog.text
    monkeypatch.delenv("LES_DATA_DIR")
    with pytest.raises(DataError, match="nma_field: needs nma_field/"):
        read_in_field("nma_field")


def test_a_model_without_les(water: Atoms) -> None:
    with pytest.raises(ValueError, match="without LES has no charges"):
        answers([], [], lambda: SimpleNamespace(les_config=None))
