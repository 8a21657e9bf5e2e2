"""Files that appear whole or not at all."""

from __future__ import annotations

import hashlib
import os
import resource
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from les.files import checksum, remove_unfinished, replacing, writing


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("size", [0, 3, 2**20, 2**20 + 1])
def test_checksum(size, tmp_path):
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    expected = hashlib.sha256(content).hexdigest()
    assert checksum(tmp_path / "file") == checksum(str(tmp_path / "file")) == expected


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


def test_what_a_killed_process_has_left(tmp_path):
    program = (
        "import os, sys; from les.files import replacing\n"
        "with replacing(sys.argv[1]) as temporary: temporary.write_text('half'); os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "model.pt")], check=False)
    (left,) = names(tmp_path)
    others = ["model.pt.1.part", "other.pt.1.0123abcd.part", "model.pt"]
    for name in others:
        (tmp_path / name).touch()
    remove_unfinished(tmp_path / "other")
    assert names(tmp_path) == sorted([left, *others])
    remove_unfinished(tmp_path / "model.pt")
    assert names(tmp_path) == sorted(others)


# --- what is at the place already


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666])
def test_permissions_stay(mode, tmp_path):
    path = tmp_path / "model.pt"
    path.write_text("old")
    path.chmod(mode)
    with replacing(path) as temporary:
        assert temporary.stat().st_mode & 0o077 == 0  # nor may others read what is being written
        temporary.write_text("new")
    assert path.stat().st_mode & 0o777 == mode


def test_permissions_of_a_new_file_are_the_usual_ones(tmp_path):
    (tmp_path / "usual").touch()
    with replacing(tmp_path / "model.pt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "model.pt").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("there", [True, False])
def test_links_are_followed(there, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "model.pt"
    if there:
        target.write_text("old")
        target.chmod(0o600)
    (tmp_path / "second").symlink_to(target)
    link = tmp_path / "link.pt"
    link.symlink_to("second")
    with replacing(link) as temporary:
        assert temporary.parent == target.parent
        temporary.write_text("new")
    assert link.is_symlink()
    assert target.read_text() == link.read_text() == "new"
    assert not there or target.stat().st_mode & 0o777 == 0o600
    assert names(target.parent) == ["model.pt"]


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (os.mkfifo, "a named pipe"),
        (os.mkdir, "a folder"),
        (make_socket, "a socket"),
        (lambda path: path.symlink_to("/dev/null"), "a device"),
    ],
    ids=["fifo", "folder", "socket", "device"],
)
def test_only_regular_files_are_replaced(make, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    path = Path("model.pt")
    make(path)
    before = path.stat()
    with pytest.raises(OSError, match=f"model.pt is {kind}; only a regular"), replacing(path):
        pytest.fail("nothing may be written")
    assert path.stat().st_ino == before.st_ino
    assert names(tmp_path) == ["model.pt"]


@pytest.fixture
def as_another_user():
    """Who is allowed everything meets no permissions."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def foreign():
    """A folder that every user can reach; those of pytest are private."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.parametrize("what", ["file", "folder"])
def test_write_protection_is_respected(what, foreign, request):
    path = foreign / "folder" / "model.pt"
    path.parent.mkdir()
    path.write_text("old")
    path.chmod(0o444 if what == "file" else 0o666)
    path.parent.chmod(0o777 if what == "file" else 0o555)
    request.getfixturevalue("as_another_user")
    with pytest.raises(PermissionError) as error, replacing(path) as temporary:
        temporary.write_text("new")
    assert str(path) in str(error.value)
    assert ".part" not in str(error.value)
    assert path.read_text() == "old"


# --- a disk that is full


@pytest.fixture
def small_disk():
    """Files may have 4096 bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def write_text(path):
    path.write_text(10000 * "x")


def write_tensor(path):
    torch.save({"weights": torch.zeros(10000)}, path)


@pytest.mark.parametrize("write", [write_text, write_tensor])
@pytest.mark.parametrize("with_link", [False, True])
def test_a_full_disk_is_an_error_that_names_the_file(write, with_link, tmp_path, request):
    path = tmp_path / "model.pt"
    path.write_text("old")
    if with_link:
        path = tmp_path / "link.pt"
        path.symlink_to("model.pt")
    request.getfixturevalue("small_disk")
    with pytest.raises(OSError, match=path.name) as error, replacing(path) as temporary:
        write(temporary)
    assert str(path) in str(error.value)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["link.pt", "model.pt"][not with_link :]


def test_upstreams_own_files_are_named_too(tmp_path, small_disk):
    with pytest.raises(OSError, match=r"state\.pt could not be written completely; \d+ MiB are"):  # noqa: SIM117
        with writing(tmp_path / "state.pt"):
            write_tensor(tmp_path / "state.pt")


def test_errors_of_other_files_and_kinds_stay_what_they_are(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing"), replacing(tmp_path / "model.pt"):
        (tmp_path / "missing").read_text()
    with pytest.raises(RuntimeError, match=r"^shapes"), replacing(tmp_path / "model.pt"):
        raise RuntimeError("shapes do not match")
    assert names(tmp_path) == []
