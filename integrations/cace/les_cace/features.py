"""What works with CACE."""

from les.backends.features import USUAL, no, yes

FEATURES = {
    **USUAL,
    "foundation": no("None has been published"),
    "channels": yes("They are `latent_charges`; no dipole or Born effective charges follow"),
    "published": yes(),
    "compiled_models": yes("The representation: `LESCalculator(..., compile=True)`"),
    "torchscript": no("The products of the basis have derivatives of their own in Python"),
    "lammps": yes("`les lammps`, on any number of ranks"),
}
