"""``les bench fetch``: benchmark files from their public source, checked by sha256."""

from __future__ import annotations

import hashlib
import logging
import os
import urllib.request
from dataclasses import dataclass
from pathlib import Path

LOG = logging.getLogger("les")


class FetchError(RuntimeError):
    """A file could not be fetched or is not what it should be."""


@dataclass(frozen=True)
class RemoteFile:
    """A public file whose content is known."""

    url: str
    sha256: str
    #: Place below the data folder (see ``System.layout``).
    target: str
    licence: str


#: System -> files. Only files with a known checksum belong here.
REMOTE: dict[str, tuple[RemoteFile, ...]] = {
    "water": (
        RemoteFile(
            url="https://raw.githubusercontent.com/ChengUCB/les_fit/"
            "2a6ffa0dbcd1bc5fd830b510b57aaa0fbb12ad5e/data-benchmark/test-H2O_RPBE-D3.xyz",
            sha256="63246aa6ec1e5c1f806236a05c0ce3181f54b7a2c622d4520985b59d5dc40aef",
            target="water_rpbe_d3/water_rpbe_d3_test50.xyz",
            licence="CC BY-NC 4.0",
        ),
    ),
}


def cache_folder() -> Path:
    """Folder that fetched files go to: ``$XDG_CACHE_HOME/les`` or ``~/.cache/les``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "les"


def fetch(system: str) -> list[Path]:
    """Fetch the files of ``system`` that are not there yet; returns all of its files."""
    if system not in REMOTE:
        raise FetchError(
            f"no public file with a known checksum is listed for {system!r} "
            f"(listed: {', '.join(REMOTE)}); put the files into a folder and name it with --data"
        )
    return [_fetch(remote, cache_folder() / remote.target) for remote in REMOTE[system]]


def _fetch(remote: RemoteFile, path: Path) -> Path:
    if path.is_file() and _sha256(path.read_bytes()) == remote.sha256:
        LOG.info("%s is there already", path)
        return path
    LOG.info("fetching %s (%s)", remote.url, remote.licence)
    try:
        with urllib.request.urlopen(remote.url, timeout=60) as response:
            content = response.read()
    except OSError as error:  # no network, refused, not found
        raise FetchError(
            f"could not fetch {remote.url}: {error}; without a network, put the file at {path} "
            "or use --data embedded"
        ) from error
    if (found := _sha256(content)) != remote.sha256:
        raise FetchError(f"{remote.url}: expected sha256 {remote.sha256}, got {found}; not kept")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    partial.write_bytes(content)
    partial.replace(path)
    return path


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
