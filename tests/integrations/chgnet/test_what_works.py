"""What CHGNet declares not to work."""

from __future__ import annotations

import functools

import pytest

from les.testing import FeatureTests
from les_chgnet import CHGNetLES, LESCalculator, save_model
from les_chgnet.backend import CHGNetBackend


class TestWhatWorks(FeatureTests):
    backend = CHGNetBackend()
    calculator_class = LESCalculator

    @pytest.fixture
    def with_settings(self, short_range_model):
        return functools.partial(CHGNetLES.from_short_range, short_range_model)

    @pytest.fixture
    def model_file(self, with_settings, tmp_path):
        save_model(with_settings({}), tmp_path / "model.pth.tar")
        return tmp_path / "model.pth.tar"
