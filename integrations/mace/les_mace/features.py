"""What works with MACE."""

from les.backends.features import no, yes

FEATURES = {
    "training": yes(),
    "responses": yes("Not with `--distributed`"),
    "from_trained": yes(),
    "foundation": yes("Short-range ones, with `--from FILE` or upstream's `--foundation_model`"),
    "resume": yes("Also as upstream's `--restart_latest`"),
    "heads": yes("`--head` says which one is meant"),
    "compiled_training": no("mace-torch has no compiled training of such models"),
    "molecules_and_crystals": yes(),
    "slabs": yes(),
    "wires": no("There is no Ewald sum for one periodic axis"),
    "stress": yes(),
    "charges": yes(),
    "channels": no("The readout gives one charge per atom; several are CACE's"),
    "total_charge": yes(),
    "equilibration": yes(
        "Born effective charges of molecules, and of fragments; not with TorchScript"
    ),
    "moments": yes(
        "Of models with features that are vectors (1o) or tensors (2e), and one head; neither with "
        "TorchScript nor in LAMMPS"
    ),
    "induced": yes("Neither with TorchScript nor in LAMMPS"),
    "fragments": yes("Not with TorchScript, nor with moments of atoms"),
    "embedding": yes(),
    "field": yes(
        "`external_field: true`, also in training; crystals have forces in it, but no energy; "
        "neither with TorchScript nor in LAMMPS"
    ),
    "committees": yes(),
    "hessian": yes("`LESCalculator.get_hessian`"),
    "precisions": yes(),
    "safe_files": yes(),
    "published": yes(),
    "compiled_models": no("Upstream's `compile_mode` cannot compile the long-range part"),
    "torchscript": yes("By direct sums, without meshes and kernels"),
    "ase": yes(),
    "lammps": yes(
        "`les lammps`, on any number of ranks; upstream's converters refuse models with LES"
    ),
}
