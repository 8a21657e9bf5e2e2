"""Published LES: its energies, forces, potentials and Born effective charges."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from les import Ewald, Les, born_effective_charges

CELLS = ("cubic", "ortho", "triclinic", "rotated", "open")
VARIANTS = ("default", "sigma1.5_dl1.5", "selfint", "charged", "channels4")


def load_case(file, case):
    """Tensors and scalars of one case, and its keyword arguments."""
    with np.load(file) as archive:
        values = {
            name.partition("/")[2]: torch.tensor(archive[name])
            for name in archive.files
            if name.startswith(case + "/")
        }
    assert values, f"{file} has no case {case}"
    options = {k.removeprefix("arg_"): v.item() for k, v in values.items() if k.startswith("arg_")}
    return values, options


def relative(value, expected):
    return ((value - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("through_les", [False, True], ids=["Ewald", "Les"])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("cell", CELLS)
def test_energies(reference_dir, cell, variant, through_les):
    file = reference_dir / "oracles" / "les_energy_reference.npz"
    values, options = load_case(file, f"{cell}_{variant}")
    charges = values["charges"].requires_grad_()
    positions = values["positions"].requires_grad_()
    if through_les:  # the published dictionary means the published cutoff
        energy = Les(options)(positions, values["cell"].unsqueeze(0), latent_charges=charges)[
            "E_lr"
        ]
    else:
        ewald = Ewald(cutoff="sharp", **options)
        energy, potential = ewald(
            charges, positions, values["cell"].unsqueeze(0), compute_potential=True
        )
        assert relative(potential.detach(), values["dE_dq"]) < 1e-9
    potential, gradient = torch.autograd.grad(energy.sum(), [charges, positions])
    assert relative(energy.detach(), values["energy"]) < 1e-9
    assert relative(-gradient, values["forces"]) < 1e-9
    assert relative(potential, values["dE_dq"]) < 1e-9


@pytest.mark.parametrize("cell", CELLS)
def test_multipoles(reference_dir, cell):
    file = reference_dir / "oracles" / "les_energy_reference.npz"
    values, options = load_case(file, f"{cell}_multipoles")
    names = ("positions", "charges", "dipoles", "quadrupoles")
    positions, charges, dipoles, quadrupoles = (values[name].requires_grad_() for name in names)
    energy, _ = Ewald(cutoff="sharp", **options).multipoles(
        charges, positions, values["cell"].unsqueeze(0), dipoles=dipoles, quadrupoles=quadrupoles
    )
    assert relative(energy.detach(), values["energy"]) < 1e-9
    leaves = [positions, charges, dipoles, quadrupoles]
    to_positions, *others = torch.autograd.grad(energy.sum(), leaves)
    assert relative(-to_positions, values["forces"]) < 1e-9
    expected = ("dE_dq", "dE_d_latent_dipoles", "dE_d_latent_quads")
    for found, name in zip(others, expected, strict=True):
        assert relative(found, values[name]) < 1e-9


@pytest.mark.parametrize("variant", ["multipoles", "induced", "multipoles_induced"])
@pytest.mark.parametrize("cell", CELLS)
def test_induced(reference_dir, cell, variant):
    """All that published LES takes, by its dictionary and its keywords."""
    file = reference_dir / "oracles" / "les_energy_reference.npz"
    values, options = load_case(file, f"{cell}_{variant}")
    names = {
        "positions": "forces",
        "charges": "dE_dq",
        "dipoles": "dE_d_latent_dipoles",
        "quadrupoles": "dE_d_latent_quads",
        "kappas": "dE_d_latent_kappas",
        "alphas": "dE_d_latent_alphas",
    }
    leaves = {name: values[name].requires_grad_() for name in names if name in values}
    latent = {
        "latent_" + name.replace("quadrupoles", "quads"): leaf
        for name, leaf in leaves.items()
        if name != "positions"
    }
    les = Les(options)
    energy = les(leaves["positions"], values["cell"].unsqueeze(0), **latent)["E_lr"]
    assert relative(energy.detach(), values["energy"]) < 1e-9
    to_positions, *others = torch.autograd.grad(energy.sum(), list(leaves.values()))
    found = zip(leaves, [-to_positions, *others], strict=True)
    for name, gradient in found:
        assert relative(gradient, values[names[name]]) < 1e-9


def test_energies_in_one_batch(reference_dir, join):
    file = reference_dir / "oracles" / "les_energy_reference.npz"
    cases = [load_case(file, f"{cell}_default")[0] for cell in CELLS]
    arguments = join([(c["charges"], c["positions"], c["cell"].unsqueeze(0)) for c in cases])
    energy, _ = Ewald(cutoff="sharp")(*arguments)
    expected = torch.stack([case["energy"] for case in cases])
    assert relative(energy, expected) < 1e-9


@pytest.mark.parametrize("through_les", [False, True], ids=["function", "Les"])
@pytest.mark.parametrize("remove_mean", [True, False])
@pytest.mark.parametrize("cell", ["cubic", "triclinic", "open"])
def test_born_effective_charges(reference_dir, cell, remove_mean, through_les):
    file = reference_dir / "oracles" / "les_bec_reference.npz"
    values, _ = load_case(file, f"{cell}_remove_mean_{remove_mean}")
    assert bool(values["remove_mean"]) is remove_mean
    epsilon_factor = float(values["epsilon_factor"])
    positions, matrix = values["positions"].requires_grad_(), values["cell"]
    separation = positions.unsqueeze(0) - positions.unsqueeze(1)
    if cell != "open":
        images = torch.round(separation.detach() @ torch.linalg.inv(matrix))
        separation = separation - images @ matrix
    weights = torch.exp(-separation.square().sum(-1)) * (1.0 - torch.eye(len(positions)))
    charges = values["a"] + (values["b"] * weights).sum(1)
    torch.testing.assert_close(charges.detach(), values["charges"])
    if through_les:
        les = Les({"remove_mean": remove_mean, "epsilon_factor": epsilon_factor})
        bec = les(positions, matrix.unsqueeze(0), latent_charges=charges, compute_bec=True)[
            "BEC"
        ].detach()
    else:
        bec = born_effective_charges(
            charges,
            positions,
            matrix.unsqueeze(0),
            remove_mean=remove_mean,
            epsilon_factor=epsilon_factor,
            method="phase",
        )
    assert relative(bec, values["bec"]) < 1e-9
