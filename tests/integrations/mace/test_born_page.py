"""The examples of docs/born-effective-charges.md, as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from ase.io import write

from les.testing.structures import crystal
from les_mace import save_model

PAGE = Path(__file__).parents[3] / "docs" / "born-effective-charges.md"


def test_examples(model, tmp_path, monkeypatch, capsys):
    """What they end with is right: the change of the dipole is the sum of the currents."""
    monkeypatch.chdir(tmp_path)
    save_model(model, tmp_path / "water.pt")
    atoms = crystal("cubic")
    atoms.set_momenta(np.random.default_rng(0).normal(scale=0.2, size=(len(atoms), 3)))
    write(tmp_path / "water.xyz", atoms)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 2
    names: dict = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    currents = torch.stack(names["currents"]).numpy()
    assert len(currents) == 21
    change = names["polarisation"].change
    integral = 0.5 * (0.5 * currents[0] + currents[1:-1].sum(axis=0) + 0.5 * currents[-1])
    assert np.abs(change).max() > 1e-3
    np.testing.assert_allclose(change, integral, rtol=0, atol=1e-2 * np.abs(change).max())
    assert str(change) in capsys.readouterr().out
