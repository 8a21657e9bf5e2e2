"""Small models and data for the tests of adapters."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from ase.calculators.lj import LennardJones
from ase.io import write

from les.cli import main
from les.testing.structures import crystal, dimer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ase import Atoms

#: Settings of a MACE model that trains in seconds.
SMALL_TRAINING = {
    "model": "MACE",
    "num_channels": 8,
    "max_L": 0,
    "r_max": 4.0,
    "num_interactions": 2,
    "correlation": 2,
    "max_ell": 1,
    "num_radial_basis": 4,
    "radial_MLP": "[8, 8]",
    "MLP_irreps": "8x0e",
    "E0s": "average",
    "batch_size": 4,
    "valid_batch_size": 4,
    "max_num_epochs": 2,
    "default_dtype": "float64",
    "device": "cpu",
    "seed": 3,
    "plot": False,
}

#: Builders of small NequIP and Allegro models for H and O, and their arguments.
BUILDERS = {"nequip": "nequip.model.NequIPGNNModel", "allegro": "allegro.model.AllegroModel"}
EMBEDDING = {"_target_": "allegro.nn.TwoBodyBesselScalarEmbed", "num_bessels": 4}
SMALL_MODELS = {
    "nequip": {"num_layers": 2, "l_max": 1, "num_features": 8, "radial_mlp_width": 8},
    "allegro": {
        "radial_chemical_embed": EMBEDDING,
        "l_max": 1,
        "num_layers": 1,
        "num_scalar_features": 8,
        "num_tensor_features": 4,
        "allegro_mlp_hidden_layers_width": 8,
        "readout_mlp_hidden_layers_width": 8,
    },
}
SMALL_MODEL = {
    "seed": 1,
    "type_names": ["H", "O"],
    "r_max": 4.0,
    "avg_num_neighbors": 10.0,
    "per_type_energy_scales": 1.0,
    "per_type_energy_shifts": {"H": -1.0, "O": -2.0},
}

#: Upstreams of an adapter, by the beginning of the names of its test files.
UPSTREAMS = {"mace": ["mace"], "nequip": ["nequip", "allegro"]}
collect_ignore_glob = [
    f"test_{name}*" for name, modules in UPSTREAMS.items() if not all(map(find_spec, modules))
]


@contextlib.contextmanager
def undone() -> Iterator[None]:
    """Undo what upstream's training changes in this process: logging, precision."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    try:
        yield
    finally:
        for handler in [handler for handler in root.handlers if handler not in handlers]:
            root.removeHandler(handler)
            handler.close()
        root.setLevel(level)
        torch.set_default_dtype(dtype)
        torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def les_command() -> Callable[..., int]:
    """A function that runs the command ``les`` in this process, and returns its status."""

    def run(*arguments: Any) -> int:
        with undone():
            torch.set_num_threads(1)
            return main([str(argument) for argument in arguments])

    return run


@pytest.fixture(scope="session")
def mace_arguments() -> dict[str, Any]:
    """Constructor arguments of a small MACE model for H and O."""
    import mace  # noqa: F401  (before e3nn)
    from e3nn import o3
    from mace import modules

    block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    return {
        "r_max": 4.0,
        "num_bessel": 4,
        "num_polynomial_cutoff": 5,
        "max_ell": 2,
        "interaction_cls": block,
        "interaction_cls_first": block,
        "num_interactions": 2,
        "num_elements": 2,
        "hidden_irreps": o3.Irreps("8x0e + 8x1o"),
        "MLP_irreps": o3.Irreps("8x0e"),
        "gate": torch.nn.functional.silu,
        "atomic_energies": np.array([-1.0, -2.0]),
        "avg_num_neighbors": 8.0,
        "atomic_numbers": [1, 8],
        "correlation": 2,
        "radial_MLP": [8, 8],
        "radial_type": "bessel",
        "atomic_inter_scale": 1.0,
        "atomic_inter_shift": 0.0,
    }


@pytest.fixture(scope="session")
def mace_batch() -> Callable[[list[Atoms]], dict[str, torch.Tensor]]:
    """A function that makes upstream's batch of structures, in float64."""
    from mace.data import AtomicData, KeySpecification, config_from_atoms
    from mace.tools.torch_geometric import Batch
    from mace.tools.torch_tools import default_dtype
    from mace.tools.utils import AtomicNumberTable

    def batch(structures: list[Atoms]) -> dict[str, torch.Tensor]:
        table = AtomicNumberTable([1, 8])
        with default_dtype("float64"):
            graphs = [
                AtomicData.from_config(
                    config_from_atoms(atoms, KeySpecification()), z_table=table, cutoff=4.0
                )
                for atoms in structures
            ]
            return Batch.from_data_list(graphs).to_dict()

    return batch


def labelled(n_frames: int, seed: int) -> list[Atoms]:
    """Open and periodic structures in turn, with Lennard-Jones labels for MACE."""
    frames = []
    for index in range(n_frames):
        atoms = dimer() if index % 2 == 0 else crystal("cubic")
        atoms.rattle(0.05, seed=seed + index)
        atoms.calc = LennardJones(sigma=0.85, epsilon=0.2, rc=4.0, smooth=True)
        atoms.info["REF_energy"] = atoms.get_potential_energy() - 8.0
        atoms.arrays["REF_forces"] = atoms.get_forces()
        atoms.calc = None
        frames.append(atoms)
    return frames


@pytest.fixture(scope="session")
def data_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Training and validation file with 12 and 4 frames."""
    folder = tmp_path_factory.mktemp("data")
    for name, frames in (("train", labelled(12, 0)), ("valid", labelled(4, 100))):
        write(folder / f"{name}.xyz", frames, format="extxyz")
    return folder / "train.xyz", folder / "valid.xyz"


@pytest.fixture(scope="session")
def run_program() -> Callable[..., subprocess.CompletedProcess[str]]:
    """A function that runs Python with the given arguments in a process of its own."""

    def run(*arguments: str, check: bool = True, **options: Any) -> Any:
        result = subprocess.run(
            [sys.executable, *arguments],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            **options,
        )
        if check and result.returncode != 0:
            pytest.fail(f"{arguments} ended with {result.returncode}:\n{result.stderr[-4000:]}")
        return result

    return run


@pytest.fixture(scope="session")
def arguments(data_files):
    """A function that makes the arguments of ``mace_run_train``."""

    def make(folder, name="small", **changes):
        train_file, valid_file = data_files
        settings = {
            **SMALL_TRAINING,
            "name": name,
            "work_dir": folder,
            "train_file": train_file,
            "valid_file": valid_file,
            **changes,
        }
        return [f"--{key}={value}" for key, value in settings.items()]

    return make


@pytest.fixture(scope="session")
def train(les_command):
    """A function that runs ``les train mace ...``, which must succeed."""

    def run(*arguments):
        assert les_command("train", "mace", *arguments) == 0

    return run


@pytest.fixture
def refused(les_command, capsys):
    """A function that runs ``les train mace --les ...``, which must fail; its message."""

    def run(arguments):
        capsys.readouterr()
        assert les_command("train", "mace", "--les", *arguments) == 1
        lines = capsys.readouterr().err.splitlines()
        assert "Traceback" not in "".join(lines)
        return next(line for line in lines if line.startswith("les: error: "))

    return run


@pytest.fixture
def initial_state(train, monkeypatch):
    """A function for the weights before the first step of a run."""
    from mace.cli import run_train

    def run(flag, arguments):
        states = []
        configure_model = run_train.configure_model

        def capture(*positional, **keyword):
            model, output_arguments = configure_model(*positional, **keyword)
            states.append({key: value.clone() for key, value in model.state_dict().items()})
            return model, output_arguments

        with monkeypatch.context() as patch:
            patch.setattr(run_train, "configure_model", capture)
            train(flag, *arguments, "--dry_run")
        return states[0]

    return run


@pytest.fixture(scope="module")
def nequip_state():
    """What upstream sets once in a process, to be used by all of its tests."""
    from nequip.utils.global_state import set_global_state

    with undone():
        set_global_state()
        torch.set_default_dtype(torch.float64)  # of all data
        yield


@pytest.fixture(scope="session")
def nequip_section():
    """A function that makes the section ``training_module.model`` of a configuration."""

    def make(kind="nequip", dtype="float64", les=None, **changes):
        common = {"_target_": BUILDERS[kind], "model_dtype": dtype, **SMALL_MODEL}
        section = {**common, **SMALL_MODELS[kind], **changes}
        if les is not None:
            section["pair_potential"] = {"_target_": "les_nequip.LES", **les}
        return section

    return make


@pytest.fixture(scope="session")
def nequip_model(nequip_section):
    """A function that makes a model from the arguments of ``nequip_section``."""
    from hydra.utils import get_method

    def make(*arguments, **keywords):
        section = nequip_section(*arguments, **keywords)
        return get_method(section.pop("_target_"))(**section).eval()

    return make


@pytest.fixture(scope="session")
def nequip_data():
    """A function that makes the input of a model: one structure, or a batch of several."""
    from nequip.data import AtomicDataDict, compute_neighborlist_, from_ase

    def make(*structures):
        graphs = []
        for atoms in structures:
            data = from_ase(atoms)
            data["atom_types"] = torch.tensor([[1, 8].index(number) for number in atoms.numbers])
            graphs.append(compute_neighborlist_(data, r_max=SMALL_MODEL["r_max"]))
        return AtomicDataDict.batched_from_list(graphs) if len(graphs) > 1 else graphs[0]

    return make


@pytest.fixture(scope="session")
def nequip_transforms():
    """What turns structures into input of the small models, for calculators."""
    from nequip.integrations.utils import basic_transforms

    names = SMALL_MODEL["type_names"]
    return basic_transforms({}, SMALL_MODEL["r_max"], names, dict(zip(names, names)))


@pytest.fixture(scope="session")
def nequip_checkpoint():
    """A function that writes a model, made from a ``section``, to a checkpoint of upstream."""
    import lightning
    from nequip.train import NequIPLightningModule
    from nequip.utils.versions import get_current_code_versions

    def write_checkpoint(path, section, model):
        module = NequIPLightningModule(
            model=section,
            num_datasets={"train": 1, "val": 0, "test": 0},
            info_dict={
                "versions": get_current_code_versions(verbose=False),
                "training_module": {"_target_": "nequip.train.NequIPLightningModule"},
            },
        )
        module.model["sole_model"].load_state_dict(model.state_dict())
        with undone():
            trainer = lightning.Trainer(accelerator="cpu", logger=False, barebones=True)
            trainer.strategy.connect(module)
            trainer.save_checkpoint(path)
        return path

    return write_checkpoint
