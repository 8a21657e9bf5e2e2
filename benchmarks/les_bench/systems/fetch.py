"""``les bench fetch``: benchmark files from their public source, checked by sha256."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from les.user_cache import user_cache

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
    #: What to cite when the data are used.
    citation: str = ""


#: System -> files. Only files with a known checksum belong here.
REMOTE: dict[str, tuple[RemoteFile, ...]] = {
    "water": (
        RemoteFile(
            url="https://raw.githubusercontent.com/ChengUCB/les_fit/"
            "2a6ffa0dbcd1bc5fd830b510b57aaa0fbb12ad5e/data-benchmark/test-H2O_RPBE-D3.xyz",
            sha256="63246aa6ec1e5c1f806236a05c0ce3181f54b7a2c622d4520985b59d5dc40aef",
            target="water_rpbe_d3/water_rpbe_d3_test50.xyz",
            licence="CC BY-NC 4.0",
            citation="Schmiedmayer and Kresse, arXiv:2404.19674 (data); Cheng, npj Comput. Mater. "
            "11, 80 (2025) (the split)",
        ),
    ),
}


def fetch(system: str) -> list[Path]:
    """Fetch the files of ``system`` that are not there yet; returns all of its files."""
    if system not in REMOTE:
        raise FetchError(
            f"no public file with a known checksum is listed for {system!r} "
            f"(listed: {', '.join(REMOTE)}); put the files into a folder and name it with --data"
        )
    return [_fetch(remote, user_cache() / remote.target) for remote in REMOTE[system]]


def _fetch(remote: RemoteFile, path: Path) -> Path:
    import pooch  # only this needs it

    pooch.get_logger().setLevel(logging.WARNING)
    cite = f"; cite {remote.citation}" if remote.citation else ""
    LOG.info("%s from %s (licence: %s%s)", path, remote.url, remote.licence, cite)
    try:
        # A file that is there with this checksum stays; one with another is fetched again.
        pooch.retrieve(remote.url, f"sha256:{remote.sha256}", path.name, path.parent)
    except ValueError as error:  # another checksum
        raise FetchError(f"{remote.url}: {error}") from error
    except OSError as error:  # no network, refused, not found; a full disk
        raise FetchError(
            f"could not fetch {remote.url} to {path}: {error}; without a network, put the file "
            "there or use --data embedded"
        ) from error
    return path


def known_checksums() -> dict[str, str]:
    """Place below the cache folder -> sha256 of all files that can be fetched."""
    return {remote.target: remote.sha256 for files in REMOTE.values() for remote in files}
