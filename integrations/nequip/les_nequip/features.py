"""What works with NequIP and Allegro."""

from les.backends.features import USUAL, no, yes

FEATURES = {
    **USUAL,
    "responses": yes("Not with `compile_mode: compile`"),
    "foundation": yes("Short-range packages of upstream, with `--from model.nequip.zip`"),
    "compiled_training": yes("With a fixed kind of boundary condition and longest lattice vectors"),
    "slabs": yes("Compiled models and compiled training, if they have seen some; not LAMMPS"),
    "charges": yes("Of a compiled model, if it was compiled for them"),
    "total_charge": yes("Compiled models are for neutral structures"),
    "equilibration": yes(
        "Born effective charges of molecules, and of fragments; neither in compiled models nor in "
        "compiled training"
    ),
    "moments": yes(
        "Of NequIP, with `l_max` of 1 or 2: Allegro's features are scalars; neither in compiled "
        "models nor in compiled training nor in LAMMPS"
    ),
    "induced": yes("Neither in compiled models nor in compiled training nor in LAMMPS"),
    "fragments": yes(
        "Neither in compiled models nor in compiled training, nor with moments of atoms"
    ),
    "embedding": yes("Not in compiled models"),
    "field": yes(
        "`external_field: true`, also in training; crystals have forces in it, but no energy; "
        "neither in compiled models nor in compiled training nor in LAMMPS"
    ),
    "precisions": yes("Packages and compiled models keep the one they were built in"),
    "compiled_models": yes(),
    "torchscript": no("Upstream's AOTInductor has taken its place"),
    "lammps": yes(
        "`les lammps`, on many ranks; compiled models as `pair_nequip`, on one; `pair_allegro` and "
        "ML-IAP are refused"
    ),
}
