"""Compilation with inductor, for training and for use; see also test_graph.py.

Each compilation takes a minute or more, so there is one of each kind.
"""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.calculators.lj import LennardJones
from ase.io import write

from les.backends import get_backend
from les.testing.adapter import results_of
from les.testing.slabs import slab
from les.testing.structures import crystal, dimer
from les_nequip import LES, LESCalculator

pytestmark = [
    pytest.mark.usefixtures("nequip_state"),
    pytest.mark.slow,
    # The compiler warns about itself, and of hooks that other tests of the process left.
    pytest.mark.filterwarnings(r"ignore:::torch\."),
    pytest.mark.filterwarnings("ignore:Using .torch.compile.module.. when there are global hooks"),
]

SMALL = {"num_layers": 2, "l_max": 1, "num_features": 4, "radial_mlp_width": 4}
#: The size of the graph decides how long a compilation takes.
SMALLEST = {**SMALL, "num_layers": 1, "l_max": 0}
SMALL_ALLEGRO = {
    "num_scalar_features": 4,
    "num_tensor_features": 2,
    "num_layers": 1,
    "l_max": 1,
}
BATCHES = {
    "open": [dimer(), dimer()[:3], dimer()[2:]],
    "periodic": [crystal("cubic"), crystal("triclinic"), crystal("left-handed")],
    "slabs": [slab(), slab(0), crystal("triclinic")],
}


@pytest.mark.parametrize("boundary", BATCHES)
def test_gradients_of_compiled_training(boundary, nequip_model, nequip_data, monkeypatch):
    """Of a loss on energies, forces and stress, for batches of several sizes.

    Code is generated for slabs, which have all that there is. The graphs of the others are executed
    without that, in a quarter of the time.
    """
    if boundary != "slabs":
        monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    models = [
        nequip_model(les={"output_scaling_factor": 3.0}, compile_mode=mode, **SMALLEST).train()
        for mode in ("eager", "compile")
    ]
    first, in_cells = BATCHES[boundary], boundary != "open"
    for structures in (first, [*first, *first[:1], first[1].repeat(1 + (boundary == "periodic"))]):
        batch, gradients, outputs = nequip_data(*structures), [], []
        for model in models:
            model.zero_grad()
            if boundary == "periodic":  # later batches have larger cells
                LES.set_les_max_cell(model, 12.0)
            out = model({key: value.clone() for key, value in batch.items()})
            loss = (out["total_energy"] ** 2).sum() + (out["forces"] ** 2).sum()
            if in_cells:
                loss = loss + 100.0 * (out["stress"] ** 2).sum()
            loss.backward()
            parameters = [p.grad for p in model.parameters() if p.grad is not None]
            gradients.append(torch.cat([gradient.flatten() for gradient in parameters]))
            outputs.append(out)
        for key in ("total_energy", "les_energy", "charges", "forces"):
            scale = outputs[0][key].abs().max().item()
            torch.testing.assert_close(outputs[1][key], outputs[0][key], rtol=0, atol=1e-9 * scale)
        change = (gradients[1] - gradients[0]).abs().max() / gradients[0].abs().max()
        assert change < 1e-6
        assert gradients[0].shape == gradients[1].shape
    assert models[1]._compiled_cache[0]


def test_compiled_training_on_born_effective_charges(nequip_model, nequip_data):
    """Of two layers, so that features of other atoms matter."""
    settings = {"output_scaling_factor": 3.0, "compute_bec": True, "max_cell": 6.0}
    batch, gradients, outputs = nequip_data(*BATCHES["periodic"][:2]), [], []
    for mode in ("eager", "compile"):
        model = nequip_model(les=settings, compile_mode=mode, **{**SMALL, "l_max": 0}).train()
        out = model({key: value.clone() for key, value in batch.items()})
        out["born_effective_charges"].square().sum().backward()
        # Compiled code gives zeros where nothing depends on a parameter.
        grads = [torch.zeros_like(x) if x.grad is None else x.grad for x in model.parameters()]
        gradients.append(torch.cat([gradient.flatten() for gradient in grads]))
        outputs.append(out["born_effective_charges"])
    assert model._compiled_cache[0]
    assert gradients[0].abs().max() > 1e-3
    torch.testing.assert_close(outputs[1], outputs[0], rtol=0, atol=1e-10)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-7, atol=1e-9)


def labelled(boundary):
    frames = []
    for index, atoms in enumerate(2 * BATCHES[boundary][:2]):
        frame = atoms.copy()
        frame.rattle(0.05, seed=index)
        frame.calc = LennardJones(sigma=0.85, epsilon=0.2, rc=4.0, smooth=True)
        frame.info["REF_energy"] = frame.get_potential_energy()
        frame.arrays["REF_forces"] = frame.get_forces()
        frame.calc = None
        frames.append(frame)
    return frames


@pytest.fixture(scope="module")
def checkpoint(les_command, tmp_path_factory):
    """A function that trains for one epoch on structures of one boundary condition, once."""

    @functools.cache
    def train(name, boundary, **sizes):
        folder = tmp_path_factory.mktemp(name)
        write(folder / "data.xyz", labelled(boundary), format="extxyz")
        system = "dipeptides" if boundary == "open" else "water"
        sizes = {f"training_module.model.{key}": value for key, value in sizes.items()}
        settings = {
            "train_file": f"'{folder / 'data.xyz'}'",
            "valid_file": f"'{folder / 'data.xyz'}'",
            "elements": "[H,O]",
            "max_epochs": 1,
            "training_module.model.model_dtype": "float64",
            "hydra.run.dir": f"'{folder}'",
            "hydra/job_logging": "stdout",
            "trainer.log_every_n_steps": 1,
            "++trainer.enable_progress_bar": "false",
            **sizes,
        }
        overrides = [f"{key}={value}" for key, value in settings.items()]
        configs = get_backend(name).configs()[system].parent
        options = ["--config-path", configs, "--config-name", system, *overrides]
        assert les_command("train", name, "--les", *options) == 0
        return folder / "best.ckpt"

    return train


def run_compile(checkpoint, target):
    """``nequip-compile``; the result and the compiled model."""
    path = checkpoint.with_name(f"{target}.nequip.pt2")
    program = Path(sys.executable).with_name("nequip-compile")
    options = ["--mode", "aotinductor", "--device", "cpu", "--target", target]
    result = subprocess.run(
        [program, checkpoint, path, *options], capture_output=True, text=True, cwd=path.parent
    )
    return result, path


@pytest.mark.parametrize(("boundary", "sizes"), [("open", SMALLEST), ("slabs", SMALL)])
def test_compiled_model(boundary, sizes, checkpoint):
    """In ASE: the same results as without compilation, and refusals.

    Two NequIP models are compiled, both in double precision, in which results agree to 1e-9. The
    one for open structures has one layer and scalar features only. The one for periodic
    structures has two layers and vector features; it is trained on slabs, and evaluated on these
    and on a crystal. In single precision test_upstream.py compiles a NequIP model for crystals,
    with upstream's own target, and compares no charges.

    Not covered for ASE are NequIP models for open structures with several layers or vector
    features, models in double precision that were trained on crystals alone, and charges and Born
    effective charges of models that are compiled in single precision.
    """
    trained = checkpoint("nequip", boundary, **sizes)
    result, path = run_compile(trained, "ase_les_bec")
    assert result.returncode == 0, result.stderr[-4000:]
    eager = LESCalculator(trained, bec=True)
    with pytest.raises(ValueError, match=r"is a compiled model, a program; .*--allow-pickle"):
        LESCalculator(path)
    with pytest.raises(ValueError, match=r"`dtype` is float32, but .* was compiled in float64"):
        LESCalculator(path, dtype="float32", allow_pickle=True)
    compiled = LESCalculator(path, bec=True, allow_pickle=True)
    kind = {"slabs": "periodic"}.get(boundary, boundary)
    assert compiled.settings["boundary"] == kind
    assert (compiled.bec_method, compiled.settings["bec_method"]) == ("exact", "exact")
    with pytest.raises(ValueError, match=r"was compiled with exact Born .* bec='phase' is for"):
        LESCalculator(path, bec="phase", allow_pickle=True)
    structures = list(BATCHES[boundary])
    if boundary == "open":
        boxed = dimer()
        boxed.set_cell([4.0, 5.0, 30.0])
        structures.append(boxed)
    else:
        strained = structures[1].copy()
        strained.set_cell(1.05 * strained.cell[:], scale_atoms=True)
        structures.append(strained)
    for atoms in structures:
        expected, actual = results_of(eager, atoms), results_of(compiled, atoms)
        assert actual.keys() == expected.keys()
        assert actual["les_energy"] != 0.0
        for key, value in expected.items():
            np.testing.assert_allclose(actual[key], value, rtol=0, atol=1e-9, err_msg=key)
    other = {"open": crystal("cubic"), "periodic": dimer()}[kind]
    with pytest.raises(ValueError, match=f"was compiled for {kind} structures, got pbc"):
        compiled.calculate(other)
    if boundary == "open":  # no slabs were seen
        with pytest.raises(ValueError, match=r"pbc must have 0 or 3 axes true, got"):
            compiled.calculate(slab())
    else:
        with pytest.raises(RuntimeError, match="max_cell"):
            compiled.calculate(crystal("cubic").repeat((1, 2, 1)))


@pytest.mark.parametrize(
    ("name", "target", "sizes"),
    [
        ("nequip", "batch_les_bec", SMALLEST),
        ("allegro", "pair_nequip_les_bec", SMALL_ALLEGRO),
    ],
)
def test_compiled_for_other_programs(name, target, sizes, checkpoint):
    """nequip-compile compares all outputs with the model's before it writes anything."""
    result, path = run_compile(checkpoint(name, "periodic", **sizes), target)
    assert result.returncode == 0, result.stderr[-4000:]
    assert path.is_file()


def test_pair_allegro_is_refused(checkpoint):
    trained = checkpoint("allegro", "periodic", **SMALL_ALLEGRO)
    result, path = run_compile(trained, "pair_allegro")
    assert result.returncode != 0
    assert "needs the cell in its input, which pair_allegro does not pass" in result.stderr
    assert not path.exists()
