"""What NequIP and Allegro declare not to work."""

from __future__ import annotations

import pytest

from les.testing import FeatureTests
from les_nequip import LESCalculator
from les_nequip.backend import AllegroBackend, NequIPBackend

pytestmark = pytest.mark.usefixtures("nequip_state")


class TestWhatWorks(FeatureTests):
    backend = NequIPBackend()
    calculator_class = LESCalculator
    test_no_compiled_models = test_no_compiled_training = test_no_lammps = None
    test_no_field = test_no_moments = test_no_induced = None

    @pytest.fixture
    def model_file(self, nequip_section, nequip_model, nequip_checkpoint, tmp_path):
        path = tmp_path / "model.ckpt"
        return nequip_checkpoint(path, nequip_section(les={}), nequip_model(les={}))

    @pytest.mark.parametrize("kind", ["nequip", "allegro"])
    def test_no_channels(self, kind, nequip_model):
        with pytest.raises(Exception, match="n_channels"):  # which hydra wraps
            nequip_model(kind, les={"n_channels": 4})

    def test_no_torchscript(self, tmp_path):
        path = tmp_path / "model.nequip.pth"
        path.write_bytes(b"PK")
        with pytest.raises(ValueError, match=r"is TorchScript; compile .* --mode aotinductor"):
            self.backend.calculator(path)

    def test_allegro_is_the_same(self):
        assert AllegroBackend.features == self.backend.features
