"""Tests: dipoles, quadrupoles and induced moments that a model reads off its features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress

from les.backends.committee import Committee
from les.engines.potential import DividedPotential
from les.ewald import Ewald
from les.multipoles import checked_moments, multipole_energies
from les.spectra.polarisability import polarisability
from les.testing.adapter import Adapter, assert_close, results_of
from les.testing.derivatives import (
    born_by_differences,
    force_by_differences,
    stress_by_differences,
)
from les.testing.fragments import in_fragments
from les.testing.structures import ROTATION, crystal, dimer, rotated, structures

#: Makes a calculator of a model with these settings of LES, and options of the calculator.
MomentFactory = Callable[..., Any]

PERMANENT = {"use_dipole": True, "use_quadrupole": True}
ONE_STEP = {
    **PERMANENT,
    "use_induced_dipole": True,
    "use_anisotropic_polarizability": True,
}
CONSISTENT = {**ONE_STEP, "use_induced_charge": True, "self_consistent": True}
VARIANTS = {"permanent": PERMANENT, "one step": ONE_STEP, "self-consistent": CONSISTENT}

#: A reflection after a rotation.
IMPROPER = np.diag([1.0, -1.0, 1.0]) @ ROTATION


class MomentTests(Adapter):
    """Tests of an adapter with the fixtures below, for models that have vectors and tensors."""

    @pytest.fixture
    def with_moments(self) -> MomentFactory:
        """``with_moments(settings, **options)``: a calculator of a model with these ``settings``.

        The model has random weights, moments and responses that are large enough to be seen, and
        ``sign`` ``"trained"``.
        """
        raise NotImplementedError("define the fixture `with_moments`")

    @pytest.fixture
    def with_scalars_only(self) -> Callable[[dict[str, Any]], Any]:
        """A function that makes a model with these settings of LES, and only scalar features."""
        raise NotImplementedError("define the fixture `with_scalars_only`")

    @pytest.fixture
    def reloaded(self) -> Callable[[Any], Any]:
        """A function that saves a calculator's model to a file and loads it from there."""
        raise NotImplementedError("define the fixture `reloaded`")

    @pytest.mark.parametrize("variant", VARIANTS)
    @pytest.mark.parametrize("name", ["open", "triclinic"])
    def test_derivatives_and_symmetry(
        self, with_moments: MomentFactory, variant: str, name: str
    ) -> None:
        calc, atoms = with_moments(VARIANTS[variant]), structures()[name]
        results = results_of(calc, atoms)
        assert results["energies"].sum() == pytest.approx(results["energy"], abs=1e-9)
        expected = force_by_differences(calc, atoms, 4, 2)
        assert results["forces"][4, 2] == pytest.approx(expected, rel=0, abs=self.force_tolerance)
        if name == "triclinic":
            strain = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
            stress = (voigt_6_to_full_3x3_stress(results["stress"]) * strain).sum()
            expected = stress_by_differences(calc, atoms, strain)
            assert stress == pytest.approx(expected, rel=0, abs=3.0 * self.stress_tolerance)
        turned = results_of(calc, rotated(atoms, IMPROPER))
        for key in ("energy", "charges"):
            assert_close(turned[key], results[key], self.rounding)
        for key in ("forces", "dipole", "atomic_dipoles"):
            assert_close(turned[key], results[key] @ IMPROPER.T, self.rounding)
        matrices = ["atomic_quadrupoles", *["atomic_polarisabilities"] * (variant != "permanent")]
        for key in matrices:
            before, after = (x[key].reshape(-1, 3, 3) for x in (results, turned))
            assert np.abs(before - before.mean(axis=0)).max() > 1e-5
            assert_close(after, IMPROPER @ before @ IMPROPER.T, self.rounding)

    def test_energy_is_that_of_the_moments(self, with_moments: MomentFactory) -> None:
        calc, atoms = with_moments(PERMANENT), crystal("triclinic")
        results = results_of(calc, atoms)
        names = ("charges", "atomic_dipoles", "atomic_quadrupoles")
        charges, dipoles, quadrupoles = (torch.tensor(results[name]) for name in names)
        positions, cell = torch.tensor(atoms.positions), torch.tensor(atoms.cell[:])[None]
        moments = checked_moments(charges, positions, dipoles, quadrupoles.view(-1, 3, 3))
        settings = Ewald(**calc.les_config.sum_settings()).settings()
        energy = multipole_energies(settings, moments, positions, cell)[0].item()
        assert results["les_energy"] == pytest.approx(energy, rel=self.rounding)
        without = multipole_energies(settings, moments._replace(dipoles=None), positions, cell)
        assert abs(energy - without[0].item()) > 1e-6

    @pytest.mark.parametrize("variant", VARIANTS)
    def test_dipole_quadrupole_and_born_effective_charges(
        self, with_moments: MomentFactory, variant: str
    ) -> None:
        """The results include moments of atoms, induced moments among them."""
        calc, atoms = with_moments(VARIANTS[variant]), dimer()
        results = results_of(calc, atoms)
        charges, dipoles = results["charges"], results["atomic_dipoles"]
        total = charges @ atoms.positions + dipoles.sum(axis=0)
        np.testing.assert_allclose(results["dipole"], total, rtol=0, atol=1e-9)
        arms = atoms.positions - atoms.positions.mean(axis=0)
        product = dipoles.T @ arms
        second = np.einsum("i,ia,ib->ab", charges, arms, arms) + product + product.T
        second += results["atomic_quadrupoles"].sum(axis=0).reshape(3, 3)
        np.testing.assert_allclose(results["quadrupole"], second, rtol=0, atol=1e-8)
        with_bec = with_moments(VARIANTS[variant], bec=True)
        bec = results_of(with_bec, atoms)["born_effective_charges"].reshape(-1, 3, 3)
        expected = born_by_differences(calc, atoms, 4, 2)
        np.testing.assert_allclose(bec[4, :, 2], expected, rtol=0, atol=1e-6)
        np.testing.assert_allclose(bec.sum(axis=0), np.zeros((3, 3)), rtol=0, atol=1e-6)

    def test_born_effective_charges_of_a_crystal(self, with_moments: MomentFactory) -> None:
        """Born effective charges of dipoles are exact; induced charges have none."""
        atoms = crystal("triclinic")
        bec = results_of(with_moments(ONE_STEP, bec=True), atoms)["born_effective_charges"]
        doubled = atoms.repeat((1, 1, 2))
        twice = results_of(with_moments(ONE_STEP, bec=True), doubled)["born_effective_charges"]
        np.testing.assert_allclose(twice, np.tile(bec, (2, 1)), rtol=0, atol=1e-6)
        with pytest.raises(ValueError, match="is periodic: exact Born effective charges are not"):
            with_moments(CONSISTENT, bec=True).calculate(atoms)

    def test_a_batch_is_each_alone_and_files_keep_all(
        self, with_moments: MomentFactory, reloaded: Callable[[Any], Any]
    ) -> None:
        calc = with_moments(CONSISTENT)
        batch: list[Atoms] = [dimer(), crystal("triclinic")]
        alone = [results_of(reloaded(calc), atoms) for atoms in batch]
        for found, expected in zip(calc.calculate_together(batch), alone, strict=True):
            assert found.keys() >= {"atomic_dipoles", "charge_responses", "charges"}
            for key in found.keys() & expected.keys():
                np.testing.assert_allclose(found[key], expected[key], rtol=0, atol=1e-7)

    def test_single_precision(self, with_moments: MomentFactory) -> None:
        atoms = crystal("triclinic")
        expected = results_of(with_moments(CONSISTENT), atoms)
        results = results_of(with_moments(CONSISTENT, dtype="float32"), atoms)
        for key in ("les_energy", "forces", "charges", "atomic_dipoles", "atomic_polarisabilities"):
            scale = np.abs(expected[key]).max()
            np.testing.assert_allclose(results[key], expected[key], rtol=0, atol=1e-4 * scale)

    def test_fragments_are_refused(self, with_moments: MomentFactory) -> None:
        calc = with_moments({**PERMANENT, "neutrality": "shift"})
        with pytest.raises(ValueError, match=r"has fragments \('fragment'\), .*`use_dipole`"):
            calc.calculate(in_fragments(dimer()))

    def test_polarisability(self, with_moments: MomentFactory) -> None:
        calc, atoms = with_moments(CONSISTENT), dimer()
        found = polarisability(calc, atoms)
        np.testing.assert_allclose(found, found.T, rtol=0, atol=1e-8)
        assert np.linalg.eigvalsh(found).min() > 0.0
        turned = polarisability(calc, rotated(atoms, ROTATION))
        np.testing.assert_allclose(turned, ROTATION @ found @ ROTATION.T, rtol=0, atol=1e-7)
        with pytest.raises(ValueError, match="`strength` has no effect with `self_consistent`"):
            polarisability(calc, atoms, strength=0.01)

    def test_committee(self, with_moments: MomentFactory) -> None:
        """Moments change sign with the charges."""
        plain, atoms = with_moments(ONE_STEP), dimer()
        results = results_of(plain, atoms)
        opposite = results_of(with_moments(ONE_STEP, sign=-1), atoms)
        for key in ("charges", "dipole", "quadrupole", "atomic_dipoles", "atomic_quadrupoles"):
            np.testing.assert_array_equal(opposite[key], -results[key])
        key = "atomic_polarisabilities"
        np.testing.assert_array_equal(opposite[key], results[key])
        both = Committee([plain, with_moments(ONE_STEP, sign=-1)])
        mean = results_of(both, atoms)
        for key in ("atomic_dipoles", "atomic_quadrupoles", "atomic_polarisabilities"):
            np.testing.assert_allclose(np.abs(mean[key]), np.abs(results[key]), atol=1e-12)

    def test_ranks_are_refused(self, with_moments: MomentFactory) -> None:
        with pytest.raises(ValueError, match="`use_dipole` = True cannot be divided among ranks"):
            DividedPotential(with_moments(PERMANENT).short_range_part(), Mock())

    @pytest.mark.parametrize(
        ("settings", "kind"),
        [
            ({"use_dipole": True}, r"vectors \(1o\)"),
            ({"use_quadrupole": True}, r"tensors \(2e\)"),
            (
                {"use_induced_dipole": True, "use_anisotropic_polarizability": True},
                r"tensors \(2e\)",
            ),
        ],
    )
    def test_a_model_without_such_features(
        self, with_scalars_only: Callable[[dict[str, Any]], Any], settings: Any, kind: str
    ) -> None:
        name = list(settings)[-1]
        with pytest.raises(ValueError, match=f"`{name}` needs features of atoms that are {kind}"):
            with_scalars_only(settings)
        with_scalars_only({"use_induced_dipole": True})
