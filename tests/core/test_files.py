"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from les.files import replacing


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_writes_a_new_file(tmp_path):
    path = tmp_path / "model.pt"
    with replacing(str(path)) as temporary:
        assert temporary.parent == tmp_path  # the same file system, so that the move is atomic
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert names(tmp_path) == ["model.pt"]


def test_the_old_file_stays_until_the_end(tmp_path):
    path = tmp_path / "model.pt"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failure_leaves_the_old_file_alone(error, tmp_path):
    path = tmp_path / "model.pt"
    path.write_text("old")
    with pytest.raises(error), replacing(path) as temporary:  # noqa: PT012
        temporary.write_text("half of the n")
        raise error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["model.pt"]


def test_failure_without_an_old_file(tmp_path):
    with pytest.raises(RuntimeError), replacing(tmp_path / "model.pt") as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise RuntimeError
    assert names(tmp_path) == []


def test_nothing_written_is_an_error(tmp_path):
    """Not an empty file, and not the loss of the old one."""
    path = tmp_path / "model.pt"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), replacing(path):
        pass
    assert path.read_text() == "old"


def test_two_files_at_once(tmp_path):
    """Suffixes are no part of the name: ``a.json`` and ``a.json.gz`` do not meet."""
    with replacing(tmp_path / "a.json") as first, replacing(tmp_path / "a.json.gz") as second:
        first.write_text("first")
        second.write_text("second")
    assert (tmp_path / "a.json").read_text() == "first"
    assert (tmp_path / "a.json.gz").read_text() == "second"


def test_processes_do_not_share_the_temporary_file(tmp_path):
    """The other process finishes first; the last one to finish wins, with a whole file."""
    path = tmp_path / "model.pt"
    program = (
        "import sys; from les.files import replacing\n"
        "with replacing(sys.argv[1]) as temporary: temporary.write_text('other')"
    )
    with replacing(path) as temporary:
        temporary.write_text("own")
        subprocess.run([sys.executable, "-c", program, str(path)], check=True)
        assert path.read_text() == "other"
        assert temporary.read_text() == "own"
    assert path.read_text() == "own"
    assert names(tmp_path) == ["model.pt"]


def test_content_is_on_the_disk_before_the_name_changes(tmp_path, monkeypatch):
    """Otherwise a loss of power may leave an empty file under the new name."""
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (calls.append("fsync"), fsync(file)))
    monkeypatch.setattr(os, "replace", lambda *paths: (calls.append("replace"), replace(*paths)))
    with replacing(tmp_path / "model.pt") as temporary:
        temporary.write_text("new")
    assert calls == ["fsync", "replace"]
