"""What an adapter provides for the shared tests."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from les.ewald import Ewald

#: Makes a calculator from the keywords named in :class:`Adapter`.
CalculatorFactory = Callable[..., Any]


def calculators_of(
    calculator_class: Callable[..., Any],
    model: Any,
    scale_charges: Callable[[Any, float], None],
    **always: Any,
) -> CalculatorFactory:
    """What the fixture ``calculator`` of :class:`Adapter` gives, of copies of a model.

    Args:
        calculator_class: the adapter's calculator.
        model: its model.
        scale_charges: multiplies the charges of a model by a factor.
        always: arguments of all calculators.
    """

    def make(dtype: str = "float64", zero_charges: bool = False, **options: Any) -> Any:
        own = copy.deepcopy(model)
        if zero_charges:
            scale_charges(own, 0.0)
        return calculator_class(own, dtype=dtype, **always, **options)

    return make


class Adapter:
    """The fixtures that an adapter's tests define.

    All of them belong to one small model for H and O with random weights, a cutoff of 3 to
    6 A, and charges large enough for a long-range energy of at least 1 meV per atom. Its
    periodic sum has the smooth cutoff.
    """

    #: Largest allowed deviation from finite differences, float64 [eV/A, eV/A^3].
    force_tolerance = 1e-7
    stress_tolerance = 1e-8
    #: Largest allowed relative effect of symmetry operations and batching, float64.
    rounding = 1e-9
    #: Largest allowed difference between float32 and float64 [eV/atom, eV/A].
    single_precision = 2e-5
    #: Distance within which an atom changes the charges of others [A].
    receptive_field = 8.0
    #: Type of the forces from a calculator in float32.
    single_dtype: type = np.float32

    @pytest.fixture
    def calculator(self) -> CalculatorFactory:
        """``calculator(dtype="float64", zero_charges=False, bec=False, ...)`` makes a calculator.

        All calculators have the same weights; with ``zero_charges``, the weights of the charge
        readout are zero.
        Further options are those of ``les.backends.calculator.ChargeCalculator``.
        """
        raise NotImplementedError("define the fixture `calculator`")

    @pytest.fixture
    def upstream_calculator(self) -> CalculatorFactory:
        """``upstream_calculator(dtype="float64")``: upstream's own short-range calculator.

        Its weights are those of ``calculator`` without the charge readout.
        """
        raise NotImplementedError("define the fixture `upstream_calculator`")

    @pytest.fixture
    def reloaded_calculator(self) -> Any:
        """A calculator of the same model, saved to a file and loaded from it."""
        raise NotImplementedError("define the fixture `reloaded_calculator`")

    @pytest.fixture
    def predict_batch(self) -> Callable[[Sequence[Atoms]], dict[str, Any]]:
        """A function that evaluates structures as one batch, in float64.

        It returns ``energy`` and ``les_energy`` ``[n_structures]`` and ``forces``, ``charges``
        of all atoms, one structure after the other.
        """
        raise NotImplementedError("define the fixture `predict_batch`")

    @pytest.fixture
    def ewald(self) -> Ewald:
        """The sum of the model, for charges as they are reported in the results."""
        raise NotImplementedError("define the fixture `ewald`")


def model_of(calculator: Any) -> Any:
    """The model of a calculator, also of upstream's that can have several."""
    model = getattr(calculator, "model", None)
    return model if model is not None else calculator.models[0]


def results_of(calculator: Any, atoms: Atoms) -> dict[str, Any]:
    """All results for ``atoms``, computed anew."""
    calculator.calculate(atoms)
    return dict(calculator.results)


def assert_close(actual: Any, expected: Any, rounding: float) -> None:
    """Equal up to ``rounding``, relative to the largest number or absolute below 1."""
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(actual, expected, rtol=0.0, atol=rounding * scale)
