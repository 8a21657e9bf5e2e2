"""Tests: the options, files and refusals that ``les train`` has in common for its own backends."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from ase.io import read, write

from les.backends import get_backend


class TrainingTests:
    """Tests of backends with the options of ``les.training.arguments.TrainingParser``.

    They use fixtures of the adapter's tests: ``backend_name``; ``arguments(folder, **changes)``,
    the arguments of a short training called "small"; ``train(*arguments)``, which must succeed;
    ``refused(*arguments)`` and ``usage_error(*arguments)``, the message of what must fail;
    ``damaged_checkpoints_are_refused(path, *arguments)``; and ``data_files``, extxyz files to train
    on and to validate with, which have ``REF_energy`` and ``REF_forces``.
    """

    #: End of the names of files with weights.
    suffix: ClassVar[str]

    def test_damaged_checkpoints(
        self,
        train: Callable[..., None],
        arguments: Callable[..., list[str]],
        damaged_checkpoints_are_refused: Callable[..., None],
        tmp_path: Path,
    ) -> None:
        options = ["--les", *arguments(tmp_path)]
        train(*options)
        damaged_checkpoints_are_refused(tmp_path / f"small_checkpoint{self.suffix}", *options)
        train(*options, "--resume")

    def test_one_way_to_say_it(
        self,
        train: Callable[..., None],
        arguments: Callable[..., list[str]],
        backend_name: str,
        data_files: tuple[Path, Path],
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Configurations by name or file, LES arguments as a mapping or a file, keys of labels."""
        caplog.set_level("INFO", logger="les")
        frames: Any = read(data_files[0], ":4")
        for frame in frames:
            frame.info["dft_energy"] = frame.info.pop("REF_energy")
            frame.arrays["forces"] = frame.arrays.pop("REF_forces")  # a plain key
        frames[1].info["total_charge"] = -1
        data = tmp_path / "plain.xyz"
        write(data, frames, format="extxyz", columns=["symbols", "positions", "forces"])
        (tmp_path / "les.yaml").write_text("sigma: 1.5\nneutrality: none\n")
        files = dict.fromkeys(("train_file", "valid_file"), data)
        options = {**files, "energy_key": "dft_energy", "config": "water", "device": "auto"}
        train("--les", *arguments(tmp_path / "one", **options, les_arguments=tmp_path / "les.yaml"))
        options = {
            **options,
            "config": f"{backend_name}/water",
            "les_arguments": "{sigma: 1.5, neutrality: none}",
        }
        train("--les", *arguments(tmp_path / "two", **options))
        models = [tmp_path / name / f"small{self.suffix}" for name in ("one", "two")]
        configs = [get_backend(backend_name).calculator(model).les_config for model in models]
        assert configs[0] == configs[1]
        assert (configs[0].sigma, configs[0].neutrality) == (1.5, "none")
        assert caplog.text.count("best model: ") == 2
        # Of the training and the validation file, and not again for the table at the end.
        told = f"1 of 4 structures of {data} have a total_charge other than 0"
        assert caplog.text.count(told) == 4

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"name": "../../x"}, "--name must be the start of file names"),
            ({"device": "cuda:99"}, r"`device` is cuda:99, but torch sees \w+ CUDA GPU here"),
        ],
    )
    def test_refused(
        self,
        changes: dict[str, str],
        message: str,
        refused: Callable[..., str],
        arguments: Callable[..., list[str]],
        tmp_path: Path,
    ) -> None:
        error = refused("--les", *arguments(tmp_path / "in" / "side", **changes))
        assert re.search(message, error), error
        assert not list(tmp_path.rglob(f"*{self.suffix}"))

    @pytest.mark.parametrize(
        ("option", "message"),
        [
            ("--config=watre", "there is no file watre, and no configuration 'watre'"),
            ("--les_arguments=none.yaml", "a YAML file of one, got 'none.yaml'"),
            ("--alow_pickle", "--allow_pickle"),
            ("--epoch=3", "--epochs"),
        ],
    )
    def test_mistyped(
        self,
        option: str,
        message: str,
        usage_error: Callable[..., str],
        arguments: Callable[..., list[str]],
        tmp_path: Path,
    ) -> None:
        assert message in usage_error("--les", *arguments(tmp_path), option)

    def test_one_key_in_all_files(
        self,
        refused: Callable[..., str],
        arguments: Callable[..., list[str]],
        data_files: tuple[Path, Path],
        tmp_path: Path,
    ) -> None:
        frames: Any = read(data_files[1], ":")
        for frame in frames:
            frame.info["energy"] = frame.info.pop("REF_energy")
        write(tmp_path / "plain.xyz", frames, format="extxyz")
        error = refused("--les", *arguments(tmp_path, valid_file=tmp_path / "plain.xyz"))
        assert re.search(
            "plain.xyz: frame 0 has the energy under 'energy', .*train.xyz: frame 0 under 'REF_en",
            error,
        ), error

    @pytest.mark.parametrize("consent", [[], ["--allow-pickle"]])
    def test_a_pickle_is_not_continued(
        self,
        consent: list[str],
        refused: Callable[..., str],
        arguments: Callable[..., list[str]],
        tmp_path: Path,
    ) -> None:
        """A pickled checkpoint is refused even with ``--allow-pickle``, which the message omits."""
        path = tmp_path / f"small_checkpoint{self.suffix}"
        torch.save({"model": torch.nn.Linear(1, 1)}, path)
        error = refused("--les", *arguments(tmp_path), "--resume", *consent)
        assert f"{path} is a pickle or a program, no state of a training" in error
        assert "allow" not in error

    def test_a_disk_that_is_full(
        self,
        refused: Callable[..., str],
        arguments: Callable[..., list[str]],
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        def fail(content: Any, path: Any) -> None:
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")

        monkeypatch.setattr(torch, "save", fail)
        error = refused("--no-les", *arguments(tmp_path))
        assert f"{tmp_path / f'small_best{self.suffix}'} could not be written completely" in error
        assert not list(tmp_path.glob("*.part"))
