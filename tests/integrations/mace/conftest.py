"""Small models and runs of MACE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

if TYPE_CHECKING:
    from collections.abc import Callable

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
def scale_charges() -> Callable[[Any, float], None]:
    """A function that multiplies the charges of a model."""

    def scale(model: Any, factor: float) -> None:
        with torch.no_grad():
            for readout in model.les_readouts:  # whose last weights are linear
                list(readout.parameters())[-1].mul_(factor)

    return scale


@pytest.fixture(scope="module")
def short_range_model(mace_arguments):
    """A model without charges; tests must not change it."""
    from mace.modules import ScaleShiftMACE
    from mace.tools.torch_tools import default_dtype

    torch.manual_seed(5)
    with default_dtype(torch.float64):
        return ScaleShiftMACE(**mace_arguments)


@pytest.fixture(scope="module")
def model(short_range_model, scale_charges):
    """A model with charges, large enough to be seen; tests must not change it."""
    from les_mace import MACELES

    torch.manual_seed(6)
    with_charges = MACELES.from_short_range(short_range_model)
    scale_charges(with_charges, 4.0)
    return with_charges


@pytest.fixture(scope="session")
def mace_batch() -> Callable[[list[Atoms]], dict[str, torch.Tensor]]:
    """A function that makes upstream's batch of structures as a training does, in float64."""
    from mace.data import AtomicData, KeySpecification, config_from_atoms
    from mace.tools.torch_geometric import Batch
    from mace.tools.torch_tools import default_dtype
    from mace.tools.utils import AtomicNumberTable

    from les_mace.neighbours import own_cells

    def batch(structures: list[Atoms]) -> dict[str, torch.Tensor]:
        table = AtomicNumberTable([1, 8])
        keys = KeySpecification(info_keys={"total_charge": "charge", "total_spin": "spin"})
        with default_dtype("float64"), own_cells():
            graphs = [
                AtomicData.from_config(config_from_atoms(atoms, keys), z_table=table, cutoff=4.0)
                for atoms in structures
            ]
            return Batch.from_data_list(graphs).to_dict()

    return batch


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


@pytest.fixture(scope="session")
def les_run(train, arguments, tmp_path_factory):
    """Folder of a run with LES."""
    folder = tmp_path_factory.mktemp("les")
    train("--les", *arguments(folder))
    return folder


@pytest.fixture(scope="session")
def short_range_run(train, arguments, tmp_path_factory):
    """Folder of a run without LES."""
    folder = tmp_path_factory.mktemp("sr")
    train("--no-les", *arguments(folder))
    return folder


@pytest.fixture
def refused(les_command, capsys):
    """A function that runs ``les train mace ...``, which must fail; its message."""

    def run(arguments, flag="--les"):
        capsys.readouterr()
        assert les_command("train", "mace", flag, *arguments) == 1
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
