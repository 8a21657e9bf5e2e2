"""What MACE declares not to work."""

from __future__ import annotations

import functools

import mace  # noqa: F401  (before e3nn)
import pytest

from les.testing import FeatureTests
from les_mace import MACELES, LESCalculator, save_model
from les_mace.backend import MACEBackend


class TestWhatWorks(FeatureTests):
    backend = MACEBackend()
    calculator_class = LESCalculator
    test_no_field = test_no_heads = test_no_hessian = test_no_published = test_no_lammps = None
    test_no_moments = test_no_induced = test_no_torchscript = None

    @pytest.fixture
    def with_settings(self, short_range_model):
        return functools.partial(MACELES.from_short_range, short_range_model)

    @pytest.fixture
    def model_file(self, model, tmp_path):
        save_model(model, tmp_path / "model.pt")
        return tmp_path / "model.pt"

    def test_no_compiled_models(self, model):
        with pytest.raises(ValueError, match="`compile_mode` is not supported for models with LES"):
            LESCalculator(model, compile_mode="default")
