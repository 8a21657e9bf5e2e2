"""Tests: models that are given the external field of a structure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.io import read, write

from les.dynamics.ensemble import Ensemble
from les.dynamics.plan import Plan
from les.dynamics.run import run
from les.predict import predict
from les.spectra.field import HomogeneousField
from les.testing.adapter import Adapter, results_of
from les.testing.derivatives import force_by_differences
from les.testing.moments import CONSISTENT, PERMANENT
from les.testing.structures import crystal, dimer

#: [V/A]
FIELD = np.array([0.2, -0.3, 0.1])

#: What may respond to a field, or not: settings of LES.
CHARGES: dict[str, Any] = {}
EQUILIBRATED = {"charge_equilibration": True}
POLARISABLE = {x: CONSISTENT[x] for x in CONSISTENT if x != "use_induced_charge"}
FIELD_VARIANTS = {
    "charges": CHARGES,
    "equilibrated": EQUILIBRATED,
    "permanent": PERMANENT,
    "polarisable": POLARISABLE,
    "self-consistent": CONSISTENT,
}
#: Those whose charges respond, which crystals in a field cannot have.
FLOWING = ("equilibrated", "self-consistent")


def placed_in(atoms: Atoms, field: Any) -> Atoms:
    """The same structure in a ``field`` ``[3]`` [V/A]."""
    atoms = atoms.copy()
    atoms.info["external_field"] = np.array(field, dtype=np.float64)
    return atoms


class ExternalFieldTests(Adapter):
    """Tests of an adapter whose models have the setting ``external_field``."""

    #: Names of the variants that the adapter has, of :data:`FIELD_VARIANTS`.
    variants: ClassVar[tuple[str, ...]] = tuple(FIELD_VARIANTS)

    @pytest.fixture
    def in_field(self) -> Callable[..., Any]:
        """``in_field(settings, **options)``: a calculator of a model with ``external_field``.

        ``settings`` are others of LES, ``sign`` ``"trained"`` and ``neutrality`` ``"shift"`` among
        them; weights are random, and charges large enough to be seen.
        """
        raise NotImplementedError("define the fixture `in_field`")

    @pytest.fixture
    def variant(self, request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
        name = request.param
        if name not in self.variants:
            pytest.skip("the adapter has no such models")
        return name, FIELD_VARIANTS[name]

    every_variant = pytest.mark.parametrize("variant", FIELD_VARIANTS, indirect=True)

    @every_variant
    def test_molecules(self, in_field: Callable[..., Any], variant: Any) -> None:
        """Forces are derivatives of the energy in the field, and so is the dipole."""
        calc, atoms = in_field(variant[1]), placed_in(dimer(), FIELD)
        results = results_of(calc, atoms)
        assert results["energies"].sum() == pytest.approx(results["energy"], abs=1e-9)
        for atom, axis in ((0, 1), (4, 2)):
            expected = force_by_differences(calc, atoms, atom, axis)
            assert results["forces"][atom, axis] == pytest.approx(expected, rel=0, abs=1e-7)
        for axis in range(3):
            step = 1e-3 * np.eye(3)[axis]
            energies = [
                results_of(calc, placed_in(atoms, FIELD + sign * step))["energy"]
                for sign in (1.0, -1.0)
            ]
            slope = (energies[1] - energies[0]) / 2e-3
            assert slope == pytest.approx(results["dipole"][axis], rel=0, abs=1e-7)
        without = results_of(calc, placed_in(atoms, np.zeros(3)))
        assert np.abs(results["forces"] - without["forces"]).max() > 1e-4
        responds = variant[0] not in ("charges", "permanent")
        change = np.abs(results["dipole"] - without["dipole"]).max()
        assert change > 1e-4 if responds else change == pytest.approx(0.0, abs=1e-9)

    @every_variant
    def test_crystals(self, in_field: Callable[..., Any], variant: Any) -> None:
        """Forces depend on no images and begin with Born effective charges; there is no energy."""
        name, settings = variant
        calc, atoms = in_field(settings), placed_in(crystal("triclinic"), FIELD)
        if name in FLOWING:
            with pytest.raises(ValueError, match=r"is periodic and in an external field: charges"):
                calc.calculate(atoms)
            return
        forces = results_of(calc, atoms)["forces"]
        assert not {"energy", "free_energy", "energies", "stress"} & set(calc.results)
        atoms.calc = calc
        with pytest.raises(PropertyNotImplementedError, match="has no energy: it depends on the b"):
            atoms.get_potential_energy()
        moved = atoms.copy()
        moved.positions[3] += moved.cell[0] - moved.cell[2]
        np.testing.assert_allclose(results_of(calc, moved)["forces"], forces, rtol=0, atol=1e-9)
        doubled = results_of(calc, atoms.repeat((1, 2, 1)))["forces"]
        np.testing.assert_allclose(doubled, np.tile(forces, (2, 1)), rtol=0, atol=1e-8)
        spread = in_field(settings, bec=True, acoustic_sum="spread")
        born = results_of(spread, placed_in(atoms, np.zeros(3)))
        expected = born["born_effective_charges"].reshape(-1, 3, 3)
        for axis in range(3):
            step = 1e-3 * np.eye(3)[axis]
            both = [results_of(calc, placed_in(atoms, x * step))["forces"] for x in (1.0, -1.0)]
            slope = (both[0] - both[1]) / 2e-3
            np.testing.assert_allclose(slope, expected[:, axis], rtol=0, atol=1e-6)

    @pytest.mark.parametrize("variant", ["charges", "permanent"], indirect=True)
    def test_net_forces_on_crystals(self, in_field: Callable[..., Any], variant: Any) -> None:
        """They are the total charge times the field, beside molecules as well."""
        calc = in_field(variant[1])
        batch = [
            placed_in(crystal("triclinic"), FIELD),
            placed_in(dimer(), -FIELD),
            placed_in(crystal("cubic"), 2.0 * FIELD),
        ]
        for charge, atoms in zip((0.0, 1.0, -2.0), batch, strict=True):
            atoms.info["charge"] = charge
        for atoms, results in zip(batch, calc.calculate_together(batch), strict=True):
            expected = atoms.info["charge"] * atoms.info["external_field"]
            np.testing.assert_allclose(results["forces"].sum(axis=0), expected, rtol=0, atol=1e-9)

    def test_dynamics_of_crystals(self, in_field: Callable[..., Any], tmp_path: Path) -> None:
        """It is refused before anything is written: there is no energy to be kept."""
        atoms = placed_in(crystal("triclinic"), FIELD)
        plan = Plan(Ensemble("nve", 1.0), n_steps=1, every=1, temperature=10.0)
        with pytest.raises(ValueError, match=r"has no energy that dynamics keeps: .* Take the fie"):
            run(in_field(CHARGES), atoms, plan, tmp_path)
        assert not list(tmp_path.iterdir())

    def test_predictions_of_crystals(
        self, in_field: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """That they have no energy is said."""
        path, output = tmp_path / "structures.xyz", tmp_path / "predictions.xyz"
        write(path, [placed_in(x, FIELD) for x in (dimer(), crystal("triclinic"))])
        predict(in_field(CHARGES), path, output)
        told = f"1 of 2 structures of {path} are periodic and in an external field: their energy "
        assert told in caplog.text
        assert "is left out, their forces are written" in caplog.text
        molecule, periodic = read(output, ":")
        assert "LES_energy" in molecule.info
        assert "LES_energy" not in periodic.info
        assert "LES_forces" in periodic.arrays

    def test_batches(self, in_field: Callable[..., Any]) -> None:
        """Structures with and without a field, molecules and crystals."""
        calc = in_field(CHARGES)
        batch = [
            placed_in(dimer(), FIELD),
            crystal("triclinic"),
            placed_in(crystal("cubic"), -FIELD),
            dimer(),
        ]
        found = list(calc.calculate_together(batch))
        for atoms, results in zip(batch, found, strict=True):
            alone = results_of(in_field(CHARGES), atoms)
            assert ("energy" in results) == ("energy" in alone)
            for key in ("energy", "les_energy", "energies", "forces", "charges", "dipole"):
                if key in alone:
                    np.testing.assert_allclose(results[key], alone[key], rtol=0, atol=1e-8)
        assert [("energy" in results) for results in found] == [True, True, False, True]

    def test_single_precision(self, in_field: Callable[..., Any]) -> None:
        for atoms in (placed_in(dimer(), FIELD), placed_in(crystal("triclinic"), FIELD)):
            expected = results_of(in_field(CHARGES), atoms)["forces"]
            forces = results_of(in_field(CHARGES, dtype="float32"), atoms)["forces"]
            assert forces.dtype == self.single_dtype
            scale = np.abs(expected).max()
            np.testing.assert_allclose(forces, expected, rtol=0, atol=1e-4 * scale)

    def test_ions(self, in_field: Callable[..., Any]) -> None:
        """Their energy depends on the origin, their forces do not."""
        calc, atoms = in_field(CHARGES), placed_in(dimer(), FIELD)
        atoms.info["charge"] = 2
        before = results_of(calc, atoms)
        step = np.array([1.0, 2.0, -1.5])
        atoms.positions += step
        after = results_of(calc, atoms)
        assert after["energy"] - before["energy"] == pytest.approx(-2.0 * FIELD @ step, abs=1e-8)
        np.testing.assert_allclose(after["forces"], before["forces"], rtol=0, atol=1e-9)

    def test_homogeneous_field(self, in_field: Callable[..., Any]) -> None:
        """Of charges that do not respond it is what the calculator of any model adds."""
        calc, atoms = in_field(CHARGES, bec=True), dimer()
        expected = results_of(HomogeneousField(calc, FIELD), atoms)
        results = results_of(in_field(CHARGES), placed_in(atoms, FIELD))
        assert results["energy"] == pytest.approx(expected["energy"], abs=1e-8)
        np.testing.assert_allclose(results["forces"], expected["forces"], rtol=0, atol=1e-8)
        with pytest.raises(ValueError, match="which the model itself takes"):
            HomogeneousField(calc, FIELD).calculate(placed_in(atoms, FIELD))

    def test_a_field_that_changes(self, in_field: Callable[..., Any]) -> None:
        atoms = dimer()
        atoms.calc = in_field(CHARGES)
        without = atoms.get_potential_energy()
        atoms.info["electric_field"] = FIELD
        assert abs(atoms.get_potential_energy() - without) > 1e-4

    @pytest.mark.parametrize(
        ("field", "message"),
        [
            ([0.1, 0.2], "external_field must be three finite numbers, a field in V/A"),
            ([0.1, 0.2, np.nan], "external_field must be three finite numbers, a field in V/A"),
            ([0.0, 0.0, 1e4], "external_field must be a field in V/A"),
        ],
    )
    def test_bad_fields(
        self, in_field: Callable[..., Any], field: list[float], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            in_field(CHARGES).calculate(placed_in(dimer(), field))
