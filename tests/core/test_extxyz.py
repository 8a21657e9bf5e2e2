"""Extended XYZ files: all frames, or a refusal with file and line."""

from __future__ import annotations

import bz2
import gzip
import lzma

import numpy as np
import pytest
from ase import Atoms
from ase.io import read, write

from les.data.extxyz import DataError, read_extxyz
from les.data.structure_files import count_structures, entries, read_structures


@pytest.fixture
def blocks(tmp_path):
    """The texts of three frames of different sizes."""
    texts = []
    for index in range(3):
        atoms = Atoms(
            "H" * (index + 1), np.arange(3.0 * index + 3).reshape(-1, 3), info={"n": index}
        )
        write(tmp_path / "one.xyz", atoms, format="extxyz")
        texts.append((tmp_path / "one.xyz").read_text())
    return texts


@pytest.mark.parametrize("between", ["\n", "\n\n \t\n"])
def test_blank_lines_between_frames(blocks, between, tmp_path):
    path = tmp_path / "data.xyz"
    path.write_text(between + between.join(blocks) + between)
    assert len(read(path, ":", format="extxyz")) < 3  # what ASE makes of it
    assert [len(atoms) for _, atoms in read_extxyz(path)] == [1, 2, 3]
    assert count_structures(path) == 3


def test_blank_comment(tmp_path):
    path = tmp_path / "data.xyz"
    path.write_text("1\n\nH 0 0 1\n2\n\nH 0 0 0\nO 0 0 1\n")
    assert [len(atoms) for _, atoms in read_extxyz(path)] == [1, 2]


def test_blank_line_within_a_frame(blocks, tmp_path):
    path = tmp_path / "data.xyz"
    lines = blocks[2].splitlines(keepends=True)
    path.write_text(blocks[1] + "".join([*lines[:3], "\n", *lines[3:]]))
    with pytest.raises(DataError, match="frame 1: line 8 is blank, among the 3 atoms"):
        list(read_extxyz(path))


@pytest.mark.parametrize(
    ("end", "compress"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)]
)
def test_compressed(blocks, end, compress, tmp_path):
    path = tmp_path / f"data.extxyz.{end}"
    path.write_bytes(compress("".join(blocks).encode()))
    assert [atoms.info["n"] for _, atoms in read_extxyz(path)] == [0, 1, 2]
    whole = path.read_bytes()
    middle = len(whole) // 2
    changed = whole[:middle] + bytes(x ^ 0xFF for x in whole[middle : middle + 20])
    for damaged in (whole[:-8], changed + whole[middle + 20 :]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="cannot be read"):
            list(read_extxyz(path))


def test_entries_are_read_when_asked_for(blocks, tmp_path):
    """A frame with bad content does not hide the others."""
    path = tmp_path / "data.xyz"
    path.write_text(blocks[0] + blocks[1].replace("1.0", "one") + blocks[2])
    (_, first), (where, second), (_, third) = entries(path)
    assert (len(first()), len(third())) == (1, 3)
    assert where == f"{path}: frame 1"
    with pytest.raises(DataError, match="frame 1: not valid extended XYZ"):
        second()


@pytest.mark.parametrize("name", ["structures.traj", "structures.cif", "at@1.traj", "at@1.xyz"])
def test_other_formats_and_names(name, tmp_path):
    frames = [
        Atoms("NaCl", [[0, 0, 0], [2, 2, 2 + 0.1 * n]], cell=[4, 4, 4], pbc=True) for n in range(3)
    ]
    write(
        str(tmp_path / "data.out"), frames, format=name.rpartition(".")[2].replace("xyz", "extxyz")
    )
    path = (tmp_path / "data.out").rename(tmp_path / name)
    assert count_structures(path) == 3
    assert [where for where, _ in read_structures(path)] == [f"{path}: frame {n}" for n in range(3)]
    read_back = [atoms for _, atoms in read_structures(str(path))]
    np.testing.assert_allclose(
        [atoms.positions[1, 2] for atoms in read_back], [2.0, 2.1, 2.2], atol=1e-6
    )


@pytest.mark.parametrize("name", ["data.traj", "data.unheard_of", "data.xyz"])
def test_what_is_none(name, tmp_path):
    path = tmp_path / name
    with pytest.raises(DataError, match=f"{path}: cannot be read: there is no such file"):
        list(entries(path))
    path.write_bytes(b"\x00nonsense")
    problem = "is no file of structures that ASE knows" if name == "data.unheard_of" else ""
    with pytest.raises(DataError, match=f"^{path}: {problem}"):
        list(entries(path))
    path.unlink()
    path.mkdir()
    with pytest.raises(DataError, match=f"{path}: cannot be read: is no regular file"):
        list(entries(path))
