"""TorchScript: the same numbers as eager, through save and load."""

from __future__ import annotations

import copy

import pytest
import torch

from les import ChargeReadout, Ewald, Les, LESConfig

MIXED = [("triclinic", 6), ("open", 4), ("cubic", 0), ("cubic", 9), ("open", 1)]


@pytest.fixture
def batch(make_system, join):
    """Charges, positions, cells and indices of open and periodic structures."""
    return join([make_system(kind, n, seed=i) for i, (kind, n) in enumerate(MIXED)])


@pytest.fixture(params=["smooth", "sharp", "self_interaction"])
def les(request):
    """One of several configurations."""
    if request.param == "self_interaction":
        return Les(LESConfig(remove_self_interaction=False, epsilon_factor=1.7))
    return Les(LESConfig(cutoff=request.param))


def everything(module, batch):
    """All outputs, and derivatives up to the second order."""
    charges, positions, cell = (value.clone().requires_grad_() for value in batch[:3])
    out = module(
        positions,
        cell,
        latent_charges=charges,
        batch=batch[3],
        compute_bec=True,
        compute_atom_energies=True,
    )
    energy = out["E_lr"].sum()
    first = torch.autograd.grad(energy, [charges, positions], create_graph=True)
    loss = sum(value.square().sum() for value in first) + out["BEC"].square().sum()
    second = torch.autograd.grad(loss, [charges, positions])
    return [out["E_lr"], out["E_lr_atoms"], out["BEC"], *first, *second]


def test_scripted_is_eager(les, batch):
    scripted = torch.jit.script(les)
    expected = everything(les, batch)
    for _ in range(3):  # the second and third call run what the profiler made of it
        for value, target in zip(everything(scripted, batch), expected, strict=True):
            torch.testing.assert_close(value, target, rtol=1e-11, atol=1e-11)


def test_save_and_load(les, batch, tmp_path):
    path = tmp_path / "les.pt"
    torch.jit.script(les).save(path)
    loaded = torch.jit.load(path)
    for value, target in zip(everything(loaded, batch), everything(les, batch), strict=True):
        torch.testing.assert_close(value, target, rtol=1e-11, atol=1e-11)


def test_pbc_and_float32(batch):
    arguments = [value.float() if value.is_floating_point() else value for value in batch]
    pbc = torch.tensor([[kind != "open"] * 3 for kind, _ in MIXED])
    ewald = Ewald()
    scripted, _ = torch.jit.script(ewald)(*arguments, pbc)
    torch.testing.assert_close(scripted, ewald(*arguments, pbc)[0], rtol=1e-5, atol=1e-5)


def test_readout_inside(batch):
    les = Les(LESConfig(use_atomwise=True, n_features=4))
    features = torch.randn(len(batch.positions), 4)
    arguments = batch.positions.float(), batch.cell.float()
    options = {"desc": features, "batch": batch.batch}
    expected = les(*arguments, **options)
    out = torch.jit.script(les)(*arguments, **options)
    torch.testing.assert_close(out["E_lr"], expected["E_lr"])
    torch.testing.assert_close(out["latent_charges"], expected["latent_charges"])
    torch.testing.assert_close(torch.jit.script(ChargeReadout(4))(features).shape, (20, 1))


def test_one_component_of_bec(batch):
    charges, positions, cell, index = batch
    arguments = positions.requires_grad_(), cell
    options = {"latent_charges": charges, "batch": index, "compute_bec": True}
    whole = Les()(*arguments, **options)["BEC"]
    part = torch.jit.script(Les())(*arguments, **options, bec_output_index=2)["BEC"]
    torch.testing.assert_close(part, whole[:, 2])


def test_refusals_are_kept():
    with pytest.raises(torch.jit.Error, match="can be neither compiled nor exported"):
        torch.jit.script(Les())(
            torch.rand(2, 3),
            torch.zeros(1, 3, 3),
            latent_charges=torch.rand(2),
            latent_dipoles=torch.rand(2, 3),
        )


def test_inside_a_scripted_host(batch):
    """As host models hold it: a submodule called with keywords."""

    class Host(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.les = Les({"sigma": 1.2})

        def forward(self, q: torch.Tensor, r: torch.Tensor, cell: torch.Tensor, b: torch.Tensor):
            out = self.les(latent_charges=q, positions=r, cell=cell, batch=b, compute_energy=True)
            energy = out["E_lr"]
            assert energy is not None
            return energy

    host = Host()
    torch.testing.assert_close(torch.jit.script(copy.deepcopy(host))(*batch), host(*batch))
