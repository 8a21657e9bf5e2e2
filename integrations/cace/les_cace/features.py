"""What works with CACE."""

from les.backends.features import no, yes

FEATURES = {
    "training": yes(),
    "responses": yes(),
    "from_trained": yes(),
    "foundation": no("None has been published"),
    "resume": yes(),
    "heads": no("Its models have none; `--head` is refused"),
    "compiled_training": no("Training has no option for it"),
    "molecules_and_crystals": yes(),
    "slabs": yes(),
    "wires": no("There is no Ewald sum for one periodic axis"),
    "stress": yes(),
    "charges": yes(),
    "channels": yes("They are `latent_charges`; no dipole or Born effective charges follow"),
    "total_charge": yes(),
    "equilibration": yes("Born effective charges of molecules, and of fragments"),
    "fragments": yes(),
    "embedding": yes(),
    "field": no("The model does not know it; a warning tells"),
    "committees": yes(),
    "hessian": no("The calculator has no method for it; take finite differences of the forces"),
    "precisions": yes(),
    "safe_files": yes(),
    "published": yes(),
    "compiled_models": yes("The representation: `LESCalculator(..., compile=True)`"),
    "torchscript": no("The products of the basis have derivatives of their own in Python"),
    "ase": yes(),
    "lammps": yes("`les lammps`, on any number of ranks"),
}
