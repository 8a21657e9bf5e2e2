"""Small models of NequIP and Allegro."""

from __future__ import annotations

import pytest
import torch
import yaml

from les.backends import get_backend
from les.data.total_charge import total_charge
from les.legacy import settings_of_new_models

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


@pytest.fixture(scope="module")
def nequip_state(undone):
    """What upstream sets once in a process, to be used by all of its tests."""
    from nequip.utils.global_state import set_global_state

    with undone():
        set_global_state()
        torch.set_default_dtype(torch.float64)  # of all data
        yield


@pytest.fixture(scope="session")
def nequip_section():
    """A function that makes the section ``training_module.model`` of a configuration.

    With ``les`` it is that of a new model.
    """

    def make(kind="nequip", dtype="float64", les=None, **changes):
        common = {"_target_": BUILDERS[kind], "model_dtype": dtype, **SMALL_MODEL}
        section = {**common, **SMALL_MODELS[kind], **changes}
        if les is not None:
            new = settings_of_new_models(True)
            section["pair_potential"] = {"_target_": "les_nequip.LES", **new, **les}
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
            data["total_charge"] = torch.tensor([[total_charge(atoms)]])
            data["spin"] = torch.tensor([[float(atoms.info.get("spin", 1))]])
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
def nequip_checkpoint(undone):
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


#: What makes the models of the shipped configurations small.
SIZES = {
    "nequip": {"num_layers": 1, "num_features": 4, "radial_mlp_width": 8},
    "allegro": {
        "num_layers": 1,
        "num_scalar_features": 8,
        "num_tensor_features": 4,
        "scalar_embed_mlp_hidden_layers_width": 8,
        "allegro_mlp_hidden_layers_width": 8,
        "readout_mlp_hidden_layers_width": 8,
    },
}


@pytest.fixture(scope="session")
def make_config(tmp_path_factory):
    """A function that writes a shipped configuration, made smaller, with changes of its model."""

    def make(name="small", system="water", kind="nequip", **model):
        config = yaml.safe_load(get_backend(kind).configs()[system].read_text())
        config.update(elements=["H", "O"], max_epochs=2, batch_size=4, valid_batch_size=4)
        config["trainer"].update(log_every_n_steps=1, enable_progress_bar=False)
        section = config["training_module"]["model"]
        section.update(SIZES[kind], model_dtype="float64", **model)
        path = tmp_path_factory.mktemp("config") / f"{name}.yaml"
        path.write_text(yaml.safe_dump(config))
        return path

    return make
