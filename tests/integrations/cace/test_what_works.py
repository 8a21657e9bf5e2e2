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
    test_no_published = test_no_compiled_models = test_no_lammps = test_no_channels = None

    @pytest.fixture
    def with_settings(self, small):
        torch.manual_seed(6)
        return lambda settings: CACE(small, {"sigma": 1.0, **settings})

    @pytest.fixture
    def model_file(self, with_settings, tmp_path):
        save_model(with_settings({}), tmp_path / "model.cace.pt")
        return tmp_path / "model.cace.pt"

    def test_no_foundation(self):
        with pytest.raises(FileNotFoundError, match="universal"):
            load_model("universal")
