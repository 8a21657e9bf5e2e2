"""Polarisabilities of liquid water, element by element, beside reference values.

python polarisability_of_water.py model.pt --reference water_field_validation.xyz

The model equilibrates charges. Structures of the reference have nine numbers ``polarizability``
[e A^2 / V] of the whole cell; without them an ideal mixture of molecules is the reference.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from ase.io import read
from models import calculator

from les import LESConfig
from les.figures import new_figure, save
from les.spectra.classical import water_box
from les.spectra.polarisability import polarisability
from les.units import COULOMB_CONSTANT


class FixedHardness:
    """Stands for a model: charges of water with one hardness for each element [eV/e^2]."""

    implemented_properties = ("hardness",)

    def __init__(self, **_: object) -> None:
        self.les_config = LESConfig(charge_equilibration=True)

    def get_property(self, name, atoms):
        return np.where(atoms.numbers == 8, 2.0, 3.0)

    def fragment_tensors(self, atoms):
        return {"fragment": torch.as_tensor(atoms.arrays["fragment"])}


def with_molecules(atoms):
    """A copy without labels in which each hydrogen atom belongs to the nearest oxygen atom."""
    atoms = atoms.copy()
    atoms.info.clear()
    oxygen = np.flatnonzero(atoms.numbers == 8)
    labels = [atoms.get_distances(i, oxygen, mic=True).argmin() for i in range(len(atoms))]
    atoms.arrays["fragment"] = np.array(labels)
    return atoms


def main(argv: list[str] | None = None) -> None:
    """Print how the model's polarisabilities compare, and draw them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?", help="with charge equilibration")
    parser.add_argument("--reference", type=Path, help="structures with polarisabilities")
    parser.add_argument("--output", type=Path, default=Path("."), help="folder")
    arguments = parser.parse_args(argv)

    structures = read(arguments.reference, ":") if arguments.reference else [water_box()]
    model = calculator(arguments.model, FixedHardness)
    found, reference = [], []
    for atoms in structures:
        volume = COULOMB_CONSTANT / (atoms.numbers == 8).sum()  # of one molecule [A^3]
        found.append(volume * polarisability(model, with_molecules(atoms)))
        given = atoms.info.get("polarizability", 1.47 / volume * np.eye(3))
        reference.append(volume * np.reshape(given, (3, 3)))
    found, reference = np.array(found), np.array(reference)
    means = [np.trace(tensors, axis1=1, axis2=2) / 3.0 for tensors in (found, reference)]
    rests = [t - m[:, None, None] * np.eye(3) for t, m in zip((found, reference), means)]
    print(f"mean: {means[0].mean():.3f} A^3 a molecule, reference {means[1].mean():.3f} A^3")
    for name, tensors in (("model", found), ("reference", reference)):
        print(f"along x, y, z, {name}: {tensors.mean(axis=0).diagonal().round(2).tolist()} A^3")
    if len(structures) > 1:
        print(f"correlation of means: {np.corrcoef(*means)[0, 1]:.2f}")
        slope = (rests[0] * rests[1]).sum() / np.square(rests[1]).sum()
        both = np.corrcoef(rests[0].ravel(), rests[1].ravel())[0, 1]
        print(f"correlation of anisotropies: {both:.2f}, slope {slope:.2f}")

    figure = new_figure(7.0, 3.6)
    for axes, (mine, theirs), name in zip(
        figure.subplots(1, 2), (means, rests), ("mean", "elements without the mean"), strict=True
    ):
        axes.plot(np.ravel(theirs), np.ravel(mine), "C0.")
        axes.set(title=name, xlabel=r"reference [$\mathrm{\AA}^3$]", ylabel="model")
        axes.margins(0.1)
    save(figure, arguments.output / "polarisability_of_water.png")


if __name__ == "__main__":
    main()
