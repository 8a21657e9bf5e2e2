"""What a killed process leaves, and what is no longer whole."""

from __future__ import annotations

import os

import numpy as np
import pytest

from les.predict.journal import Journal

IDENTITY = {"models": ["a"], "--bec": False}


@pytest.fixture
def path(tmp_path):
    """A journal of three records."""
    path = tmp_path / "out.xyz.journal"
    journal = Journal(path, IDENTITY)
    for index in range(3):
        journal.append({"index": index, "array": np.arange(6, dtype=np.float32).reshape(2, 3) / 7})
    journal.close()
    return path


def indices(journal):
    return [record["index"] for record in journal]


def test_records_come_back_exactly(path):
    journal = Journal(path, IDENTITY)
    assert (journal.n_records, journal.last["index"]) == (3, 2)
    journal.append({"index": 3})
    records = list(journal)
    assert indices(journal) == [0, 1, 2, 3]
    assert records[0]["array"].dtype == np.float32
    np.testing.assert_array_equal(
        records[0]["array"], np.arange(6, dtype=np.float32).reshape(2, 3) / 7
    )
    journal.remove()
    assert not path.exists()


def test_every_place_where_a_process_may_be_killed(path):
    """Whole lines are kept, and the next record follows them."""
    content = path.read_bytes()
    ends = [place + 1 for place, byte in enumerate(content) if byte == ord("\n")]
    for size in range(ends[0], len(content)):
        path.write_bytes(content[:size])
        journal = Journal(path, IDENTITY)
        whole = sum(end <= size for end in ends) - 1
        assert journal.n_records == whole
        journal.append({"index": 9})
        assert indices(journal) == [*range(whole), 9]
        journal.close()


def test_a_changed_byte_is_noticed(path):
    content = path.read_bytes()
    second = content.index(b"\n") + 1
    for place in range(second, content.index(b"\n", second)):
        changed = bytearray(content)
        changed[place] ^= 1
        path.write_bytes(changed)
        with pytest.raises(ValueError, match=f"{path} is damaged in line [23]; move it away"):
            Journal(path, IDENTITY)


@pytest.mark.parametrize(
    ("identity", "different"),
    [
        ({**IDENTITY, "models": ["b"]}, "models"),
        ({"models": ["a", "b"], "--bec": True}, "models and --bec"),
    ],
)
def test_journal_of_another_run(path, identity, different):
    content = path.read_bytes()
    with pytest.raises(ValueError, match=f"of another run, with other {different};"):
        Journal(path, identity)
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", ["", "some text", "some text\nand more\n", "00000000 {}\n"])
def test_files_of_others_are_left_alone(tmp_path, content):
    path = tmp_path / "out.xyz.journal"
    path.write_text(content)
    with pytest.raises(ValueError, match=f"{path} is (no journal|damaged in line 1)"):
        Journal(path, IDENTITY)
    assert path.read_text() == content


def test_permissions(tmp_path):
    path = tmp_path / "out.xyz.journal"
    Journal(path, IDENTITY, 0o600).close()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a full disk")
def test_full_disk_names_the_file(path, monkeypatch):
    journal = Journal(path, IDENTITY)
    journal.close()
    with (
        open("/dev/full", "ab", buffering=0) as journal._file,
        pytest.raises(OSError, match=f"No space left on device: '{path}'"),
    ):
        journal.append({"index": 3})
    journal = Journal(path, IDENTITY)
    assert journal.n_records == 3
    journal.close()
