"""The module captured as a graph, as for every kind of compilation, but not compiled."""

from __future__ import annotations

import pytest
import torch
from nequip.data import AtomicDataDict
from nequip.nn import scatter, with_edge_vectors_
from nequip.utils.fx import fx_duck_shape
from torch.fx.experimental.proxy_tensor import make_fx

from les.legacy import settings_of_new_models
from les.testing.charge_states import EMBEDDED, draw_embeddings, in_state
from les.testing.slabs import slab
from les.testing.structures import crystal, dimer
from les_nequip import LES
from les_nequip.edges import record_edges

pytestmark = pytest.mark.usefixtures("nequip_state")

N_FEATURES = 4
OUTPUTS = ["charges", "les_energy", "atomic_energy"]
WHOLE = ("charges", "born_effective_charges", "forces")
BATCHES = {
    "open": [dimer(), dimer()[:3], dimer()[2:]],
    "periodic": [crystal("cubic"), crystal("triclinic"), crystal("left-handed")],
    "mixed": [crystal("cubic"), dimer(), crystal("left-handed")],
}
WITH_SLABS = {
    "slabs": [slab(), slab(0)],
    "slabs and crystals": [slab(1), crystal("triclinic"), slab()],
    "all": [crystal("cubic"), slab(0), dimer(), slab()],
}


class Model(torch.nn.Module):
    """LES with features that depend on the positions, and derivatives of its energy."""

    def __init__(self, key="node_features", outputs=OUTPUTS, **settings):
        super().__init__()
        torch.manual_seed(3)
        irreps = {key: f"{N_FEATURES}x0e", "atomic_energy": "0e"}
        settings = {"output_scaling_factor": 3.0, **settings}
        self.les = LES(["H", "O"], irreps, **settings).double()
        if self.les.config.element_charges:
            self.les.readout.of_elements.charges.data.copy_(torch.tensor([[0.15], [-0.2]]))
        self.key, self.outputs = key, outputs
        record_edges(self)

    def forward(self, data):
        data = dict(data)
        positions = data["pos"] = data["pos"].clone().requires_grad_()
        data["atomic_energy"] = torch.zeros_like(positions[:, :1])
        data[self.key] = self.features(data)
        out = self.les(data)
        if "forces" in self.outputs:
            energy = out["les_energy"].sum()
            out["forces"] = -torch.autograd.grad(energy, positions, create_graph=True)[0]
        return {key: out[key] for key in self.outputs}

    def features(self, data):
        numbers = torch.arange(1.0, 1.0 + N_FEATURES).double()
        between = with_edge_vectors_(data)["edge_vectors"]
        edges = torch.exp(-0.1 * between.square().sum(dim=1, keepdim=True) * numbers)
        if self.key == "edge_features":
            return edges
        return torch.cos(scatter(edges, data["edge_index"][0], 0, dim_size=data["pos"].shape[0]))


def capture(model, data, without=()):
    """A function like ``model``, from its graph for the input in ``data``."""
    fields = (
        *("pos", "cell", "batch", "num_atoms", "edge_index", "edge_cell_shift", "pbc"),
        "atom_types",
        *("total_charge", "spin"),
    )
    inputs = [key for key in fields if key in data and key not in without]
    with fx_duck_shape(False):  # three structures have nothing to do with three coordinates
        graph = make_fx(
            lambda *values: model(dict(zip(inputs, values, strict=True))),
            tracing_mode="symbolic",
            _allow_non_fake_inputs=True,
            _error_on_data_dependent_ops=True,
        )(*[data[key].clone() for key in inputs])
    return lambda data: graph(*[data[key] for key in inputs])


@pytest.mark.parametrize("kind", ["nequip", "allegro"])
def test_charge_states_in_features(kind, nequip_model, nequip_data):
    """A graph is one for all charges and spins, which it is given with the structures."""
    settings = {**settings_of_new_models(True), **EMBEDDED, "boundary": "open"}
    model = nequip_model(kind, les=settings)
    draw_embeddings(model)
    names = ("total_energy", "forces", "charges")

    def evaluate(data):
        out = model(dict(data))
        return {name: out[name] for name in names}

    seen = nequip_data(in_state(dimer(), 1, 2), in_state(dimer()[:3]))
    other = nequip_data(in_state(dimer()[:3], -1, 2), in_state(dimer(), 2, 3))
    found, expected = capture(evaluate, seen)(other), evaluate(other)
    for name in names:
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-10)


def boxed(atoms):
    result = atoms.copy()
    result.set_cell([30.0, 30.0, 30.0])
    return result


@pytest.mark.parametrize("key", ["node_features", "edge_features"])
@pytest.mark.parametrize("boundary", [*BATCHES, *WITH_SLABS])
def test_graph_gives_the_same(key, boundary, nequip_data):
    """For other sizes too, with all outputs and the forces."""
    outputs = [*OUTPUTS, "born_effective_charges", "forces"]
    max_cell = 16.0 if boundary in BATCHES else [16.0, 16.0, 32.0]
    model = Model(key, outputs, compute_bec=True, max_cell=max_cell)
    structures = {**BATCHES, **WITH_SLABS}[boundary]
    first = nequip_data(*structures)
    model(first)  # what is seen decides about the graph
    graph = capture(model, first)
    larger = [*(atoms.repeat(1 + int(atoms.pbc.all())) for atoms in structures), structures[0]]
    for batch in (first, nequip_data(*larger)):
        expected, actual = model(batch), graph(batch)
        assert expected["les_energy"].abs().min() > 1e-3
        for name, value in expected.items():
            torch.testing.assert_close(actual[name], value, rtol=0, atol=1e-11)


@pytest.mark.parametrize("key", ["node_features", "edge_features"])
def test_graph_with_total_charges(key, nequip_data):
    """Which are other ones each time; without them, they are 0. Elements have charges, too."""
    outputs = [*OUTPUTS, "born_effective_charges", "forces"]
    new = settings_of_new_models(True)
    model = Model(key, outputs, compute_bec=True, max_cell=16.0, **new)
    structures = [atoms.copy() for atoms in BATCHES["mixed"]]
    for atoms, charge in zip(structures, (1, -2, 0), strict=True):
        atoms.info["charge"] = charge
    first = nequip_data(*structures)
    model(first)
    graph = capture(model, first)
    second = nequip_data(*structures[::-1], structures[1])
    for batch in (first, second):
        expected, actual = model(batch), graph(batch)
        sums = torch.zeros(len(batch["cell"])).double()
        sums = sums.index_add(0, batch["batch"], actual["charges"][:, 0])
        torch.testing.assert_close(sums, batch["total_charge"][:, 0], rtol=0, atol=1e-12)
        for name, value in expected.items():
            torch.testing.assert_close(actual[name], value, rtol=0, atol=1e-11)
    neutral = {**first, "total_charge": torch.zeros_like(first["total_charge"])}
    absent = {name: value for name, value in first.items() if name != "total_charge"}
    torch.testing.assert_close(model(absent)["charges"], model(neutral)["charges"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["nequip", "allegro"])
def test_graph_of_a_whole_model(kind, nequip_model, nequip_data):
    """Born effective charges need what the layers take from other atoms, in a graph as well."""
    les = {"output_scaling_factor": 3.0, "compute_bec": True}
    model = nequip_model(kind, les=les, l_max=int(kind == "allegro"))
    first = nequip_data(*BATCHES["periodic"])
    LES.set_les_max_cell(model, 16.0)
    model(first)
    graph = capture(lambda data: tuple(model(data)[key] for key in WHOLE), first)
    larger = [atoms.repeat(2) for atoms in BATCHES["periodic"][:2]]
    for batch in (first, nequip_data(*larger, crystal("left-handed"))):
        for key, value in zip(WHOLE, graph(batch), strict=True):
            torch.testing.assert_close(value, model(batch)[key], rtol=0, atol=1e-11)


def test_graph_of_one_structure(nequip_data):
    """Deployed models get neither ``batch`` nor ``pbc``."""
    model = Model()
    model(nequip_data(crystal("cubic")))
    graph = capture(model, nequip_data(crystal("cubic")), ("pbc", "batch", "num_atoms"))
    # Longer than seen, but less than a tenth.
    longer = crystal("cubic")
    longer.set_cell(1.05 * longer.cell[:], scale_atoms=True)
    for atoms in (crystal("cubic"), longer):
        expected = model(nequip_data(atoms))
        for key, value in graph(nequip_data(atoms)).items():
            torch.testing.assert_close(value, expected[key], rtol=0, atol=1e-11)
    with pytest.raises(RuntimeError, match="build it with a larger `max_cell`"):
        graph(nequip_data(crystal("cubic").repeat((1, 2, 1))))
    with pytest.raises(RuntimeError, match=r"a structure is open, but|no two neighbours cross"):
        graph(nequip_data(boxed(dimer())))


@pytest.mark.parametrize(
    ("boundary", "wrong", "message"),
    [
        (
            "periodic",
            dimer(),
            "a structure is open, but this LES model is for periodic ones|molecule in a box",
        ),
        ("open", crystal("cubic"), "a structure is periodic, but this LES model is for open ones"),
    ],
)
@pytest.mark.parametrize("configured", [True, False])
@pytest.mark.parametrize("pbc", [True, False])
def test_graph_refuses_other_structures(boundary, wrong, message, configured, pbc, nequip_data):
    model = Model(boundary=boundary if configured else "auto", max_cell=60.0)
    # In the input of a graph all structures have a cell, or none.
    structures = [atoms if atoms.pbc.all() else boxed(atoms) for atoms in BATCHES[boundary]]
    wrong = wrong if wrong.pbc.all() else boxed(wrong)
    model(nequip_data(*structures))
    graph = capture(model, nequip_data(*structures), without=() if pbc else ("pbc",))
    graph(nequip_data(*structures))
    batch = nequip_data(*structures, wrong)
    if configured and boundary == "periodic" and not pbc:
        # Nothing tells it from a dilute crystal, which the configuration says it is.
        graph(batch)
        return
    with pytest.raises(RuntimeError, match=message):
        graph(batch)


def test_mixed_graph_refuses_what_nothing_decides(nequip_data):
    model = Model(boundary="mixed", max_cell=60.0)
    graph = capture(model, nequip_data(*BATCHES["mixed"]), without=("pbc",))
    graph(nequip_data(*BATCHES["mixed"]))
    with pytest.raises(RuntimeError, match="molecule in a box"):
        graph(nequip_data(*BATCHES["mixed"], boxed(dimer())))


def test_graph_of_one_slab(nequip_data):
    """As deployed models see it, in a grid that follows from the slabs that were seen."""
    model = Model()
    model(nequip_data(slab(0), slab(vacuum=0.0)))
    graph = capture(model, nequip_data(slab()), ("batch", "num_atoms"))
    far = slab(1, vacuum=50.0)
    far.positions[:, 1] += 30.0
    for atoms in (slab(), far, slab(0)):
        expected = model(nequip_data(atoms))
        for key, value in graph(nequip_data(atoms)).items():
            torch.testing.assert_close(value, expected[key], rtol=0, atol=1e-11)
    thick = crystal("cubic").repeat((1, 1, 3))
    thick.pbc = [True, True, False]
    with pytest.raises(RuntimeError, match="build it with a larger `max_cell`"):
        graph(nequip_data(thick))


def test_graph_that_is_not_told_what_is_a_slab(nequip_data):
    """A program that passes no ``pbc`` would take it for a crystal."""
    model = Model()
    model(nequip_data(crystal("cubic"), slab()))
    with pytest.raises(ValueError, match=r"cannot be compiled for slabs.*does not pass `pbc`"):
        capture(model, nequip_data(crystal("cubic")), without=("pbc",))


@pytest.mark.parametrize("boundary", BATCHES)
def test_graph_refuses_slabs(boundary, nequip_data):
    """None were seen before, or they contradict the setting."""
    structures = [atoms if atoms.pbc.all() else boxed(atoms) for atoms in BATCHES[boundary]]
    model = Model(boundary=boundary, max_cell=60.0)
    graph = capture(model, nequip_data(*structures))
    with pytest.raises(RuntimeError, match="two periodic axes: compiled models with LES take no"):
        graph(nequip_data(*structures, slab()))


def test_graph_of_an_untrained_model_needs_settings(nequip_data):
    data = nequip_data(*BATCHES["periodic"])
    with pytest.raises(ValueError, match=r"set `boundary` to .* and `max_cell`"):
        capture(Model(), data)
    with pytest.raises(ValueError, match="set `max_cell` to the longest lattice vector"):
        capture(Model(boundary="periodic"), data)


def test_graph_wants_sorted_atoms(nequip_data):
    data = nequip_data(*BATCHES["open"])
    graph = capture(Model(boundary="open"), data)
    data[AtomicDataDict.BATCH_KEY] = data[AtomicDataDict.BATCH_KEY].flip(0)
    with pytest.raises(RuntimeError, match="`batch` must be in ascending order"):
        graph(data)


def test_capture_leaves_the_record(nequip_data):
    """Values in a graph are not those of structures."""
    model = Model(boundary="periodic", max_cell=40.0)
    capture(model, nequip_data(*BATCHES["periodic"]))
    assert model.les.reach.to_tensor().tolist() == [0.0] * 6
