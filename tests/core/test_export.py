"""Exported models, also compiled ahead of time, give what eager ones give."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from les import Ewald


@pytest.fixture
def make_arguments(make_system, join):
    """Makes arguments of ``Ewald.forward`` for structures of several sizes."""

    def make(*kinds, n_atoms=7):
        return join([make_system(kind, n_atoms + 2 * i, seed=i) for i, kind in enumerate(kinds)])

    return make


class Model(nn.Module):
    """Energy, potential, and forces where a graph is captured from it first."""

    def __init__(self, forces):
        super().__init__()
        self.ewald, self.forces = Ewald(dl=2.2), forces

    def forward(self, charges, positions, cell, batch):
        if not self.forces:
            return self.ewald(charges, positions, cell, batch, None, True)
        positions = positions.detach().requires_grad_()
        charges = charges * torch.cos(positions[:, 0])
        energy, potential = self.ewald.by_operator(charges, positions, cell, batch, None, True)
        forces = torch.autograd.grad(energy.sum(), positions)[0]
        return energy.detach(), potential.detach(), forces


def exported(model, arguments):
    """For any number of atoms and structures."""
    if model.forces:
        model = make_fx(model, tracing_mode="symbolic")(*arguments)
    n_atoms, n_structures = torch.export.Dim("n_atoms"), torch.export.Dim("n_structures")
    shapes = ({0: n_atoms}, {0: n_atoms}, {0: n_structures}, {0: n_atoms})
    return torch.export.export(model, tuple(arguments), dynamic_shapes=shapes)


@pytest.mark.parametrize("forces", [True, False])
def test_export(make_arguments, forces):
    model = Model(forces)
    program = exported(model, make_arguments("triclinic", "left_handed", "cubic"))
    for kinds in (("open", "open"), ("triclinic", "open", "cubic")):
        other = make_arguments(*kinds, n_atoms=12)
        for found, expected in zip(program.module()(*other), model(*other), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
def test_aot_inductor(make_arguments, tmp_path):
    """In a Python process that has imported ``les.sums.operator``; errors come as RuntimeError."""
    model = Model(forces=True)
    program = exported(model, make_arguments("triclinic", "cubic"))
    path = torch._inductor.aoti_compile_and_package(program, package_path=str(tmp_path / "les.pt2"))
    loaded = torch._inductor.aoti_load_package(path)
    charges, positions, cell, batch = other = make_arguments("triclinic", "open", n_atoms=9)
    for found, expected in zip(loaded(*other), model(*other), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    with pytest.raises(RuntimeError, match="`positions` must be finite"):
        loaded(charges, positions / 0.0, cell, batch)
