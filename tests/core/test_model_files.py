"""Files of torch: what is whole and plain loads, everything else is refused in words."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from les.backends.model_files import (
    EARLIER,
    PickleRefusedError,
    check_file,
    check_parts,
    load_plain,
)

CONTENT = {"weights": torch.arange(40.0), "settings": {"sigma": 1.0, "name": "water"}}


class Code:
    """A pickle of it writes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def saved(content, path, **options):
    torch.save(content, path, **options)
    return path


@pytest.fixture
def model(tmp_path):
    return saved(CONTENT, tmp_path / "model.pt")


def same(content):
    return torch.equal(content["weights"], CONTENT["weights"]) and (
        content["settings"] == CONTENT["settings"]
    )


def test_plain_content(model):
    assert same(load_plain(model, "model"))
    assert same(load_plain(str(model), "model", allow_pickle=True))


def test_tensors_come_on_the_cpu(model):
    assert load_plain(model, "model")["weights"].device.type == "cpu"


@pytest.mark.parametrize("kept", [0, 1, 30, 500, -1])
def test_truncated(model, kept):
    model.write_bytes(model.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"model\.pt") as caught:
        load_plain(model, "MACE model")
    assert "MACE model" in str(caught.value)
    assert "pickle" not in str(caught.value)


def test_changed_weights(model):
    """Torch itself loads such a file without a word."""
    data = bytearray(model.read_bytes())
    start = data.find(CONTENT["weights"].numpy().tobytes())
    assert start > 0
    data[start + 8 : start + 12] = b"\0\0\0\x41"
    model.write_bytes(data)
    assert not same(torch.load(model, weights_only=True))
    with pytest.raises(ValueError, match=r"model\.pt is damaged: the checksum of its part"):
        load_plain(model, "model")


@pytest.mark.parametrize("start", range(7))
def test_no_changed_byte_changes_the_content(model, start):
    """What is not noticed is not of the content."""
    data = model.read_bytes()
    for place in range(start, len(data), 49):
        model.write_bytes(data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :])
        message = ""
        try:
            assert same(load_plain(model, "model"))
        except ValueError as error:
            message = str(error)
        assert "pickle" not in message
        assert message == "" or str(model) in message


def test_pickles_need_consent(tmp_path):
    touched = tmp_path / "touched"
    for earlier in (False, True):
        path = tmp_path / "pickle.pt"
        saved(Code(touched), path, _use_new_zipfile_serialization=not earlier)
        with pytest.raises(PickleRefusedError, match=r"pickle\.pt is a pickle.*allow_pickle=True"):
            load_plain(path, "model")
        assert not touched.exists()
    load_plain(path, "model", allow_pickle=True)
    assert touched.exists()


def test_scripts_need_consent(tmp_path):
    path = tmp_path / "script.pt"
    torch.jit.script(torch.nn.Linear(2, 2)).save(path)
    with pytest.raises(PickleRefusedError, match=r"script\.pt holds TorchScript.*--allow-pickle"):
        load_plain(path, "model")


def test_files_of_earlier_releases_of_torch(tmp_path):
    path = saved(CONTENT, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    assert data.startswith(EARLIER)
    assert same(load_plain(path, "model"))
    operand = len(EARLIER) + 2
    changed = data[:operand] + b"\xff" + data[operand + 1 :]
    for damaged in (data[: len(data) // 2], data[:-5], changed):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"old\.pt is truncated or damaged") as caught:
            load_plain(path, "model")
        assert not isinstance(caught.value, PickleRefusedError)


@pytest.mark.parametrize("allow_pickle", [False, True])
def test_files_of_others(tmp_path, allow_pickle):
    path = tmp_path / "other.pt"
    for write in (
        lambda: path.write_text("[model]\nsigma = 1.0\n"),
        lambda: path.write_bytes(pickle.dumps(Code(tmp_path / "touched"))),
        lambda: _archive(path),
    ):
        write()
        with pytest.raises(ValueError, match=r"other\.pt .*is no CACE model"):
            load_plain(path, "CACE model", allow_pickle=allow_pickle)
    assert not (tmp_path / "touched").exists()


def _archive(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "something else")


def test_a_class_that_is_gone(tmp_path):
    """With consent, what fails is named, not torch's advice."""
    import sys
    import types

    module = types.ModuleType("gone")
    module.Gone = type("Gone", (), {"__module__": "gone"})
    sys.modules["gone"] = module
    path = saved(module.Gone(), tmp_path / "gone.pt")
    del sys.modules["gone"]
    with pytest.raises(ValueError, match=r"gone\.pt cannot be loaded as a model: ModuleNotFound"):
        load_plain(path, "model", allow_pickle=True)


def test_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no model file .*none\.pt"):
        load_plain(tmp_path / "none.pt", "model")
    with pytest.raises(ValueError, match=r"must be a model file, got a folder"):
        load_plain(tmp_path, "model")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all")
def test_may_not_be_read(model):
    model.chmod(0)
    with pytest.raises(PermissionError, match=r"model\.pt"):
        load_plain(model, "model")


def test_parts():
    check_parts(CONTENT, ["weights", "settings"], "model.pt", "model")
    with pytest.raises(
        ValueError, match=r"a\.pt is no model: it lacks 'bias' \(it holds 'weights'"
    ):
        check_parts(CONTENT, ["weights", "bias"], "a.pt", "model")
    with pytest.raises(ValueError, match=r"a\.pt is no model: it lacks 'bias' \(it holds nothing"):
        check_parts({}, ["bias"], "a.pt", "model")
    with pytest.raises(ValueError, match=r"a\.pt is no model: it holds a list"):
        check_parts([1], ["weights"], "a.pt", "model")


@pytest.mark.parametrize("suffix", [".zip", ".pt2"])
def test_archives_that_torch_writes_by_other_means(suffix, tmp_path):
    """Packages and compiled programs have no part of ``torch.save``, but checksums."""
    path = tmp_path / f"model{suffix}"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/code.py", "pass\n" * 100)
    assert check_file(path, "model") == (True, False)
    content = bytearray(path.read_bytes())
    content[100] ^= 255
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged: the checksum of its part 'model/code.py'"):
        check_file(path, "model")
