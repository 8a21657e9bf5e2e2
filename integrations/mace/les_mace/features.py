"""What works with MACE."""

from les.backends.features import USUAL, no, yes

FEATURES = {
    **USUAL,
    "responses": yes("Not with `--distributed`"),
    "foundation": yes("Short-range ones, with `--from FILE` or upstream's `--foundation_model`"),
    "resume": yes("Also as upstream's `--restart_latest`"),
    "heads": yes("`--head` says which one is meant"),
    "compiled_training": no("mace-torch has no compiled training of such models"),
    "equilibration": yes(
        "Born effective charges of molecules, and of fragments; not with TorchScript"
    ),
    "moments": yes(
        "Of models with features that are vectors (1o) or tensors (2e), and one head; neither with "
        "TorchScript nor in LAMMPS"
    ),
    "induced": yes("Neither with TorchScript nor in LAMMPS"),
    "fragments": yes("Not with TorchScript, nor with moments of atoms"),
    "field": yes(
        "`external_field: true`, also in training; crystals have forces in it, but no energy; "
        "neither with TorchScript nor in LAMMPS"
    ),
    "hessian": yes("`LESCalculator.get_hessian`"),
    "published": yes(),
    "compiled_models": no("Upstream's `compile_mode` cannot compile the long-range part"),
    "torchscript": yes("By direct sums, without meshes and kernels"),
    "lammps": yes(
        "`les lammps`, on any number of ranks; upstream's converters refuse models with LES"
    ),
}
