"""What works with NequIP and Allegro."""

from les.backends.features import no, yes

FEATURES = {
    "training": yes(),
    "responses": yes("Not with `compile_mode: compile`"),
    "from_trained": yes(),
    "foundation": yes("Short-range packages of upstream, with `--from model.nequip.zip`"),
    "resume": yes(),
    "heads": no("Its models have none; `--head` is refused"),
    "compiled_training": yes("With a fixed kind of boundary condition and longest lattice vectors"),
    "molecules_and_crystals": yes(),
    "slabs": yes("Compiled models and compiled training, if they have seen some; not LAMMPS"),
    "wires": no("There is no Ewald sum for one periodic axis"),
    "stress": yes(),
    "charges": yes("Of a compiled model, if it was compiled for them"),
    "channels": no("The readout gives one charge per atom; several are CACE's"),
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
    "committees": yes(),
    "hessian": no("The calculator has no method for it; take finite differences of the forces"),
    "precisions": yes("Packages and compiled models keep the one they were built in"),
    "safe_files": yes(),
    "published": no("There are none of another format"),
    "compiled_models": yes(),
    "torchscript": no("Upstream's AOTInductor has taken its place"),
    "ase": yes(),
    "lammps": yes(
        "`les lammps`, on many ranks; compiled models as `pair_nequip`, on one; `pair_allegro` and "
        "ML-IAP are refused"
    ),
}
