"""Fetching, from files in place of a network."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from les_bench import fetch
from les_bench.systems import SYSTEMS


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A "public" file whose checksum is known."""
    source = tmp_path / "public.xyz"
    source.write_text("content")
    checksum = hashlib.sha256(b"content").hexdigest()
    listed = fetch.RemoteFile(source.as_uri(), checksum, "water/water.xyz", "CC0")
    monkeypatch.setattr(fetch, "REMOTE", {"water": (listed,)})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return source


def test_fetch_once(remote: Path) -> None:
    (path,) = fetch.fetch("water")
    assert path.read_text() == "content"
    remote.unlink()
    assert fetch.fetch("water") == [path]


def test_wrong_content_is_not_kept(remote: Path) -> None:
    remote.write_text("something else")
    with pytest.raises(fetch.FetchError, match="expected sha256"):
        fetch.fetch("water")
    assert not list(fetch.cache_folder().rglob("*.xyz*"))


def test_no_network_and_unlisted_system(remote: Path) -> None:
    remote.unlink()
    with pytest.raises(fetch.FetchError, match=r"could not fetch file:.*--data embedded"):
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
