"""Tests: what a backend declares not to work is refused, ignored with a warning, or not there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from ase.io import write

from les.backends import Backend, BackendError
from les.backends.features import unsupported
from les.cli import main
from les.testing.structures import dimer, structures


class FeatureTests:
    """A test ``test_no_<feature>`` of each feature that a backend declares as missing.

    An adapter defines the fixture ``model_file``, and tests of features that are not tested here.
    It sets the tests of features that it has to ``None``.
    """

    backend: ClassVar[Backend]
    #: The adapter's calculator.
    calculator_class: ClassVar[type]

    @pytest.fixture
    def model_file(self) -> Path:
        """A file of a small model with LES for H and O, which loads without running code."""
        raise NotImplementedError("define the fixture `model_file`")

    @pytest.fixture
    def with_settings(self) -> Callable[[dict[str, Any]], Any]:
        """Makes a model with these settings of LES."""
        raise NotImplementedError("define the fixture `with_settings`")

    @pytest.fixture
    def predict(
        self, model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> Callable[..., tuple[int, str]]:
        """A function that returns the status of ``les predict`` and its error message."""

        def run(atoms: Any, *options: str) -> tuple[int, str]:
            write(tmp_path / "in.xyz", atoms, format="extxyz")
            files = [str(model_file), str(tmp_path / "in.xyz")]
            backend = ["--backend", self.backend.name, "--allow-pickle"]
            status = main(["predict", *files, *backend, *options, "-o", str(tmp_path / "out.xyz")])
            return status, capsys.readouterr().err

        return run

    def test_every_no_is_tested(self) -> None:
        tested = {
            name.removeprefix("test_no_")
            for name in dir(self)
            if name.startswith("test_no_") and getattr(self, name) is not None
        }
        assert tested == unsupported(self.backend.features)

    def test_no_wires(self, predict: Callable[..., tuple[int, str]]) -> None:
        atoms = structures()["cubic"]
        atoms.pbc = [False, False, True]
        status, error = predict(atoms)
        assert status == 1
        assert "frame 0: pbc must have 0" in error

    def test_no_field(
        self, predict: Callable[..., tuple[int, str]], caplog: pytest.LogCaptureFixture
    ) -> None:
        atoms = dimer()
        atoms.info.update(electric_field=[0.0, 0.0, 0.1], spin=2)
        assert predict(atoms)[0] == 0
        # Nor does a model that was not made for it know the spin.
        for name, usual in (("electric_field", "0"), ("spin", "0 or 1")):
            assert f"have a {name} other than {usual}, which this model cannot use" in caplog.text
        assert caplog.text.count("1 of 1 structures of") == 2
        assert "it has no effect" in caplog.text

    def test_no_heads(self, predict: Callable[..., tuple[int, str]]) -> None:
        status, error = predict(dimer(), "--head", "other")
        assert status == 1
        assert "head" in error

    def test_no_channels(self, with_settings: Callable[[dict[str, Any]], Any]) -> None:
        with pytest.raises(ValueError, match="n_channels"):
            with_settings({"n_channels": 4})

    def test_no_moments(self, with_settings: Callable[[dict[str, Any]], Any]) -> None:
        with pytest.raises(ValueError, match="`use_dipole` has no effect on this model"):
            with_settings({"use_dipole": True})

    def test_no_induced(self, with_settings: Callable[[dict[str, Any]], Any]) -> None:
        with pytest.raises(ValueError, match="`use_induced_dipole` has no effect on this model"):
            with_settings({"use_induced_dipole": True})

    def test_no_torchscript(self, with_settings: Callable[[dict[str, Any]], Any]) -> None:
        model = with_settings({})
        with pytest.raises(Exception, match="Unknown type annotation"):
            torch.jit.script(model)

    def test_no_hessian(self) -> None:
        assert not hasattr(self.calculator_class, "get_hessian")

    def test_no_published(self, tmp_path: Path) -> None:
        with pytest.raises(BackendError, match="has no published models to convert"):
            self.backend.convert(tmp_path / "a", tmp_path / "b")

    @pytest.mark.parametrize("keyword", ["compile", "compile_mode"])
    def test_no_compiled_models(self, keyword: str, model_file: Path) -> None:
        """Options that select compiled models in other backends and in upstreams are refused."""
        with pytest.raises(TypeError, match=f"got an unknown keyword `{keyword}`"):
            self.calculator_class(model_file, **{keyword: "default"})

    def test_no_compiled_training(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            main(["train", self.backend.name, "--les", "--help"])
        text = capsys.readouterr().out
        assert "--batch_size" in text
        assert "--compile" not in text

    def test_no_lammps(self, model_file: Path) -> None:
        """A model file is not what LAMMPS loads: TorchScript, or for ML-IAP a pickled object."""
        with pytest.raises(RuntimeError, match=r"constants\.pkl"):
            torch.jit.load(str(model_file))
        content = torch.load(model_file, map_location="cpu", weights_only=False)
        assert not callable(getattr(content, "compute_forces", None))
        with pytest.raises(ValueError, match="divided among ranks"):  # `les lammps`
            self.calculator_class(model_file).short_range_part()
