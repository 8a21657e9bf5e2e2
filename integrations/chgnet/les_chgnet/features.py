"""What works with CHGNet."""

from les.backends.features import no, yes

FEATURES = {
    "training": yes("And on magnetic moments"),
    "responses": yes(),
    "from_trained": yes(),
    "foundation": yes("Those that come with chgnet, with nothing to download"),
    "resume": yes(),
    "heads": no("Its models have none; `--head` is refused"),
    "compiled_training": no("Training has no option for it"),
    "molecules_and_crystals": yes(),
    "slabs": yes(),
    "wires": no("There is no Ewald sum for one periodic axis"),
    "stress": yes(),
    "charges": yes(),
    "channels": no("The readout gives one charge per atom; several are CACE's"),
    "total_charge": yes(),
    "equilibration": yes("Born effective charges of molecules, and of fragments"),
    "moments": no("The features are scalars"),
    "induced": no("The readout gives charges only"),
    "fragments": yes(),
    "embedding": yes(),
    "field": no("`external_field: true` is refused; a warning tells of structures in one"),
    "committees": yes(),
    "hessian": no("The calculator has no method for it; take finite differences of the forces"),
    "precisions": yes(),
    "safe_files": yes(),
    "published": no("There are none of another format"),
    "compiled_models": no("The calculator refuses `compile` and `compile_mode`"),
    "torchscript": no("Upstream's graphs are Python objects"),
    "ase": yes(),
    "lammps": no(
        "Its graphs of bonds and angles are of whole cells, not of atoms divided among ranks"
    ),
}
