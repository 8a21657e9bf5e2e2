"""The benchmark systems: what they are called and which files hold them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from les.fragments import Fragments
from les_bench.systems import carbon_chain, charged_dimers, copper, doped_salt, random_charges, salt


@dataclass(frozen=True)
class Layout:
    """Files of one system below a data folder, and how they are split.

    Splits count frames within a file, so they are the same on every machine:
    every ``test_every``-th frame of the training file is a test frame, and every
    ``valid_every``-th of those left a validation frame. With ``split_key``, frames of the training
    file in which this label is ``test`` are test frames. Frames of the ``response`` file have
    dipoles or Born effective charges, and need have no energies.
    """

    train: str
    valid: str | None = None
    test: str | None = None
    response: str | None = None
    test_every: int | None = None
    valid_every: int | None = None
    split_key: str | None = None


@dataclass(frozen=True)
class System:
    """One benchmark system."""

    name: str
    #: What it is, in one line.
    title: str
    #: Periodic in all directions (``True``) or isolated molecules (``False``).
    periodic: bool
    #: Name of the adapter's configuration (``les_*/configs/<config>.yaml``).
    config: str
    #: Files in a data folder such as ``LES_DATA_DIR``.
    layout: Layout
    #: Epochs of a demonstration that takes a few minutes on two cores.
    demo_epochs: int
    #: Makes the frames of each split, where the reference is a formula rather than a file.
    make: Callable[[], dict[str, list[Atoms]]] | None = None
    #: Whether LES can have a reason to help. Where not, a gain by it is a warning.
    electrostatic: bool = True
    #: The atoms of a part of a structure whose charge is compared with its reference, if any.
    part: Callable[[Atoms], NDArray[np.bool_] | None] | None = None
    #: The fragments of a structure, where the total charges of its molecules are known.
    fragments: Callable[[Atoms], Fragments] | None = None


SYSTEMS: dict[str, System] = {
    system.name: system
    for system in (
        System(
            "dipeptides",
            "polar dipeptides, isolated molecules",
            periodic=False,
            config="dipeptides",
            layout=Layout(
                train="dipeptides/dipeptides_train.xyz",
                valid="dipeptides/dipeptides_val.xyz",
                test="dipeptides/dipeptides_test.xyz",
            ),
            demo_epochs=20,
        ),
        System(
            "water",
            "bulk liquid water",
            periodic=True,
            config="water",
            layout=Layout(
                train="water_rpbe_d3/water_rpbe_d3_test50.xyz", test_every=5, valid_every=10
            ),
            demo_epochs=20,
        ),
        System(
            "water_pbe0ts",
            "bulk liquid water, PBE0+TS, 400 frames",
            periodic=True,
            config="water",
            layout=Layout(
                train="water_pbe0ts/water_pbe0ts_train.xyz",
                test="water_pbe0ts/water_pbe0ts_test.xyz",
                valid_every=10,
            ),
            demo_epochs=10,
        ),
        System(
            "spice_bec",
            "clusters of water, SPICE test set",
            periodic=False,
            config="dipeptides",
            layout=Layout(train="spice_bec/water.xyz", test_every=5, valid_every=10),
            demo_epochs=20,
        ),
        System(
            "spice_bec_monomers",
            "small molecules, SPICE test set",
            periodic=False,
            config="dipeptides",
            layout=Layout(train="spice_bec/des370k_monomers.xyz", test_every=5, valid_every=10),
            demo_epochs=20,
        ),
        System(
            "superionic_water",
            "water at 2000 K, Born effective charges at 2 g/cc",
            periodic=True,
            config="water",
            layout=Layout(
                train="superionic_water/highTlowD_2000K.xyz",
                response="superionic_water/S-2cc-T2000K-BEC.xyz",
                test_every=10,
                valid_every=10,
            ),
            demo_epochs=5,
        ),
        System(
            "au2_mgo",
            "Au2 on MgO(001), with and without Al dopants",
            periodic=True,
            config="au2_mgo",
            layout=Layout(
                train="au2_mgo/au2_mgo_md19.xyz",
                test="au2_mgo/au2_mgo_dft_optimised4.xyz",
                valid_every=8,  # 19 frames: one doped and one undoped for validation
            ),
            demo_epochs=20,
        ),
        System(
            "charged_dimers",
            "dimers of side chains, charged and not, drawn apart",
            periodic=True,
            config="dipeptides",
            layout=Layout(
                train="charged_dimers/lode_dimers_6pairs.xyz", split_key="split", valid_every=10
            ),
            demo_epochs=20,
            fragments=charged_dimers.molecules,
        ),
        System(
            "carbon_chain",
            "carbon chains C10H2 and C10H3+, two charge states",
            periodic=False,
            config="dipeptides",
            layout=Layout(train="carbon_chain/carbon_chain_129.xyz", test_every=5, valid_every=10),
            demo_epochs=60,
            part=carbon_chain.end_group,
        ),
        System(
            "salt",
            "clusters of Na+ and Cl-, known charges",
            periodic=False,
            config="dipeptides",
            layout=Layout(train="salt/salt_train.xyz"),
            demo_epochs=30,
            make=salt.make,
        ),
        System(
            "doped_salt",
            "ion pair on NaCl, dopant far below, known charges",
            periodic=False,
            config="dipeptides",
            layout=Layout(train="doped_salt/doped_salt_train.xyz"),
            demo_epochs=20,
            make=doped_salt.make,
        ),
        System(
            "random_charges",
            "random charges in a box, known charges",
            periodic=True,
            config="water",
            layout=Layout(train="random_charges/random_charges_train.xyz"),
            demo_epochs=20,
            make=random_charges.make,
        ),
        System(
            "copper",
            "crystals of copper, without electrostatics",
            periodic=True,
            config="water",
            layout=Layout(train="copper/copper_train.xyz"),
            demo_epochs=20,
            make=copper.make,
            electrostatic=False,
        ),
    )
}


def get_system(name: str) -> System:
    """The system ``name``; ``ValueError`` with the closest match if there is none."""
    if name in SYSTEMS:
        return SYSTEMS[name]
    closest = get_close_matches(name, SYSTEMS, n=1)
    hint = f"; did you mean {closest[0]!r}?" if closest else ""
    raise ValueError(f"unknown system {name!r}{hint} (known: {', '.join(SYSTEMS)})")
