"""What a command may write, and what it must not destroy."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from les.targets import check_target


@pytest.fixture
def there(tmp_path):
    path = tmp_path / "there.xyz"
    path.write_text("an earlier result")
    return path


def test_new_files(tmp_path):
    check_target(tmp_path / "new.xyz", [tmp_path / "input.xyz"])


def test_what_is_there_needs_force(there):
    with pytest.raises(ValueError, match=r"there.xyz exists already; .*--force"):
        check_target(there)
    check_target(there, force=True)


def test_links_are_followed(there, tmp_path):
    link = tmp_path / "link.xyz"
    link.symlink_to(there)
    with pytest.raises(ValueError, match=r"link\.xyz exists already"):
        check_target(link)
    link.unlink()
    link.symlink_to(tmp_path / "nowhere" / "new.xyz")
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere"):
        check_target(link)
    link.unlink()
    link.symlink_to(tmp_path / "new.xyz")
    check_target(link)


@pytest.mark.parametrize("make", [Path.symlink_to, Path.hardlink_to])
def test_inputs_are_never_replaced(there, make, tmp_path):
    other = tmp_path / "other.xyz"
    make(other, there)
    for target, given in ((there, there), (other, there), (there, other)):
        with pytest.raises(ValueError, match="is what is read"):
            check_target(target, [tmp_path / "absent", given], force=True)


@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_only_regular_files(kind, tmp_path):
    path = tmp_path / "out.xyz"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/null")
    with pytest.raises(ValueError, match="is a folder" if kind == "folder" else "no regular file"):
        check_target(path, force=True)


def test_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere to write out\.xyz to"):
        check_target(tmp_path / "nowhere" / "out.xyz")


@pytest.mark.parametrize(
    ("protected", "message"),
    [("there.xyz", "there.xyz is write-protected"), ("", "folder .* must be writable to write")],
)
def test_missing_permissions(there, tmp_path, monkeypatch, protected, message):
    """Known before anything is computed; the system is not asked, as root may write anywhere."""
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path / protected)
    with pytest.raises(PermissionError, match=message):
        check_target(there, force=True)
