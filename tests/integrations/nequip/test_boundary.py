"""Boundary conditions: what the data say, what is configured, and what contradicts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nequip.data import AtomicDataDict, compute_neighborlist_, from_ase
from nequip.data.transforms import NonPeriodicCellTransform

from les.testing.structures import crystal, dimer
from les_nequip import LES
from les_nequip.reach import HEADROOM

pytestmark = pytest.mark.usefixtures("nequip_state")


@pytest.fixture(scope="module")
def models(nequip_model):
    """Models by boundary condition, with the same weights."""
    models = {
        boundary: nequip_model(les={"boundary": boundary, "output_scaling_factor": 3.0})
        for boundary in ("auto", "open", "periodic", "mixed")
    }
    for model in models.values():
        les_of(model).readout.of_elements.charges.data.copy_(torch.tensor([[0.15], [-0.2]]))
    return models


def model_output(model, data):
    return {key: value.detach() for key, value in model(dict(data)).items()}


def energy(model, data):
    return model_output(model, data)["les_energy"].flatten()


def boxed(atoms, size=15.0):
    """``atoms`` in a box that no two neighbours cross."""
    result = atoms.copy()
    result.set_cell([size, size, size])
    result.positions += 0.5 * size
    return result


def les_of(model):
    return next(module for module in model.modules() if isinstance(module, LES))


@pytest.fixture(scope="module")
def energies(models, nequip_data):
    """Of the dimer in vacuum, and of its crystal in a box."""
    periodic = boxed(dimer())
    periodic.pbc = True
    result = {
        "open": energy(models["auto"], nequip_data(dimer())).item(),
        "periodic": energy(models["auto"], nequip_data(periodic)).item(),
    }
    assert abs(result["open"] - result["periodic"]) > 1e-3
    return result


@pytest.mark.parametrize("boundary", ["auto", "open", "mixed"])
def test_molecule_in_a_box(models, boundary, nequip_data, energies):
    """``pbc`` decides, not the cell."""
    found = energy(models[boundary], nequip_data(boxed(dimer())))
    assert found.item() == pytest.approx(energies["open"], abs=1e-10)


@pytest.mark.parametrize("boundary", ["auto", "open"])
def test_molecule_with_the_dummy_cell_of_upstream(models, boundary, nequip_data, energies):
    data = NonPeriodicCellTransform(padding=0.1, override_cell=True)(from_ase(dimer()))
    assert data["cell"].abs().max() > 1.0
    data["atom_types"] = nequip_data(dimer())["atom_types"]
    data = compute_neighborlist_(data, r_max=4.0)
    found = energy(models[boundary], data)
    assert found.item() == pytest.approx(energies["open"], abs=1e-10)


def without_pbc(data):
    return {key: value for key, value in data.items() if key != AtomicDataDict.PBC_KEY}


@pytest.mark.parametrize("boundary", ["auto", "mixed"])
def test_box_without_pbc_is_refused(models, boundary, nequip_data):
    """It could be a molecule or a dilute crystal."""
    batch = nequip_data(crystal(), boxed(dimer()))
    assert (energy(models[boundary], batch).abs() > 1e-4).all()
    with pytest.raises(ValueError, match=r"structure 1 .*cell that no two neighbours cross.*`bou"):
        energy(models[boundary], without_pbc(batch))


def test_box_without_pbc_and_a_setting(models, nequip_data, energies):
    data = without_pbc(nequip_data(boxed(dimer())))
    for boundary, expected in energies.items():
        assert energy(models[boundary], data).item() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("boundary", ["auto", "mixed"])
def test_neighbours_tell_a_crystal_without_pbc(models, boundary, nequip_data):
    batch = nequip_data(crystal(), dimer(), crystal("left-handed"))
    expected = energy(models["auto"], batch)
    found = energy(models[boundary], without_pbc(batch))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_no_cell_and_no_pbc(models, nequip_data, energies):
    """As tools other than ASE make them: neighbours without shifts."""
    data = nequip_data(dimer())
    bare = {key: data[key] for key in ("pos", "atom_types", "edge_index")}
    for boundary in ("auto", "open", "mixed"):
        assert energy(models[boundary], bare).item() == pytest.approx(energies["open"], abs=1e-10)
    with pytest.raises(ValueError, match="structure 0 of the batch must have a cell"):
        energy(models["periodic"], bare)


@pytest.mark.parametrize(
    ("boundary", "structure", "message"),
    [
        (
            "open",
            crystal(),
            "structure 1 of the batch is periodic, but this LES model is for open ones",
        ),
        ("periodic", dimer(), "structure 1 .* is open, but this LES model is for periodic ones"),
        (
            "periodic",
            boxed(dimer()),
            "structure 1 .* is open, but this LES model is for periodic ones",
        ),
    ],
)
def test_data_that_contradict_the_setting(models, boundary, structure, message, nequip_data):
    batch = nequip_data(dimer() if boundary == "open" else crystal(), structure)
    with pytest.raises(ValueError, match=message):
        energy(models[boundary], batch)
    if structure.pbc.any():
        with pytest.raises(ValueError, match=message):
            energy(models[boundary], without_pbc(batch))


def flat(axes):
    """A crystal with some of its axes open."""
    result = crystal("cubic")
    result.pbc = axes
    return result


@pytest.mark.parametrize("boundary", ["auto", "mixed"])
def test_slab(models, boundary, nequip_data):
    """It has the energy of the sum for slabs, beside other structures."""
    batch = nequip_data(dimer(), flat([True, True, False]))
    found = model_output(models[boundary], batch)
    charges = found["charges"].flatten()[len(dimer()) :]
    slab = flat([True, True, False])
    expected, _ = les_of(models[boundary]).ewald(
        charges,
        torch.tensor(slab.positions),
        torch.tensor(slab.cell[:])[None],
        pbc=torch.tensor(slab.pbc)[None],
    )
    assert found["les_energy"][1].item() == pytest.approx(expected.item(), rel=1e-10)
    periodic = energy(models[boundary], nequip_data(dimer(), flat(True)))
    assert abs(periodic[1].item() - expected.item()) > 1e-3


@pytest.mark.parametrize("boundary", ["open", "periodic"])
def test_slab_that_contradicts_the_setting(models, boundary, nequip_data):
    batch = nequip_data(flat([False, True, True]))
    with pytest.raises(ValueError, match=f"is a slab, but this LES model is for {boundary} ones"):
        energy(models[boundary], batch)


def test_wire_is_refused(models, nequip_data):
    batch = nequip_data(dimer(), flat([True, False, False]))
    with pytest.raises(ValueError, match="structure 1 of the batch has one periodic axis"):
        energy(models["auto"], batch)


def test_models_that_have_seen_slabs(nequip_model, nequip_data):
    """They are compiled for slabs too, where their program tells which structures are slabs."""
    model = nequip_model(les={})
    reach = les_of(model).reach
    model(nequip_data(flat([True, True, False])))
    assert (reach.boundary(), reach.slabs(told=True)) == ("periodic", True)
    height = 2.0 * np.ptp(crystal("cubic").positions[:, 2]) + 14.0 * les_of(model).ewald.sigma
    assert reach.longest == pytest.approx([5.0, 5.0, height])
    with pytest.raises(ValueError, match=r"cannot be compiled for slabs.*does not pass `pbc`"):
        reach.slabs(told=False)
    model(nequip_data(dimer()))
    other = nequip_model(les={})
    other.load_state_dict(model.state_dict())
    reach = les_of(other).reach
    assert (reach.boundary(), reach.slabs(told=True)) == ("mixed", True)
    assert (reach.to_dict()["boundary"], reach.to_dict()["slabs"]) == ("mixed", True)
    for setting, told, expected in (
        ("mixed", True, True),
        ("mixed", False, False),
        ("periodic", True, False),
    ):
        configured = nequip_model(les={"boundary": setting})
        configured.load_state_dict(model.state_dict())
        assert les_of(configured).reach.boundary() == setting
        assert les_of(configured).reach.slabs(told) is expected


def test_record_of_earlier_releases(nequip_model):
    """They knew no slabs."""
    reach = les_of(nequip_model(les={})).reach
    reach.load_tensor(torch.tensor([1.0, 0.0, 3.0, 4.0, 5.0]))
    assert (reach.periodic, reach.open, reach.slab) == (True, False, False)
    assert reach.longest == [3.0, 4.0, 5.0]


def test_record_of_structures(nequip_model, nequip_data):
    """What compiled models are made for follows from what was seen, and is saved."""
    model = nequip_model(les={})
    reach = les_of(model).reach
    with pytest.raises(ValueError, match="cannot be compiled before it has seen a structure"):
        reach.boundary()
    model(nequip_data(boxed(dimer())))
    assert reach.boundary() == "open"
    with pytest.raises(ValueError, match="set `max_cell` to the longest lattice vector"):
        reach.extent(2.0)
    long = crystal("cubic").repeat((2, 1, 1))
    model(nequip_data(crystal("cubic"), long, boxed(dimer(), 50.0)))
    assert reach.boundary() == "mixed"
    assert reach.to_dict()["max_cell"] == pytest.approx([HEADROOM * n for n in (10, 5, 5)])
    assert reach.extent(2.0) == [5, 2, 2]

    other = nequip_model(les={})
    other.load_state_dict(model.state_dict())
    assert les_of(other).reach.to_dict() == reach.to_dict()
    configured = nequip_model(les={"boundary": "periodic", "max_cell": [30, 20.0, 10]})
    configured.load_state_dict(model.state_dict())
    assert les_of(configured).reach.to_dict() == {
        "boundary": "periodic",
        "max_cell": [30, 20, 10],
        "slabs": False,
    }


def test_max_cell_of_a_trained_model(nequip_model):
    """``nequip-compile --modifiers`` sets it."""
    model = nequip_model(les={})
    LES.set_les_max_cell(model, 25.0)
    assert les_of(model).reach.extent(2.0) == [12, 12, 12]


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf, [10.0], [10.0, 10.0, 0.0], "10", []])
def test_bad_max_cell(value):
    irreps = {"node_features": "4x0e", "atomic_energy": "0e"}
    with pytest.raises(ValueError, match="`max_cell` must be one or three positive lengths"):
        LES(["H"], irreps, max_cell=value)


# --- other input that LES cannot use


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"simga": 1.0}, "unknown key 'simga'; did you mean 'sigma'"),
        ({"sigma": -1.0}, "`sigma` must be a positive number, got -1.0"),
        ({"boundary": "slab"}, r"`boundary` must be one of .*'auto'.*, got 'slab'"),
    ],
)
def test_bad_settings(settings, message):
    irreps = {"node_features": "4x0e", "atomic_energy": "0e"}
    with pytest.raises(ValueError, match=message):
        LES(["H"], irreps, **settings)


@pytest.mark.parametrize(
    ("irreps", "message"),
    [
        ({}, r"needs a model with node features \(NequIP\) or edge features \(Allegro\)"),
        (
            {"node_features": "4x0e + 4x1o"},
            r"reads charges from scalars, `node_features` here are",
        ),
    ],
)
def test_models_without_scalar_features(irreps, message):
    with pytest.raises(ValueError, match=message):
        LES(["H"], {**irreps, "atomic_energy": "0e"})


@pytest.mark.parametrize("without_positions", [True, False])
def test_lammps_mliap_is_refused(models, without_positions, nequip_data):
    data = nequip_data(dimer())
    if without_positions:
        del data[AtomicDataDict.POSITIONS_KEY]
    else:
        data[AtomicDataDict.LMP_MLIAP_DATA_KEY] = object()
    with pytest.raises(ValueError, match="LAMMPS ML-IAP does not pass"):
        les_of(models["auto"])(data)
