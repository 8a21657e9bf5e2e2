"""Makes the small models that tests load: ``python benchmarks/generate checkpoints --model mace``.

Each is trained for some tens of seconds on a few frames of the embedded data, with the shipped
configuration made smaller and with all settings of LES said outright, so that no default decides
what is in a file. Beside it are predictions on two frames of the test set. Run it in the
environment of the model; what is there already is left alone unless ``--again`` is given.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ase import Atoms
from ase.io import write

from les import LESConfig
from les.backends import TrainingJob, get_backend
from les_bench.systems.datasets import load
from les_bench.systems.systems import get_system

SYSTEMS = ("water", "dipeptides", "au2_mgo")

#: Folder of the tests of each model.
FOLDERS = {name: name for name in ("mace", "nequip", "cace", "chgnet")} | {"allegro": "nequip"}
TESTS = Path(__file__).parents[2] / "tests" / "integrations"

#: Number of frames to train on and of epochs.
BUDGETS = {"water": (6, 10), "dipeptides": (24, 12), "au2_mgo": (6, 10)}

#: What is read from predictions.
RESULTS = ("energy", "forces", "charges")

#: Settings of LES of all of them.
LES = LESConfig(
    cutoff="smooth",
    sigma=1.0,
    dl=2.0,
    n_layers=2,
    n_hidden=8,
    initial_charge_scale=0.3,
    output_scaling_factor=1.0,
)


def shrink(name: str, config: dict[str, Any]) -> None:
    """Make the model ``name`` of a shipped configuration small, and its steps few."""
    config.update(valid_batch_size=2)
    if name == "mace":
        config.update(num_channels=8, MLP_irreps="8x0e", radial_MLP="[16, 16]", batch_size=2)
        config.update(max_ell=1, lr=0.02, plot=False, ema_decay=0.9)
    elif name == "cace":
        config["model"].update(n_atom_basis=2, n_rbf=4, n_radial_basis=4, max_l=2, max_nu=2)
        config.update(batch_size=1, ema_decay=0.9, learning_rate=1e-2)
        config["readout"] = {"n_layers": 2, "n_hidden": 16}
    elif name == "chgnet":
        config["model"].update(
            {f"{x}_fea_dim": 16 for x in ("atom", "bond", "angle")},
            atom_conv_hidden_dim=16,
            bond_conv_hidden_dim=16,
            mlp_hidden_dims=[16],
            n_conv=2,
            num_radial=7,
            num_angular=5,
            atom_graph_cutoff=4.0,
            bond_graph_cutoff=2.0,
        )
        config.update(batch_size=1, learning_rate=5e-3)
    else:
        config["batch_size"] = 1
        config["trainer"]["log_every_n_steps"] = 1
        module = config["training_module"]
        module["ema_decay"] = 0.9
        sizes: dict[str, Any] = {"num_layers": 2, "num_features": [8, 8], "radial_mlp_width": 8}
        if name == "allegro":
            sizes = {
                f"{x}_mlp_hidden_layers_width": 16 for x in ("scalar_embed", "allegro", "readout")
            }
            sizes |= {"num_layers": 1, "num_scalar_features": 16, "num_tensor_features": 4}
        module["model"].update(l_max=1, **sizes)


def spread(frames: Sequence[Atoms], n: int) -> list[Atoms]:
    """``n`` of ``frames``, evenly spread, with the labels that are trained on."""
    chosen = []
    for index in np.linspace(0, len(frames) - 1, n).round().astype(int):
        whole = frames[index]
        frame = Atoms(whole.numbers, whole.positions, cell=whole.cell, pbc=whole.pbc)
        frame.info["REF_energy"] = whole.info["REF_energy"]
        frame.arrays["REF_forces"] = whole.arrays["REF_forces"]
        chosen.append(frame)
    return chosen


def make(name: str, system_name: str, work: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """Train the model ``name``; its file in ``work``, and structures with its predictions."""
    backend, system = get_backend(name), get_system(system_name)
    dataset = load(system, "embedded")
    n_train, epochs = BUDGETS[system_name]
    write(work / "train.xyz", spread(dataset.train, n_train), format="extxyz")
    write(work / "valid.xyz", spread(dataset.valid, 2), format="extxyz")
    config = yaml.safe_load(backend.configs()[system.config].read_text())
    shrink(name, config)
    (work / "config.yaml").write_text(yaml.safe_dump(config))
    files = [work / "config.yaml", work / "train.xyz", work / "valid.xyz"]
    settings = f"--les_arguments={yaml.safe_dump(LES.settings(), default_flow_style=True)}"
    job = TrainingJob("small", work, *files, epochs=epochs, extra=(settings,))
    backend.train(backend.training_arguments(job), les=True)
    model = backend.trained_model(job)
    calculator = backend.calculator(model)
    kept: dict[str, np.ndarray] = {}
    for index, atoms in enumerate(spread(dataset.test, 2)):
        calculator.calculate(atoms)
        structure = {"numbers": atoms.numbers, "positions": atoms.positions}
        structure |= {"cell": atoms.cell[:], "pbc": atoms.pbc}
        found = {result: np.asarray(calculator.results[result]) for result in RESULTS}
        kept |= {f"{index}.{key}": value for key, value in {**structure, **found}.items()}
    return model, kept


def main(arguments: Sequence[str]) -> None:
    """Make the models asked for, one after the other."""
    parser = argparse.ArgumentParser(prog="generate checkpoints", description=__doc__)
    parser.add_argument("--model", choices=sorted(FOLDERS), required=True)
    parser.add_argument("--system", choices=SYSTEMS, action="append", help="default: all")
    parser.add_argument("--again", action="store_true", help="make those that are there anew")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    folder = TESTS / FOLDERS[options.model] / "data"
    folder.mkdir(exist_ok=True)
    for system in options.system or SYSTEMS:
        predictions = folder / f"{options.model}_{system}.npz"
        if predictions.exists() and not options.again:
            continue
        with tempfile.TemporaryDirectory() as work:
            model, kept = make(options.model, system, Path(work))
            ending = model.name.partition(".")[2]
            shutil.copy(model, predictions.with_suffix(f".{ending}"))
        np.savez_compressed(predictions, **kept)
