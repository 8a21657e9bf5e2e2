"""Training with upstream's own Trainer and data set, unchanged, and its tools for dynamics."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from ase.calculators.lj import LennardJones
from chgnet.data.dataset import StructureData, collate_graphs
from chgnet.model import MolecularDynamics, StructOptimizer
from chgnet.trainer import Trainer
from pymatgen.core import Lattice, Molecule, Structure
from torch.utils.data import DataLoader

from les.testing.adapter import results_of
from les.testing.derivatives import derivative
from les.testing.structures import CELLS, crystal, dimer
from les_chgnet import CHGNetLES, LESCalculator, load_model, save_model
from les_chgnet.structures import to_structure

# --- gradients


def loss_of(model, graphs):
    """Of energies, forces, stress and magnetic moments, to no particular labels."""
    out = model(graphs, task="efsm")
    return (
        out["e"].square().sum()
        + torch.cat(out["f"]).square().sum()
        + torch.stack(out["s"]).square().sum()
        + torch.cat(out["m"]).square().sum()
    )


@pytest.fixture
def graphs(double_model):
    several = [dimer(), crystal("triclinic"), crystal("left-handed")]
    return [double_model.graph_converter(atoms) for atoms in several]


def without_gradient(model, graphs):
    """Names of the parameters that ``loss_of`` does not depend on; all others are finite."""
    model.zero_grad()
    loss_of(model.train(), graphs).backward()
    names = set()
    for name, parameter in model.named_parameters():
        if parameter.grad is None:
            names.add(name)
        else:
            assert torch.isfinite(parameter.grad).all(), name
            # This one is one charge for all atoms, which is shifted away.
            assert name == "les.atomwise.network.4.bias" or parameter.grad.abs().max() > 0, name
    return names


@pytest.mark.usefixtures("only_second_derivatives")
def test_every_parameter_has_a_gradient(double_model, short_range_model, graphs):
    """But for those that upstream does not use: references, and the last update of angles."""
    plain = copy.deepcopy(short_range_model).double()
    plain.composition_model = None
    expected = without_gradient(plain, graphs) | {"composition_model.fc.weight"}
    assert without_gradient(double_model, graphs) == expected


@pytest.mark.parametrize(
    "name", ["les.atomwise.network.0.weight", "les.atomwise.linear.weight", "mlp.layers.0.weight"]
)
def test_gradient_of_a_loss_on_forces_and_stress(double_model, graphs, name):
    """Training differentiates twice: compare with differences of the loss."""
    weight = double_model.get_parameter(name)
    loss_of(double_model, graphs).backward()

    def shifted(amount):
        with torch.no_grad():
            weight[0, 2] += amount
            try:
                with torch.enable_grad():
                    return loss_of(double_model, graphs).item()
            finally:
                weight[0, 2] -= amount

    assert weight.grad[0, 2].item() == pytest.approx(float(derivative(shifted)), rel=1e-6)


def test_gradients_reach_a_new_charge_readout(short_range_model):
    """Charges start small but not at zero, where the gradient of their energy vanishes."""
    model = CHGNetLES.from_short_range(short_range_model)
    model([model.graph_converter(dimer())])["e"].sum().backward()
    for name, parameter in model.les.named_parameters():
        # A charge that is the same on all atoms has next to no energy in small steps.
        if not name.endswith("bias"):
            assert parameter.grad.abs().max() > 1e-7, name


# --- upstream's Trainer


def labelled(n_frames, seed):
    """Crystals and molecules with Lennard-Jones labels, as upstream's data set takes them."""
    structures, energies, forces, stresses = [], [], [], []
    for index in range(n_frames):
        atoms = dimer() if index % 3 == 0 else crystal(list(CELLS)[index % len(CELLS)])
        atoms.rattle(0.05, seed=seed + index)
        atoms.calc = LennardJones(sigma=0.85, epsilon=0.2, rc=4.0, smooth=True)
        structures.append(to_structure(atoms))
        energies.append(atoms.get_potential_energy() / len(atoms) - 5.0)
        forces.append(atoms.get_forces())
        periodic = atoms.pbc.all()
        stresses.append(-10.0 * atoms.get_stress(voigt=False) if periodic else np.zeros((3, 3)))
    return structures, energies, forces, stresses


@pytest.fixture
def fit(tmp_path):
    """A function that trains with upstream's Trainer, and returns it."""

    def run(model, targets="efs", epochs=3, **options):
        loaders = []
        for n_frames, seed in ((8, 0), (4, 100)):
            structures, energies, forces, stresses = labelled(n_frames, seed)
            data = StructureData(
                structures,
                energies,
                forces,
                stresses=stresses,
                graph_converter=model.graph_converter,
            )
            loaders.append(DataLoader(data, batch_size=4, collate_fn=collate_graphs))
        trainer = Trainer(
            model, targets=targets, epochs=epochs, use_device="cpu", learning_rate=1e-2, **options
        )
        trainer.train(*loaders, save_dir=str(tmp_path / "run"))
        return trainer

    return run


@pytest.fixture
def fresh(short_range_model):
    """A short-range model with new charges, to be trained."""
    return CHGNetLES.from_short_range(short_range_model)


def changed(model, before):
    """Names of the parameters that differ from ``before``."""
    return {
        name for name, value in model.named_parameters() if not torch.equal(value, before[name])
    }


def values_of(model):
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def test_upstreams_trainer(fresh, fit, tmp_path):
    before = values_of(fresh)
    trainer = fit(fresh)
    history = trainer.training_history
    assert history["f"]["train"][-1] < history["f"]["train"][0]
    names = changed(fresh, before)
    assert {name for name in before if name.startswith("les.")} <= names
    assert {"atom_embedding.embedding.weight", "mlp.layers.0.weight"} <= names
    assert "composition_model.fc.weight" not in names  # only on request
    # Upstream's own files are ours: of the epoch, and of the best ones.
    paths = list((tmp_path / "run").glob("*.pth.tar"))
    assert len(paths) == 3
    for path in paths:
        assert isinstance(load_model(path), CHGNetLES)
    (last,) = (tmp_path / "run").glob("epoch2_*.pth.tar")
    torch.testing.assert_close(load_model(last).state_dict(), fresh.state_dict(), rtol=0, atol=0)


def test_frozen_short_range_part(fresh, fit):
    for name, parameter in fresh.named_parameters():
        parameter.requires_grad = name.startswith("les.")
    before = values_of(fresh)
    fit(fresh, epochs=2)
    names = changed(fresh, before)
    assert names
    assert all(name.startswith("les.atomwise.") for name in names)
    assert len(names) >= 5


def test_frozen_charges(fresh, fit):
    fresh.les.requires_grad_(False)
    before = values_of(fresh)
    fit(fresh, epochs=1, targets="ef")
    names = changed(fresh, before)
    assert "mlp.layers.0.weight" in names
    assert not any(name.startswith("les.") for name in names)


# --- upstream's dynamics


def perturbed():
    atoms = crystal("cubic")
    atoms.rattle(0.02, seed=7)
    return atoms


def test_relaxation(double_model, short_range_model):
    atoms = perturbed()
    calculator = LESCalculator(double_model, use_device="cpu")
    before = results_of(calculator, atoms)["energy"]
    relaxed = StructOptimizer(model=calculator).relax(atoms, fmax=1e-4, steps=8, verbose=False)
    trajectory = relaxed["trajectory"]
    assert len(trajectory) == 10
    assert trajectory.energies[0] == before
    assert trajectory.energies[-1] < before - 1e-3
    assert not np.allclose(trajectory.cells[0], trajectory.cells[-1])
    final = relaxed["final_structure"]
    assert final.site_properties["magmom"] == pytest.approx(trajectory.magmoms[-1].tolist())
    assert atoms.get_charges().shape == (6,)


@pytest.mark.parametrize("periodic", [True, False])
def test_molecular_dynamics(double_model, tmp_path, periodic):
    """The total energy is kept: forces are the derivative, along a trajectory."""
    atoms = perturbed() if periodic else dimer()
    calculator = LESCalculator(double_model, use_device="cpu")
    atoms.set_momenta(np.random.default_rng(1).normal(scale=0.1, size=(6, 3)))
    potential, total = [], []
    dynamics = MolecularDynamics(
        atoms,
        model=calculator,
        ensemble="nve",
        timestep=0.2,
        trajectory=str(tmp_path / "md.traj"),
    )

    def record():
        potential.append(atoms.get_potential_energy())
        total.append(atoms.get_total_energy())

    dynamics.dyn.attach(record)
    dynamics.run(12)
    assert np.ptp(potential) > 1e-3
    assert np.ptp(total) < 0.05 * np.ptp(potential)


def test_predict_structure(double_model):
    """Upstream's functions for several structures, also of molecules."""
    double_model = copy.deepcopy(double_model)
    cell = Lattice(CELLS["triclinic"])
    salt = Structure(cell, ["O", "H", "H"], [[0.1, 0.1, 0.1], [0.3, 0.1, 0.1], [0.1, 0.35, 0.1]])
    together = double_model.predict_structure([salt, dimer(), crystal()], batch_size=2)
    calculator = LESCalculator(double_model, use_device="cpu")
    for prediction, atoms in zip(together, (salt.to_ase_atoms(), dimer(), crystal()), strict=True):
        results = results_of(calculator, atoms)
        assert float(prediction["e"]) * len(atoms) == pytest.approx(results["energy"], rel=1e-9)
        np.testing.assert_allclose(prediction["f"], results["forces"], rtol=0, atol=1e-9)
        np.testing.assert_allclose(prediction["m"], results["magmoms"], rtol=0, atol=1e-9)


def test_upstreams_ways_to_load(tmp_path, short_range_model):
    """``load``, ``from_file`` and ``from_dict`` of the class give models with charges."""
    model = CHGNetLES.load(model_name="r2scan", use_device="cpu", les_arguments={"sigma": 1.2})
    assert type(model) is CHGNetLES
    assert model.version == "r2scan"
    assert model.todict()["model_args"]["les_arguments"]["sigma"] == 1.2
    double = model.double()
    save_model(double, tmp_path / "double.pth.tar")
    for loaded in (
        CHGNetLES.from_file(str(tmp_path / "double.pth.tar")),
        CHGNetLES.from_dict(double.as_dict()),
    ):
        assert type(loaded) is CHGNetLES
        for key, value in double.state_dict().items():
            assert torch.equal(loaded.state_dict()[key], value), key
    save_model(short_range_model, tmp_path / "short.pth.tar")
    with pytest.raises(ValueError, match="holds a model without charges"):
        CHGNetLES.from_file(str(tmp_path / "short.pth.tar"))


def test_prediction_of_ase_structures_and_molecules(model):
    atoms = dimer()
    expected = model.predict_structure(atoms, task="ef")
    assert expected["f"].shape == (len(atoms), 3)
    molecule = Molecule(atoms.get_chemical_symbols(), atoms.positions)
    for other in (molecule, [atoms]):
        actual = model.predict_structure(other, task="ef")
        np.testing.assert_allclose(actual["f"], expected["f"], atol=1e-6)
