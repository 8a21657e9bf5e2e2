"""What CACE declares not to work."""

from __future__ import annotations

import pytest
import torch

from les.testing import FeatureTests
from les_cace import CACE, LESCalculator, load_model, save_model
from les_cace.backend import CACEBackend


class TestWhatWorks(FeatureTests):
    backend = CACEBackend()
    calculator_class = LESCalculator
    test_no_published = test_no_compiled_models = test_no_lammps = None

    @pytest.fixture
    def model(self, small):
        torch.manual_seed(6)
        return CACE(small, {"sigma": 1.0})

    @pytest.fixture
    def model_file(self, model, tmp_path):
        save_model(model, tmp_path / "model.cace.pt")
        return tmp_path / "model.cace.pt"

    def test_no_foundation(self):
        with pytest.raises(FileNotFoundError, match="universal"):
            load_model("universal")

    def test_no_moments(self, small):
        with pytest.raises(ValueError, match="`use_dipole` has no effect on this model"):
            CACE(small, {"use_dipole": True})

    def test_no_induced(self, small):
        with pytest.raises(ValueError, match="`use_induced_dipole` has no effect on this model"):
            CACE(small, {"use_induced_dipole": True})

    def test_no_torchscript(self, model):
        with pytest.raises(Exception, match="Unknown type annotation"):
            torch.jit.script(model)
