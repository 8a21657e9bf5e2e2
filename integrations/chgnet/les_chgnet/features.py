"""What works with CHGNet."""

from les.backends.features import USUAL, no, yes

FEATURES = {
    **USUAL,
    "training": yes("And on magnetic moments"),
    "foundation": yes("Those that come with chgnet, with nothing to download"),
    "compiled_models": no("The calculator refuses `compile` and `compile_mode`"),
    "torchscript": no("Upstream's graphs are Python objects"),
    "lammps": no(
        "Its graphs of bonds and angles are of whole cells, not of atoms divided among ranks"
    ),
}
