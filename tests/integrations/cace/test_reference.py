"""Features, energies, forces and response of published weights, to rounding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from torch import nn

from les.testing.earlier import AS_BEFORE
from les_cace import CACE, load_model, load_published, save_model
from les_cace.batches import collate, to_structure
from les_cace.neighbours import arrange

MODELS = {
    "dipep_r45_T1_l4_nu3": ("s0", "s1"),
    "water_r45_T0_l2_nu2": ("s0", "s1", "s2"),
}
CASES = [(model, structure) for model, names in MODELS.items() for structure in names]
TOLERANCE = 1e-12


@pytest.fixture(scope="module")
def arrays(reference_dir):
    """A function for the weights and the results of a published model."""

    def read(name):
        folder = reference_dir / "oracles" / "cace"
        return [np.load(folder / f"{kind}_{name}.npz") for kind in ("weights", "oracle")]

    return read


def copy_readout(readout, weights, prefix):
    def array(name):
        return torch.as_tensor(np.asarray(weights[prefix + name], dtype=np.float64))

    linear = [x for x in readout.network if isinstance(x, nn.Linear)]
    with torch.no_grad():
        for number, target in enumerate(linear):
            target.weight.copy_(array(f"outnet.{number}.linear.weight"))
            target.bias.copy_(array(f"outnet.{number}.linear.bias"))
        readout.linear.weight.copy_(array("linear_nn.linear.weight"))
        linear[-1].bias.add_(array("linear_nn.linear.bias"))


def build(weights, representation_from):
    representation = representation_from(
        lambda name: weights[f"hp.{name}"], lambda name: weights[f"representation.{name}"]
    )
    arguments = {
        "zs": representation.zs,
        "n_atom_basis": representation.n_atom_basis,
        "num_message_passing": len(representation.layers),
        **{x: int(weights[f"hp.{x}"]) for x in ("n_rbf", "n_radial_basis", "max_l", "max_nu")},
    }
    norm_factor = float(weights["hp.les.norm_factor"])
    les_arguments = {**AS_BEFORE, "cutoff": "sharp", "norm_factor": norm_factor}
    model = CACE(arguments, les_arguments).double()
    model.representation = representation
    copy_readout(model.charge_readout, weights, "output_modules.0.les.atomwise.")
    copy_readout(model.readout, weights, "output_modules.1.")
    return model.eval()


def structure_of(oracle, name):
    cell = oracle[f"{name}.cell"]
    return Atoms(
        oracle[f"{name}.numbers"],
        oracle[f"{name}.positions"],
        cell=cell,
        pbc=abs(np.linalg.det(cell)) > 1e-6,
    )


@pytest.mark.parametrize("kind", "ABCDE")
def test_all_kinds_of_messages(kind, reference_dir, representation_from):
    arrays = np.load(reference_dir / "oracles" / "cace" / "oracle_random_kinds.npz")
    representation = representation_from(
        lambda name: arrays[f"{kind}.hp.{name}"], lambda name: arrays[f"{kind}.w.{name}"]
    )
    positions = torch.as_tensor(arrays[f"{kind}.positions"])
    cell = torch.as_tensor(arrays[f"{kind}.cell"])
    sender, receiver = torch.as_tensor(arrays[f"{kind}.edge_index"]).long()
    images = torch.as_tensor(arrays[f"{kind}.unit_shifts"]).double()
    neighbours = arrange(sender, receiver, images, len(positions))
    batch = torch.zeros(len(positions), dtype=torch.long)
    vectors = neighbours.vectors(positions, cell.unsqueeze(0), batch, representation.cutoff)
    numbers = torch.as_tensor(arrays[f"{kind}.numbers"]).long()
    features = representation(vectors, neighbours.sender, representation.elements(numbers))
    expected = arrays[f"{kind}.node_feats_out"]
    assert features.shape == expected.shape
    np.testing.assert_allclose(features.detach(), expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(("model", "structure"), CASES)
def test_pairs(model, structure, arrays):
    weights, oracle = arrays(model)
    found = to_structure(structure_of(oracle, structure), float(weights["hp.cutoff"]))
    pairs = torch.cat([found.sender[:, None], found.receiver[:, None], found.images.long()], dim=1)
    expected = np.column_stack(
        [oracle[f"{structure}.edge_index"].T, oracle[f"{structure}.unit_shifts"]]
    )
    assert len(pairs) == len(expected)
    assert set(map(tuple, pairs.tolist())) == set(map(tuple, expected.astype(int).tolist()))


def check(model, oracle, name):
    atoms = structure_of(oracle, name)
    representation = model.representation
    batch = collate([to_structure(atoms, representation.cutoff)])
    vectors = batch.neighbours.vectors(
        batch.positions, batch.cell, batch.batch, representation.cutoff
    )
    element = representation.elements(batch.numbers)
    features = representation(vectors, batch.neighbours.sender, element).detach()
    first = oracle[f"{name}.node_feats_out"]
    np.testing.assert_allclose(features[: len(first)], first, rtol=0, atol=TOLERANCE)
    sums = oracle[f"{name}.node_feats_colsum"]
    np.testing.assert_allclose(features.sum(dim=0), sums, rtol=0, atol=100 * TOLERANCE)
    out = model(batch, compute_stress=True, compute_bec=True, bec_method="phase")
    out = {key: value.detach().numpy().squeeze() for key, value in out.items()}
    pairs = {
        "energy": "E_total",
        "les_energy": "E_lr",
        "latent_charges": "q_latent",
        "forces": "forces",
        "born_effective_charges": "bec",
    }
    if atoms.pbc.all():
        pairs["stress"] = "stress"
    for key, reference in pairs.items():
        expected = oracle[f"{name}.{reference}"].squeeze()
        np.testing.assert_allclose(out[key], expected, rtol=0, atol=TOLERANCE, err_msg=key)
    short_range = oracle[f"{name}.E_sr_atomic"].squeeze()
    assert (out["energies"].sum() - out["les_energy"]) == pytest.approx(short_range.sum())


@pytest.mark.parametrize(("model", "structure"), CASES)
def test_results(model, structure, arrays, representation_from):
    weights, oracle = arrays(model)
    check(build(weights, representation_from), oracle, structure)


def test_published_file(reference_dir, arrays, tmp_path):
    """Converted, saved and loaded without the packages that wrote it."""
    source = reference_dir / "checkpoints" / "cace_les_water_r45_nu2.pth"
    save_model(load_published(source, allow_pickle=True), tmp_path / "water.pt")
    model = load_model(tmp_path / "water.pt").eval()
    assert model.les_config.norm_factor == 90.0474
    for name in MODELS["water_r45_T0_l2_nu2"]:
        check(model, arrays("water_r45_T0_l2_nu2")[1], name)
