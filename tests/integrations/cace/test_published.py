"""Published model files: what they give, what is refused, and what becomes of them."""

from __future__ import annotations

import copy
import os

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.io import read, write
from ase.stress import voigt_6_to_full_3x3_stress
from torch import nn

from les.backends.model_files import PickleRefusedError
from les.testing.adapter import results_of
from les.testing.derivatives import derivative
from les.testing.structures import crystal, strained
from les_cace import LESCalculator, load_model, load_published, save_model
from les_cace.batches import collate, to_structure
from les_cace.stubs import Stub, read_stubs

#: One file of each kind, beside those of the same kind with other weights.
COMBINED, COMBINED_WITHOUT_CHARGES = "licl_LR-0", "licl_SR-0"
SUMMED, WRAPPED = "pbtio3", "au_caceles-r-5.5-nl-1-nu-2"
FILES = (
    COMBINED,
    "licl_LR-1",
    COMBINED_WITHOUT_CHARGES,
    "licl_SR-1",
    SUMMED,
    WRAPPED,
    "au2_lr",
    "au2_sr",
)


@pytest.fixture(scope="module")
def checkpoint(reference_dir):
    """A function for the path of a published file."""

    def path(name):
        if name == "water":
            return reference_dir / "checkpoints" / "cace_les_water_r45_nu2.pth"
        return reference_dir / "checkpoints" / "cace" / f"{name}.pth"

    return path


@pytest.fixture
def changed(checkpoint, monkeypatch):
    """A function for the model in a file, after changes to what the file holds."""

    def load(name, *changes):
        def read_changed(path):
            module = read_stubs(path)
            for apply in changes:
                apply(module)
            return module

        monkeypatch.setattr("les_cace.published.read_stubs", read_changed)
        return load_published(checkpoint(name), allow_pickle=True)

    return load


@pytest.fixture(scope="module")
def published(checkpoint):
    """A function for the model in a file, which tests must not change."""
    models = {}

    def load(name):
        if name not in models:
            models[name] = load_published(checkpoint(name), allow_pickle=True)
        return models[name]

    return load


def small_crystal(zs):
    """A crystal of as many atoms as there are elements, which the models need not know."""
    rng = np.random.default_rng(2)
    cell = 4.1 * np.eye(3) + rng.uniform(-0.3, 0.3, (3, 3))
    places = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])[: len(zs)]
    return Atoms(zs, places @ cell + rng.uniform(-0.1, 0.1, (len(zs), 3)), cell=cell, pbc=True)


def evaluate(model, atoms, **wanted):
    batch = collate([to_structure(atoms, model.cutoff)])
    return {key: value.detach() for key, value in model(batch, **wanted).items()}


# --- what they give


def test_wetting_of_au2_on_mgo(published, data_dir):
    """The dopant, ten Angstrom below, turns Au2 over; only charges know of it."""
    frames = read(data_dir / "au2_mgo" / "au2_mgo_dft_optimised4.xyz", ":")
    for name, expected in (
        ("au2_lr", [0.931, -0.071]),
        (WRAPPED, [0.931, -0.071]),
        ("au2_sr", None),
    ):
        model = published(name)
        structures = [to_structure(x, model.cutoff) for x in frames]
        energies = model(collate(structures), compute_forces=False)["energy"].tolist()
        by_kind = {
            (x.info["doped"], x.info["geometry"]): y for x, y in zip(frames, energies, strict=True)
        }
        wetting = [by_kind[x, "wetting"] - by_kind[x, "nonwetting"] for x in (False, True)]
        if expected is None:
            assert wetting[1] == pytest.approx(wetting[0], abs=0.03)
        else:
            assert wetting == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize(("name", "file"), [(COMBINED, "lr"), (COMBINED_WITHOUT_CHARGES, "sr")])
def test_forces_at_an_interface(name, file, published, data_dir):
    """The published forces have been computed in single precision."""
    atoms = read(data_dir / "licl_gaf3" / f"ood_{file}.xyz")
    expected = atoms.arrays["F_CACE"]
    for dtype, tolerance in (("float32", 1e-5), ("float64", 2e-5)):
        calculator = LESCalculator(published(name), dtype=dtype)
        forces = results_of(calculator, atoms)["forces"]
        np.testing.assert_allclose(forces, expected, rtol=0, atol=tolerance)
        assert np.sqrt(np.mean((forces - expected) ** 2)) < 5e-6


@pytest.mark.parametrize("name", FILES)
def test_converted_saved_and_loaded(name, published, tmp_path):
    model = published(name)
    save_model(model, tmp_path / "model.cace.pt")
    loaded = load_model(tmp_path / "model.cace.pt")
    atoms = small_crystal(model.representation.zs)
    charged = model.les_config is not None
    results = [
        evaluate(x, atoms, compute_stress=True, compute_bec=charged) for x in (model, loaded)
    ]
    assert results[0].keys() == results[1].keys()
    assert ("charges" in results[0]) == charged == ("LR" in name or "SR" not in name.upper())
    for key, value in results[0].items():
        assert torch.equal(results[1][key], value), key


@pytest.mark.parametrize(
    ("name", "positive", "negative"), [(COMBINED, 3, 17), ("au2_lr", 12, 8), (SUMMED, 22, 8)]
)
def test_charges_are_in_units_of_e(name, positive, negative, published):
    """In the units of the files they are 9.5 times as large, in those of the energy not."""
    model = published(name)
    assert model.les_config.norm_factor == 90.0474
    assert model.les_config.output_scaling_factor == pytest.approx(90.0474**-0.5)
    atoms = Atoms([positive, negative] * 4, pbc=True, cell=[4.6] * 3)
    corners = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]])
    atoms.positions[::2], atoms.positions[1::2] = 2.3 * corners, 2.3 * ((corners + [1, 0, 0]) % 2)
    results = results_of(LESCalculator(model), atoms)
    assert 0.02 < results["charges"][0] < 2.0
    assert -2.0 < results["charges"][1] < -0.02


@pytest.mark.parametrize("name", [COMBINED, SUMMED, WRAPPED, COMBINED_WITHOUT_CHARGES])
def test_derivatives(name, published):
    """Forces and stress of all kinds, and the response of those with charges."""
    calculator = LESCalculator(published(name))
    atoms = small_crystal(published(name).representation.zs)
    results = results_of(calculator, atoms)

    def energy(shift, strain):
        moved = strained(atoms, strain)
        moved.positions[1] += shift
        return results_of(calculator, moved)["energy"]

    expected = [derivative(lambda t, x=x: energy(t * x, np.zeros((3, 3)))) for x in np.eye(3)]
    np.testing.assert_allclose(results["forces"][1], np.negative(expected), rtol=0, atol=2e-7)
    stress = voigt_6_to_full_3x3_stress(results["stress"])
    for row, column in ((0, 0), (2, 2), (0, 1), (1, 2)):
        strain = np.zeros((3, 3))
        strain[row, column] += 0.5
        strain[column, row] += 0.5
        # Steps so small that no wave crosses the sharp end of the sum.
        expected = derivative(lambda t, x=strain: energy(0.0, t * x), 1e-4) / atoms.get_volume()
        assert stress[row, column] == pytest.approx(expected, rel=0, abs=1e-7)


@pytest.mark.parametrize("name", [COMBINED, SUMMED, WRAPPED])
def test_response_of_a_molecule(name, published):
    calculator, with_bec = (LESCalculator(published(name), bec=bec) for bec in (False, True))
    atoms = small_crystal(published(name).representation.zs)
    atoms.pbc = False
    bec = results_of(with_bec, atoms)["born_effective_charges"].reshape(-1, 3, 3)
    assert np.abs(bec).max() > 1e-2
    for axis in range(3):

        def dipole(shift, axis=axis):
            moved = atoms.copy()
            moved.positions[1, axis] += shift
            return results_of(calculator, moved)["dipole"]

        np.testing.assert_allclose(bec[1][:, axis], derivative(dipole), rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", [COMBINED, SUMMED, WRAPPED, "water"])
def test_response_of_a_crystal(name, published):
    """It does not depend on how many cells are written down."""
    calculator = LESCalculator(published(name), bec=True)
    atoms = small_crystal(published(name).representation.zs)
    one, two = (
        results_of(calculator, x)["born_effective_charges"]
        for x in (atoms, atoms.repeat((1, 2, 1)))
    )
    assert np.abs(one - one[:1]).max() > 1e-2
    np.testing.assert_allclose(two, np.tile(one, (2, 1)), rtol=0, atol=1e-10)


@pytest.fixture(scope="module")
def response_of_water(published, reference_dir):
    """Born effective charges of 64 molecules of water.

    They are those of the published formula, of the same in supercells of 2 x 2 x 2 and 3 x 3 x 3,
    and the exact ones.
    """
    arrays = np.load(reference_dir / "oracles" / "cace" / "oracle_water_r45_T0_l2_nu2.npz")
    cell = arrays["s1.cell"]
    atoms = Atoms(arrays["s1.numbers"], arrays["s1.positions"], cell=cell, pbc=True)

    def evaluated(bec, repeat):
        calculator = LESCalculator(published("water"), bec=bec)
        return results_of(calculator, atoms.repeat(repeat))["born_effective_charges"][: len(atoms)]

    return *(evaluated("phase", n) for n in (1, 2, 3)), evaluated("exact", 1)


def rms(values):
    return np.sqrt(np.mean(values**2))


def test_response_of_water_is_the_limit_of_large_cells(response_of_water):
    """The published formula gets there with the square of the length of the cell."""
    *of_cells, exact = response_of_water
    differences = [rms(x - exact) / rms(exact) for x in of_cells]
    assert differences == pytest.approx([0.1305, 0.0350, 0.0158], rel=0.01)
    limit = (9.0 * of_cells[2] - 4.0 * of_cells[1]) / 5.0
    assert rms(limit - exact) < 2e-4


def test_charges_that_there_are_not(published):
    with pytest.raises(ValueError, match=r"`bec` needs a model with LES"):
        LESCalculator(published(COMBINED_WITHOUT_CHARGES), bec=True)
    calculator = LESCalculator(published("au2_sr"))
    assert not {"charges", "dipole", "les_energy"} & set(calculator.implemented_properties)


# --- kinds that differ in details from those files


def at(*path):
    """A function for what ``path`` leads to in a published model."""

    def find(module):
        for name in path:
            module = module[name] if isinstance(name, int) else getattr(module, name)
        return module

    return find


def change(*path, **values):
    """A function that sets attributes of what ``path`` leads to in a published model."""

    def apply(module):
        found = at(*path)(module)
        for name, value in values.items():
            if isinstance(value, nn.Parameter):
                found._parameters[name] = value
            else:
                found.__dict__[name] = value

    return apply


def append(*path, kind, **values):
    """A function that adds a module of the class ``kind`` to the list at ``path``."""

    def apply(module):
        at(*path)(module).append(stub(kind, **values))

    return apply


def stub(kind, **values):
    # A list of modules takes modules only.
    return type(kind, (Stub, nn.Module), {})(**values, _modules={})


#: Of a combination, the representation, which its potentials share.
SHORT_RANGE = ("models", 0, "representation")


def own_representation(**values):
    """A function that gives the charges of a combination a representation of their own."""

    def apply(module):
        own = copy.deepcopy(module.models[1].representation)
        own.__dict__.update(values)
        module.models[1]._modules["representation"] = own

    return apply


def test_charges_from_another_representation(changed, published, tmp_path):
    """The short-range energy is that of one model, and the charges those of another."""
    long, short = published(COMBINED), changed(COMBINED, change(*SHORT_RANGE, cutoff=4.0))
    shorter_charges = changed(COMBINED, own_representation(cutoff=4.0))
    longer_charges = changed(COMBINED, own_representation(), change(*SHORT_RANGE, cutoff=4.0))
    atoms = small_crystal(long.representation.zs)
    for model, energies, charges in (
        (shorter_charges, long, short),
        (longer_charges, short, long),
    ):
        save_model(model, tmp_path / "model.cace.pt")
        calculator = LESCalculator(tmp_path / "model.cace.pt", bec=True)
        assert calculator.model.cutoff == 5.5
        results, first, second = (
            results_of(x, atoms)
            for x in (calculator, *(LESCalculator(x, bec=True) for x in (energies, charges)))
        )
        assert abs(first["les_energy"] - second["les_energy"]) > 1e-3
        for key in ("charges", "born_effective_charges"):
            np.testing.assert_allclose(results[key], second[key], rtol=1e-10, atol=1e-14)
        expected = first["energy"] - first["les_energy"] + second["les_energy"]
        assert results["energy"] == pytest.approx(expected, rel=1e-12)

        def energy(shift, calculator=calculator):
            moved = atoms.copy()
            moved.positions[1, 2] += shift
            return results_of(calculator, moved)["energy"]

        assert results["forces"][1, 2] == pytest.approx(-derivative(energy), rel=0, abs=2e-7)


def test_weights_of_a_combination(changed, published):
    """They scale energies; charges are those of the energy, with its constant unchanged."""
    parts = [{"weight": 0.5}, {"weight": 4.0}]

    def weigh(module):
        for keys, own in zip(module.potential_keys, parts, strict=True):
            keys.update(own)

    model = changed(COMBINED, weigh)
    atoms = small_crystal(model.representation.zs)
    before, after = evaluate(published(COMBINED), atoms), evaluate(model, atoms)
    assert abs(before["les_energy"]) > 1e-2
    torch.testing.assert_close(after["les_energy"], 4.0 * before["les_energy"])
    torch.testing.assert_close(after["charges"], 2.0 * before["charges"])
    expected = 0.5 * (before["energy"] - before["les_energy"]) + 4.0 * before["les_energy"]
    torch.testing.assert_close(after["energy"], expected)
    assert model.les_config.norm_factor == published(COMBINED).les_config.norm_factor


def test_names_of_energies_do_not_matter(changed, published):
    model = changed(
        "water",
        change("output_modules", 1, output_key="one"),
        change("output_modules", 0, energy_key="other"),
        change("output_modules", 2, feature_keys=["other", "one"], output_key="total"),
        change("output_modules", 3, energy_key="total"),
    )
    energies = [evaluate(x, crystal("cubic"))["energy"] for x in (model, published("water"))]
    torch.testing.assert_close(*energies, rtol=0, atol=0)


@pytest.mark.parametrize("widths", [None, 7])
def test_widths_follow_from_the_weights(widths, changed, published):
    model = changed("water", change("output_modules", 1, n_hidden=widths))
    assert model.arguments == published("water").arguments


def test_one_embedding_of_elements(changed):
    """Then it is one weight in training, too."""

    def share(module):
        parts = module.representation._modules
        parts["node_embedding_receiver"] = parts["node_embedding_sender"]

    def equal(module):
        parts = module.representation._modules
        parts["node_embedding_receiver"] = copy.deepcopy(parts["node_embedding_sender"])

    one, two = (changed("water", x) for x in (share, equal))
    assert one.representation.receiver_embedding is None
    energies = [evaluate(x, crystal("cubic"))["energy"] for x in (one, two)]
    torch.testing.assert_close(*energies, rtol=0, atol=0)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_polarization_sets_the_response(sign, changed, published):
    """Born effective charges as the file computes them: here of a dielectric constant of 3.1."""
    factor = sign * np.sqrt(3.1 / 90.0474)
    polarization = {"charge_key": "q", "remove_mean": False, "normalization_factor": factor}
    modules = ("output_modules",)
    model = changed(
        SUMMED,
        append(*modules, kind="Polarization", output_key="polarization", **polarization),
        append(*modules, kind="Grad", output_key="bec_complex"),
        append(*modules, kind="Dephase", output_key="CACE_bec"),
    )
    assert model.les_config.epsilon_factor == pytest.approx(3.1)
    assert not model.les_config.remove_mean
    atoms = small_crystal(model.representation.zs)
    before, after = evaluate(published(SUMMED), atoms), evaluate(model, atoms)
    torch.testing.assert_close(after["charges"], np.sqrt(3.1) * before["charges"])
    torch.testing.assert_close(after["energy"], before["energy"])
    with pytest.raises(ValueError, match="Polarization have different settings"):
        changed(
            SUMMED,
            append(*modules, kind="Polarization", **polarization),
            append(*modules, kind="Polarization", **{**polarization, "remove_mean": True}),
        )


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("water", ("output_modules", 0, "les", "atomwise")),
        (SUMMED, ("output_modules", 1)),
    ],
)
def test_several_charges(name, path, changed, published):
    """Four times the one channel there is: half the charge each gives the same energy."""

    def four(module):
        readout = at(*path)(module)
        readout.n_out = 4
        for layer in (readout.outnet[2], readout.linear_nn):
            for key, value in layer.linear._parameters.items():
                if value is not None:
                    repeated = 0.5 * value.detach().repeat(4, *[1] * (value.dim() - 1))
                    layer.linear._parameters[key] = nn.Parameter(repeated)

    model = changed(name, four)
    assert model.les_config.n_channels == 4
    atoms = small_crystal(model.representation.zs)
    energies = [evaluate(x, atoms)["les_energy"] for x in (model, published(name))]
    torch.testing.assert_close(*energies, rtol=1e-10, atol=0.0)
    assert "latent_charges" in results_of(LESCalculator(model), atoms)


# --- what is refused

READOUT = ("output_modules", 1)
LAYERS = (*READOUT, "outnet")


def twice_the_first(module):
    module.models._modules["1"] = module.models[0]
    module.potential_keys[1] = module.potential_keys[0]


def without_forces(module):
    del module.output_modules[3]


@pytest.mark.parametrize(
    ("name", "apply", "message"),
    [
        ("water", change(do_postprocessing=True), "`do_postprocessing` of its NeuralNetwork"),
        (
            "water",
            change("representation", "edge_coding", directed=False),
            "`directed` of its Edge",
        ),
        (
            "water",
            change("representation", forward_features=["q"]),
            "`forward_features` of its Cace",
        ),
        ("water", change("representation", cutoff_fn=nn.Identity()), "its cutoff_fn is a Identity"),
        ("water", change("output_modules", 0, compute_energy=False), "`compute_energy` of its Les"),
        (
            "water",
            change("output_modules", 2, feature_keys=["SR_energy"]),
            "its LesWrapper of 'ewald_potential' is not in the energy",
        ),
        ("water", change("output_modules", 2, feature_keys=["E"]), "must make 'E', got none"),
        ("water", without_forces, "must make 'forces', got none"),
        ("water", change(*READOUT, residual=True), "`residual` of its Atomwise is True"),
        (
            "water",
            change(*READOUT, aggregation_mode="avg"),
            "`aggregation_mode` of its Atomwise is",
        ),
        ("water", change(*LAYERS, 0, activation=torch.tanh), "has the activation 'tanh'"),
        ("water", change(*LAYERS, 2, activation=nn.SiLU()), "ends with the activation 'SiLU'"),
        ("water", change(*READOUT, outnet=None), "has no weights: it was never evaluated"),
        (
            "water",
            change(*LAYERS, 2, "linear", weight=nn.Parameter(torch.ones(1, 1))),
            r"weights of the shape \[1, 16\] expected",
        ),
        ("water", change("output_modules", 0, "les", use_dipole=True), "`use_dipole` of its Les"),
        ("water", append("input_modules", kind="Embedding"), "its input module Embedding is not"),
        (
            SUMMED,
            change("representation", "message_passing_list", 0, 2, use_batchnorm=True),
            "`use_batchnorm` of its MessageBchi",
        ),
        (SUMMED, append("output_modules", kind="ChargeEq"), "its output module ChargeEq is not"),
        (SUMMED, change("output_modules", 2, exponent=6), "`exponent` of its EwaldPotential is 6"),
        (SUMMED, change("output_modules", 2, external_field=0.1), "`external_field` of its Ewald"),
        (SUMMED, change("output_modules", 2, charge_neutral_lambda=1.0), "`charge_neutral_lambda`"),
        (SUMMED, change("output_modules", 2, feature_key="Q"), "must make 'Q', got none"),
        (COMBINED, change(operation=np.mean), "`operation` of its CombinePotential is 'mean'"),
        (COMBINED, change(out_keys=["CACE_forces"]), "must add up the energies and the forces"),
        (COMBINED, change("models", 1, "output_modules", 2, energy_key="q"), "must make 'q', got"),
        (COMBINED, own_representation(zs=[3, 17, 9, 31]), "`charge_representation` must have `zs`"),
        (
            COMBINED,
            lambda module: module.potential_keys[1].update(weight=-1.0),
            "long-range energy has the weight -1.0",
        ),
        (
            COMBINED,
            twice_the_first,
            r"one readout of energies and one of charges expected, got \['Atomwise', 'Atomwise'\]",
        ),
    ],
)
def test_models_of_another_kind(name, apply, message, changed):
    with pytest.raises(ValueError, match=message):
        changed(name, apply)


def test_other_files(tmp_path, checkpoint):
    path = tmp_path / "model.pth"
    with pytest.raises(FileNotFoundError, match="no published CACE model file"):
        load_published(path, allow_pickle=True)
    torch.save(nn.Linear(1, 1), path)
    with pytest.raises(PickleRefusedError, match="is a pickle; if its source is one that you"):
        load_published(path)
    with pytest.raises(ValueError, match="or a CombinePotential, got Linear"):
        load_published(path, allow_pickle=True)
    content = bytearray(checkpoint(COMBINED).read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.pth is .*damaged"):
        load_published(path, allow_pickle=True)
    path.write_bytes(b"\x80 and no pickle")
    with pytest.raises(ValueError, match=r"model\.pth \(15 bytes\) is no published CACE model"):
        load_published(path, allow_pickle=True)


class MakesAFolder:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_functions_of_other_packages_do_not_run(tmp_path):
    torch.save([MakesAFolder(tmp_path / "made"), {1, 2}, b"bytes"], tmp_path / "model.pth")
    call, numbers, text = read_stubs(tmp_path / "model.pth")
    assert type(call).__name__ == "mkdir"
    assert call.called_with == (str(tmp_path / "made"),)
    assert not (tmp_path / "made").exists()
    assert (numbers, text) == ({1, 2}, b"bytes")


# --- going on from them


@pytest.mark.parametrize("changes", [[], [own_representation(cutoff=4.0)]])
def test_training_goes_on(changes, changed, les_command, tmp_path, capsys):
    start = tmp_path / "start.cace.pt"
    model = changed(COMBINED, *changes)
    save_model(model, start)
    frames = []
    for seed in range(4):
        atoms = small_crystal(model.representation.zs)
        atoms.rattle(0.05, seed=seed)
        out = evaluate(model, atoms)
        atoms.info["REF_energy"] = out["energy"].item() + 2.0
        atoms.arrays["REF_forces"] = 1.1 * out["forces"].numpy()
        frames.append(atoms)
    for name in ("train", "valid"):
        write(tmp_path / f"{name}.xyz", frames, format="extxyz")
    arguments = [
        *(f"--{name}_file={tmp_path / name}.xyz" for name in ("train", "valid")),
        f"--from={start}",
        f"--work_dir={tmp_path}",
        "--name=on",
        "--learning_rate=1e-3",
        "--epochs=4",
    ]
    assert les_command("train", "cace", "--no-les", *arguments) == 1
    assert "has charges; train it with --les" in capsys.readouterr().err
    assert les_command("train", "cace", "--les", *arguments) == 0
    trained = load_model(tmp_path / "on.cace.pt")
    assert trained.les_config == model.les_config
    expected = torch.stack([torch.as_tensor(x.arrays["REF_forces"]) for x in frames])
    errors = []
    for own in (model, trained):
        forces = [evaluate(own.copy(torch.float64, "cpu"), x)["forces"] for x in frames]
        errors.append(float((torch.stack(forces) - expected).abs().mean()))
    assert errors[1] < 0.9 * errors[0]
