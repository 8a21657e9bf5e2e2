"""What CHGNet declares not to work."""

from __future__ import annotations

import pytest
import torch

from les.testing import FeatureTests
from les_chgnet import CHGNetLES, LESCalculator, save_model
from les_chgnet.backend import CHGNetBackend


class TestWhatWorks(FeatureTests):
    backend = CHGNetBackend()
    calculator_class = LESCalculator

    @pytest.fixture
    def model(self, short_range_model):
        return CHGNetLES.from_short_range(short_range_model)

    @pytest.fixture
    def model_file(self, model, tmp_path):
        save_model(model, tmp_path / "model.pth.tar")
        return tmp_path / "model.pth.tar"

    def test_no_channels(self, short_range_model):
        with pytest.raises(ValueError, match="n_channels"):
            CHGNetLES.from_short_range(short_range_model, {"n_channels": 4})

    def test_no_moments(self, short_range_model):
        with pytest.raises(ValueError, match="`use_dipole` has no effect on this model"):
            CHGNetLES.from_short_range(short_range_model, {"use_dipole": True})

    def test_no_induced(self, short_range_model):
        with pytest.raises(ValueError, match="`use_induced_dipole` has no effect on this model"):
            CHGNetLES.from_short_range(short_range_model, {"use_induced_dipole": True})

    def test_no_torchscript(self, model):
        with pytest.raises(Exception, match="Unknown type annotation"):
            torch.jit.script(model)
