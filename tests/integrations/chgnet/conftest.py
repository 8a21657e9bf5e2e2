"""Small models of CHGNet, and upstream's own calculator to compare with."""

from __future__ import annotations

import contextlib
import copy
from typing import TYPE_CHECKING, Any

import pytest
import torch
from ase.build import bulk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ase import Atoms
    from ase.calculators.calculator import Calculator


@pytest.fixture(scope="session")
def chgnet_arguments() -> dict[str, Any]:
    """Constructor arguments of a small CHGNet."""
    return {
        "atom_fea_dim": 16,
        "bond_fea_dim": 16,
        "angle_fea_dim": 16,
        "num_radial": 7,
        "num_angular": 7,
        "n_conv": 3,
        "atom_conv_hidden_dim": 16,
        "bond_conv_hidden_dim": 16,
        "mlp_hidden_dims": (16, 16),
        "atom_graph_cutoff": 4.0,
        "bond_graph_cutoff": 3.0,
    }


@pytest.fixture(scope="session")
def scale_charges() -> Callable[[Any, float], None]:
    """A function that multiplies the charges of a model."""

    def scale(model: Any, factor: float) -> None:
        readout = model.les.atomwise
        with torch.no_grad():
            for module in (readout.network[-1], readout.linear, readout.of_elements):
                for parameter in module.parameters():
                    parameter.mul_(factor)

    return scale


@pytest.fixture(scope="module")
def short_range_model(chgnet_arguments):
    """A model without charges, float32 as upstream's are; tests must not change it."""
    from chgnet.model import CHGNet

    torch.manual_seed(5)
    return CHGNet(**chgnet_arguments).eval()


@pytest.fixture(scope="module")
def model(short_range_model, scale_charges):
    """A model with charges, large enough to be seen; tests must not change it."""
    from les_chgnet import CHGNetLES

    torch.manual_seed(6)
    with_charges = CHGNetLES.from_short_range(short_range_model).eval()
    scale_charges(with_charges, 40.0)
    with torch.no_grad():
        with_charges.les.atomwise.of_elements.charges[[1, 8], 0] = torch.tensor([-0.15, 0.2])
    return with_charges


@pytest.fixture
def double_model(model):
    """A copy of ``model`` in float64."""
    return copy.deepcopy(model).double()


@pytest.fixture(scope="session")
def crystals() -> dict[str, Atoms]:
    """Two distorted crystals of the kind that the pretrained models are made for."""
    salt = bulk("NaCl", "rocksalt", a=5.6).repeat((2, 1, 1))
    salt.rattle(0.1, seed=1)
    oxide = bulk("MnO", "rocksalt", a=4.4, cubic=True)
    oxide.numbers[[0, 2]] = 3  # half of the manganese becomes lithium
    oxide.rattle(0.1, seed=2)
    oxide.set_cell(oxide.cell[:] @ [[1, 0.02, 0], [0.03, 0.98, -0.04], [0, 0.05, 1]], True)
    return {"NaCl": salt, "LiMnO2": oxide}


@contextlib.contextmanager
def upstream_in(dtype: torch.dtype) -> Iterator[None]:
    """Replace upstream's hard-wired float32."""
    import chgnet.graph.converter
    import chgnet.model.model
    from chgnet.model.composition_model import AtomRef

    in_single = AtomRef._assemble_graphs

    def composition(reference: AtomRef, graphs: list[Any]) -> torch.Tensor:
        sizes = torch.tensor([[len(graph.atomic_number)] for graph in graphs])
        return (in_single(reference, graphs) * sizes).round().to(dtype) / sizes

    with pytest.MonkeyPatch.context() as patch:
        if dtype != torch.float32:
            patch.setattr(chgnet.graph.converter, "TORCH_DTYPE", dtype)
            patch.setattr(chgnet.model.model, "TORCH_DTYPE", dtype)
            patch.setattr(AtomRef, "_assemble_graphs", composition)
        yield


@pytest.fixture(scope="session")
def upstream() -> Callable[..., Calculator]:
    """A function ``(model, dtype="float64")`` for upstream's calculator.

    It differs from ``CHGNetCalculator`` in taking what upstream cannot convert, in precision
    and in the stress, which upstream does not put into the order of Voigt.
    """
    from ase.calculators.calculator import Calculator
    from ase.stress import full_3x3_to_voigt_6_stress
    from chgnet.model import CHGNetCalculator

    from les_chgnet.structures import to_structure

    class UpstreamCalculator(CHGNetCalculator):
        def calculate(self, atoms=None, properties=None, system_changes=None, task="efsm"):
            Calculator.calculate(self, atoms)
            dtype = next(self.model.parameters()).dtype
            with upstream_in(dtype):
                graph = self.model.graph_converter(to_structure(atoms))
                out = self.model.predict_graph(graph, task=task, return_site_energies=True)
            self.results = {
                "energy": float(out["e"] * len(atoms)),
                "energies": out["site_energies"],
                "forces": out["f"],
                "stress": full_3x3_to_voigt_6_stress(out["s"] * self.stress_weight),
                "magmoms": out["m"],
            }

    def make(model: Any, dtype: str = "float64") -> Calculator:
        own = copy.deepcopy(model).to(getattr(torch, dtype))
        return UpstreamCalculator(own, use_device="cpu", on_isolated_atoms="ignore")

    return make


TRAINING = {
    "name": "small",
    "model": "{atom_fea_dim: 8, bond_fea_dim: 8, angle_fea_dim: 8, atom_conv_hidden_dim: 8, "
    "bond_conv_hidden_dim: 8, mlp_hidden_dims: [8], n_conv: 2, num_radial: 5, num_angular: 5, "
    "atom_graph_cutoff: 4, bond_graph_cutoff: 2}",
    "epochs": 2,
    "batch_size": 5,
    "valid_batch_size": 3,
    "seed": 3,
    "device": "cpu",
}


@pytest.fixture(scope="session")
def backend_name():
    """The backend that is trained."""
    return "chgnet"


@pytest.fixture(scope="session")
def small_options():
    """Options of ``les train chgnet`` for a small model and a short run."""
    return dict(TRAINING)


@pytest.fixture(scope="module")
def short_range_run(train, arguments, tmp_path_factory):
    """Folder of a run without LES."""
    folder = tmp_path_factory.mktemp("sr")
    train("--no-les", *arguments(folder))
    return folder
