"""Fetching from a server of this machine, and what is done with what was fetched."""

from __future__ import annotations

import functools
import hashlib
import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from les.user_cache import user_cache
from les_bench.systems import datasets, fetch
from les_bench.systems.datasets import load
from les_bench.systems.labels import DataError
from les_bench.systems.systems import SYSTEMS


class Server(http.server.ThreadingHTTPServer):
    """Serves a folder; knows what was asked for."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        self.server.asked.append(self.path)


@pytest.fixture
def public(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, Server]]:
    """A "public" file whose checksum is known, and its server."""
    folder = tmp_path / "public"
    folder.mkdir()
    (folder / "water.xyz").write_text("content")
    with Server(folder) as server:
        url = f"http://127.0.0.1:{server.server_address[1]}/water.xyz"
        checksum = hashlib.sha256(b"content").hexdigest()
        listed = fetch.RemoteFile(url, checksum, "water/water.xyz", "CC0", "A. Author, 2025")
        monkeypatch.setattr(fetch, "REMOTE", {"water": (listed,)})
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder / "water.xyz", server
        server.shutdown()
        thread.join()


def test_every_listed_file_has_a_licence_and_a_citation() -> None:
    for remote in (remote for files in fetch.REMOTE.values() for remote in files):
        assert remote.licence
        assert remote.citation


def test_fetch_once(public: tuple[Path, Server], caplog: pytest.LogCaptureFixture) -> None:
    _, server = public
    caplog.set_level("INFO")
    (path,) = fetch.fetch("water")
    assert "(licence: CC0; cite A. Author, 2025)" in caplog.text
    assert path == user_cache() / "water" / "water.xyz"
    assert path.read_text() == "content"
    assert fetch.fetch("water") == [path]
    assert len(server.asked) == 1


def test_a_damaged_file_is_fetched_again(public: tuple[Path, Server]) -> None:
    (path,) = fetch.fetch("water")
    path.write_text("cOntent")
    assert fetch.fetch("water") == [path]
    assert path.read_text() == "content"


def test_wrong_content_is_not_kept(public: tuple[Path, Server]) -> None:
    remote, _ = public
    remote.write_text("something else")
    with pytest.raises(fetch.FetchError, match=r"water\.xyz: SHA256 hash of downloaded file"):
        fetch.fetch("water")
    assert not [path for path in user_cache().rglob("*") if path.is_file()]


def test_no_network_and_unlisted_system(public: tuple[Path, Server]) -> None:
    remote, _ = public
    remote.unlink()
    with pytest.raises(fetch.FetchError, match=r"could not fetch http:.*404.*--data embedded"):
        fetch.fetch("water")
    with pytest.raises(fetch.FetchError, match=r"'au2_mgo' \(listed: water\)"):
        fetch.fetch("au2_mgo")


def test_fetched_files_are_where_loading_looks() -> None:
    for system, files in fetch.REMOTE.items():
        layout = SYSTEMS[system].layout
        assert {f.target for f in files} == {layout.train, layout.test} - {None}


def test_listed_checksum_is_that_of_the_reference_data(data_dir: Path) -> None:
    (listed,) = fetch.REMOTE["water"]
    assert hashlib.sha256((data_dir / listed.target).read_bytes()).hexdigest() == listed.sha256


# --- what is used is what was fetched


def change_a_digit(path: Path) -> None:
    """Another number, in a file that can be read as before."""
    content = bytearray(path.read_bytes())
    at = content.rindex(b"1")
    content[at : at + 1] = b"2"
    path.write_bytes(content)


@pytest.fixture
def cached(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Path, Path]]:
    """The system "dipeptides" as if it could be, and had been, fetched: cache and training file."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("LES_DATA_DIR", raising=False)
    names = {path.name: path for path in data.glob("*.xyz")}
    files = tuple(
        fetch.RemoteFile("", hashlib.sha256(path.read_bytes()).hexdigest(), name, "CC0")
        for name, path in names.items()
    )
    monkeypatch.setattr(fetch, "REMOTE", {"dipeptides": files})
    folder = shutil.copytree(data, user_cache())
    return folder, folder / "dipeptides_train.xyz"


def test_fetched_data_are_verified_when_they_are_used(cached, caplog) -> None:
    _, path = cached
    assert load(SYSTEMS["dipeptides"]).source == "fetched"
    assert "no checksum" not in caplog.text
    change_a_digit(path)
    with pytest.raises(DataError, match=r"_train\.xyz is damaged: its .* `les bench fetch dip"):
        load(SYSTEMS["dipeptides"])


def test_files_of_unknown_origin_in_the_cache_are_named(cached, monkeypatch, caplog) -> None:
    _, path = cached
    (first, *_) = [x for x in fetch.REMOTE["dipeptides"] if x.target != path.name]
    monkeypatch.setattr(fetch, "REMOTE", {"dipeptides": (first,)})
    load(SYSTEMS["dipeptides"])
    assert f"{path}: used as it is; no checksum of it is known" in caplog.text


def test_embedded_data_are_verified_when_they_are_used(tmp_path, monkeypatch) -> None:
    folder = shutil.copytree(datasets._embedded(), tmp_path / "embedded")
    monkeypatch.setattr(datasets, "_embedded", lambda: folder)
    load(SYSTEMS["water"], "embedded")
    change_a_digit(folder / "water_test.xyz.gz")
    with pytest.raises(DataError, match=r"water_test\.xyz\.gz is damaged.*install les again"):
        load(SYSTEMS["water"], "embedded")
    load(SYSTEMS["au2_mgo"], "embedded")


def test_data_of_ones_own_are_read_as_they_are(data: Path) -> None:
    change_a_digit(data / "dipeptides_train.xyz")
    assert load(SYSTEMS["dipeptides"], str(data)).source == "custom"
