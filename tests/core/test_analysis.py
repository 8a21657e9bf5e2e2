"""The command ``les analyse`` and the function behind it."""

from __future__ import annotations

import csv
import gc
import logging
import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator
from ase.io import read, write

from les import cli
from les.analysis import analyse_charges, environments
from les.analysis.charges import Kind
from les.analysis.statistics import Sample, Spread

pytest.importorskip("matplotlib")
pytestmark = pytest.mark.cpu_only("the calculator computes on the CPU")

#: Charges that the calculator gives to elements, before they depend on where the atom is.
ELEMENTS = {1: 0.3, 8: -0.6, 11: 0.9, 17: -0.9}


class ByElement(Calculator):
    """Charges of elements, a little different along x."""

    implemented_properties = ("energy", "charges")

    def __init__(self, implemented_properties=implemented_properties, **attributes):
        super().__init__()
        self.implemented_properties = list(implemented_properties)
        vars(self).update(attributes)

    def calculate(self, atoms=None, properties=None, system_changes=()):
        super().calculate(atoms, properties, system_changes)
        if "Xe" in atoms.get_chemical_symbols():
            raise ValueError("the model does not know xenon")
        self.results = {"energy": 0.0, "charges": charges_of(atoms)}


def charges_of(atoms):
    return np.array([ELEMENTS[z] for z in atoms.numbers]) + 0.01 * atoms.positions[:, 0]


@pytest.fixture
def frames():
    """Two molecules of water, an ion of it and a crystal; all but the crystal with references."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(2):
        water = molecule("H2O")
        water.rattle(0.05, rng=rng)
        water.info["dipole"] = rng.normal(size=3)
        water.info["quadrupole"] = rng.normal(size=9)
        made.append(water)
    ion = Atoms("OH", [[0.0, 0.0, 0.0], [0.2, 0.0, 0.95]], info={"total_charge": -1})
    ion.info["dipole"] = np.ones(3)
    made.append(ion)
    for atoms in made:
        atoms.arrays["mbis_charges"] = 1.5 * charges_of(atoms) + 0.05 * rng.normal(size=len(atoms))
    return [*made, bulk("NaCl", "rocksalt", a=5.6, cubic=True)]


@pytest.fixture
def structures(frames, tmp_path):
    path = tmp_path / "structures.xyz"
    write(path, frames, format="extxyz")
    return path


# --- what is bonded to what


def test_environments():
    methanol = environments(molecule("CH3OH"))
    assert sorted(methanol) == ["C(H3O)", "H(C)", "H(C)", "H(C)", "H(O)", "O(CH)"]
    assert environments(Atoms("NaCl", [[0, 0, 0], [0, 0, 9.0]])) == ["Na()", "Cl()"]


def test_environments_have_images():
    crystal = bulk("NaCl", "rocksalt", a=5.64)  # a primitive cell of two atoms
    assert environments(crystal) == ["Na(Cl6)", "Cl(Na6)"]


# --- statistics


def test_spread_of_pieces_is_that_of_all():
    values = 1e6 + np.random.default_rng(1).normal(size=50)
    spread = Spread()
    for piece in np.split(values, [1, 1, 7, 30]):
        spread.add(piece)
    assert spread.n == 50
    assert spread.mean == pytest.approx(values.mean(), rel=1e-14)
    assert spread.deviation == pytest.approx(values.std(), rel=1e-8)
    assert (spread.lowest, spread.highest) == (values.min(), values.max())
    assert spread.root_mean_square == pytest.approx(np.sqrt(np.mean(values**2)))
    assert Spread().deviation == Spread().root_mean_square == 0.0


def test_sample_is_of_all_rows():
    sample = Sample(size=400)
    for start in range(0, 4000, 100):
        sample.add(np.arange(start, start + 100.0), -np.arange(start, start + 100.0))
    first, second = np.array(sample.rows).T
    assert sample.n_rows == 4000
    assert len(set(first)) == 400
    np.testing.assert_array_equal(first, -second)
    assert first.mean() == pytest.approx(2000.0, abs=4 * 1155 / 20)  # four standard errors


# --- the function


def test_against_plain_formulas(frames, structures):
    analysis = analyse_charges(ByElement(), structures)
    read_back = read(structures, ":")
    waters, ion, crystal = read_back[:2], read_back[2], read_back[3]
    oxygen = np.array([charges_of(atoms)[0] for atoms in waters])
    for kind in (Kind(0.0, "O"), Kind(0.0, "O", "O(H2)")):
        group = analysis.groups[kind]
        assert group.charges.n == 2
        assert group.charges.mean == pytest.approx(oxygen.mean())
        assert group.charges.deviation == pytest.approx(oxygen.std())
        expected = [atoms.arrays["mbis_charges"][0] for atoms in waters]
        assert group.reference.mean == pytest.approx(np.mean(expected))
        errors = oxygen - expected
        assert group.error.root_mean_square == pytest.approx(np.sqrt(np.mean(errors**2)))
    assert analysis.groups[Kind(-1.0, "O", "O(H)")].charges.n == 1
    assert analysis.groups[Kind(0.0, "Na", "Na(Cl6)")].reference.n == 0
    assert {total: sums.n for total, sums in analysis.sums.items()} == {0.0: 3, -1.0: 1}
    assert analysis.sums[-1.0].mean == pytest.approx(charges_of(ion).sum())
    sums = [charges_of(atoms).sum() for atoms in read_back]
    assert analysis.deviations.mean == pytest.approx(np.mean(sums) + 0.25)

    figures = analysis.agreements.figures()
    x = np.concatenate([charges_of(atoms) for atoms in (*waters, ion)])
    y = np.concatenate([atoms.arrays["mbis_charges"] for atoms in (*waters, ion)])
    assert figures["charges"]["n_values"] == 8
    assert figures["charges"]["rmse"] == pytest.approx(np.sqrt(np.mean((x - y) ** 2)))
    assert figures["charges"]["r2"] == pytest.approx(1 - np.mean((x - y) ** 2) / np.var(y))
    assert figures["charges"]["scale"] == pytest.approx(x @ y / (x @ x))
    dipoles = [(charges_of(a) - charges_of(a).mean()) @ a.positions for a in waters]
    errors = np.array(dipoles) - [atoms.info["dipole"] for atoms in frames[:2]]
    assert figures["dipole"]["n_values"] == 6  # not the ion's
    assert figures["dipole"]["rmse"] == pytest.approx(np.sqrt(np.mean(errors**2)))
    assert figures["quadrupole"]["n_values"] == 18
    assert (analysis.n_periodic, analysis.n_ions) == (1, 1)
    assert len(crystal) == 8


def test_moments_of_ions_do_not_depend_on_where_they_are(frames, tmp_path):
    """They are about the mean of the positions, of charges that sum to the total charge."""
    found = []
    for shift in (0.0, 50.0):
        ion = frames[2].copy()
        ion.positions[:, 1] += shift
        write(tmp_path / "ion.xyz", ion)
        analyse_charges(ByElement(), tmp_path / "ion.xyz", each=found.append)
    first, second = found
    charges = first.charges - (first.charges.sum() + 1.0) / 2
    arms = frames[2].positions - frames[2].positions.mean(axis=0)
    np.testing.assert_allclose(first.dipole, charges @ arms, atol=1e-7)
    np.testing.assert_allclose(first.quadrupole, (charges[:, None] * arms).T @ arms, atol=1e-7)
    np.testing.assert_allclose(first.dipole, second.dipole, atol=1e-7)
    np.testing.assert_allclose(first.quadrupole, second.quadrupole, atol=1e-7)


def test_one_structure_at_a_time(frames, tmp_path):
    path = tmp_path / "many.xyz"
    write(path, frames[:2] * 2, format="extxyz")
    alive, seen = [], []

    def look(structure):
        gc.collect()
        alive.append(sum(reference() is not None for reference in seen))
        seen.append(weakref.ref(structure.atoms))

    analyse_charges(ByElement(), path, each=look)
    assert len(seen) == 4
    assert max(alive) <= 1


def test_another_reference(structures, frames, caplog):
    for atoms in frames[:2]:
        atoms.arrays["hirshfeld_charges"] = charges_of(atoms)
        atoms.arrays["wc_shift"] = np.zeros((3, 3))
        atoms.arrays["LES_charges"] = 2.0 * charges_of(atoms)
        atoms.arrays["bec"] = np.zeros((3, 9))
    write(structures, frames, format="extxyz")
    analysis = analyse_charges(ByElement(), structures)
    assert analysis.references.charges == "mbis_charges"
    unused = {"hirshfeld_charges": 2, "wc_shift": 2, "bec": 2}
    assert analysis.references.unused == unused
    assert "has bec, hirshfeld_charges, wc_shift, which is not used here" in caplog.text
    analysis = analyse_charges(ByElement(), str(structures), "LES_charges")
    assert analysis.agreements.figures()["charges"]["scale"] == pytest.approx(2.0)
    assert analysis.agreements.figures()["charges"]["n_values"] == 6


def test_the_sign_is_not_chosen(structures, frames, caplog):
    for atoms in frames[:3]:
        atoms.arrays["mbis_charges"] *= -1.0
    write(structures, frames, format="extxyz")
    analysis = analyse_charges(ByElement(), structures)
    assert analysis.agreements.figures()["charges"]["scale"] < 0.0
    assert "the charges of" in caplog.text
    assert "correlate negatively" in caplog.text


@pytest.mark.parametrize(
    ("calculator", "message"),
    [
        (ByElement(("energy",), les_config=None), "the model has no LES, and so no charges"),
        (ByElement(("energy", "latent_charges"), les_config=SimpleNamespace()), "several charges"),
        (ByElement(("energy", "forces")), "has no charges, only energy, forces"),
    ],
)
def test_no_charges(structures, calculator, message):
    with pytest.raises(ValueError, match=message):
        analyse_charges(calculator, structures)


def test_charges_of_another_number_of_atoms(structures, monkeypatch):
    monkeypatch.setattr(ByElement, "get_property", lambda *args: np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"frame 0: .* each of 3 atoms, got .* shape \[2, 2\]"):
        analyse_charges(ByElement(), structures)


@pytest.mark.parametrize(
    ("change", "name", "message"),
    [
        (lambda a: a.arrays.update(mbis_charges=np.ones((3, 2))), None,
         r"frame 1: key 'mbis_charges' must have shape \[3\], got \[3, 2\]"),
        (lambda a: a.arrays.update(mbis_charges=np.full(3, np.nan)), None,
         "frame 1: key 'mbis_charges' holds NaN"),
        (lambda a: a.arrays.update(partial=np.ones((3, 2))), "partial",
         r"frame 1: key 'partial' must have shape \[3\]"),
        (lambda a: a.info.update(dipole=[1.0, 2.0]), None,
         r"frame 1: key 'dipole' must have shape \[3\]"),
        (lambda a: None, "mbi_charges",
         "no structure has charges under 'mbi_charges'; did you mean 'mbis_charges'?"),
        (lambda a: None, "density", r"under 'density' \(there is mbis_charges\)"),
        (lambda a: a.info.update(total_charge=np.nan), None, "frame 1: total_charge must be fin"),
        (lambda a: a.set_atomic_numbers([54, 1, 1]), None, "frame 1: the model does not know xen"),
        (lambda a: a.set_positions(np.zeros((3, 3))), None, "frame 1: .* at the same place"),
    ],
)  # fmt: skip
def test_bad_structures_are_named(structures, frames, change, name, message):
    change(frames[1])
    write(structures, frames, format="extxyz")
    with pytest.raises(ValueError, match=message) as error:
        analyse_charges(ByElement(), structures, name)
    assert str(error.value).startswith(f"{structures}: ")


@pytest.mark.parametrize("content", ["", "3\nnot what was announced\nO 0 0 0\n", None])
def test_no_structures(tmp_path, content):
    path = tmp_path / "some.xyz"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=str(path)):
        analyse_charges(ByElement(), path)


# --- the command


@pytest.fixture
def command(fake, structures, monkeypatch):
    """The command, for a model that is the calculator above, in the folder of the structures."""
    monkeypatch.setattr(fake, "calculator", lambda self, model, **options: ByElement())
    monkeypatch.chdir(structures.parent)
    Path("a.model").touch()
    return "analyse", "a.model", "structures.xyz", "--backend", "fake"


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("absent", ["a.model", "structures.xyz"])
def test_files_that_are_not_there(command, fails, absent):
    """Said first, also where there are results of another run."""
    assert cli.main([*command]) == 0
    Path(absent).unlink()
    assert f"{absent}: there is no such file" in fails(*command)


def test_command(command, tmp_path, capsys):
    assert cli.main([*command]) == 0
    out = capsys.readouterr().out
    assert "O(H2)" in out
    assert "charges are compared with mbis_charges" in out
    assert "1 periodic structures: they have no unique dipole" in out
    assert "1 ions: their moments are about the mean of the positions" in out
    folder = tmp_path / "analysis"
    names = ["agreement.csv", "charges.png", "environments.csv", "structures.csv"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert (folder / "charges.png").read_bytes().startswith(b"\x89PNG")
    groups = {(x["total_charge"], x["environment"]): x for x in rows_of(folder / names[2])}
    assert groups["0", "O(H2)"]["n_atoms"] == "2"
    assert groups["-1", "O(H)"]["n_references"] == "1"
    assert groups["0", "Cl(Na6)"]["rmse"] == ""
    rows = rows_of(folder / "structures.csv")
    assert [row["formula"] for row in rows] == ["H2O", "H2O", "HO", "Cl4Na4"]
    assert [row["total_charge"] for row in rows] == ["0", "0", "-1", "0"]
    trace = sum(float(rows[0][f"quadrupole_{x}"]) for x in ("xx", "yy", "zz"))
    assert trace == pytest.approx(0.0, abs=1e-7)
    assert rows[3]["dipole_x"] == rows[3]["reference_dipole_x"] == ""
    assert float(rows[2]["reference_dipole_x"]) == 1.0
    agreement = {row["quantity"]: row for row in rows_of(folder / "agreement.csv")}
    assert agreement["charges"]["reference"] == "mbis_charges"
    assert agreement.keys() == {"charges", "dipole", "quadrupole"}


def test_without_references(command, frames, structures, tmp_path, capsys):
    write(structures, frames[3], format="extxyz")
    assert cli.main([*command, "-o", "crystal"]) == 0
    out = capsys.readouterr().out
    assert "there is no reference to compare with" in out
    assert "RMSE" not in out
    assert rows_of(tmp_path / "crystal" / "agreement.csv") == []
    assert (tmp_path / "crystal" / "charges.png").exists()


def test_nothing_is_replaced_unasked(command, fails, tmp_path):
    folder = tmp_path / "analysis"
    folder.mkdir()
    (folder / "charges.png").write_text("of an earlier run")
    assert f"{'charges.png'} exists already" in fails(*command)
    assert [path.name for path in folder.iterdir()] == ["charges.png"]
    assert cli.main([*command, "--force"]) == 0
    assert (folder / "charges.png").read_bytes().startswith(b"\x89PNG")


def test_failures_leave_no_tables(command, frames, structures, fails, tmp_path):
    frames[2].numbers = [54, 1]
    write(structures, frames, format="extxyz")
    assert "structures.xyz: frame 2: the model does not know xenon" in fails(*command)
    assert list((tmp_path / "analysis").iterdir()) == []


def test_labels_without_effect_are_told(command, caplog):
    with caplog.at_level(logging.WARNING, "les"):
        assert cli.main([*command]) == 0
    assert "1 of 4 structures of structures.xyz have a total_charge other than 0" in caplog.text
