"""Teachers: how they are named, what they are asked, and what is refused of what they say."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.io import read, write

from les import cli
from les.backends import BackendError
from les.distillation.labels import label
from les.distillation.registry import REGISTRY
from les.distillation.settings import LimitSettings
from les.distillation.teachers import Teacher, load_teacher, missing

#: A calculator of ASE's own, as a teacher.
LJ = "ase.calculators.lj:LennardJones"
OPTIONS = {"sigma": 0.85, "epsilon": 0.2, "rc": 4.0, "smooth": True}


class Springs(Calculator):
    """Every atom on a spring; what is wrong with the labels is said by ``fault``."""

    implemented_properties = ("energy", "forces")

    def __init__(self, fault="", after=0):
        super().__init__()
        self.fault, self.after, self.calls = fault, after, 0

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.calls += 1
        positions = self.atoms.positions
        energy, forces = 0.5 * np.square(positions).sum(), -positions
        fault = self.fault if self.calls > self.after else ""
        self.results = {
            "energy": np.nan if fault == "energy" else energy,
            "forces": {
                "scale": 1.1 * forces, "shape": forces[:-1], "nan": np.full_like(forces, np.nan),
                "large": 1e4 * forces,
            }.get(fault, forces),
        }  # fmt: skip


@pytest.fixture
def structures(tmp_path):
    """Three molecules in a file."""
    path = tmp_path / "structures.xyz"
    frames = [molecule("H2O") for _ in range(3)]
    for number, atoms in enumerate(frames):
        atoms.rattle(0.05, seed=number)
        atoms.info["REF_energy"] = 17.0
        atoms.info["note"] = "mine"
    write(path, frames)
    return path


def springs(fault="", after=0):
    return Teacher(Springs(fault, after), {"teacher": "springs"})


# --- names


def test_every_known_teacher_says_what_to_install(monkeypatch, capsys):
    for name, known in REGISTRY.items():
        monkeypatch.setitem(sys.modules, known.module, None)
        assert known.install in missing(name)
        with pytest.raises(BackendError, match=f"needs {known.distribution}.*install it with: pip"):
            load_teacher(name)
    assert cli.main(["distill", "teachers"]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[0] for line in lines] == list(REGISTRY)
    assert all("no; pip install" in line for line in lines)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("gfn1_xtb", ValueError, "no teacher 'gfn1_xtb'; did you mean 'gfn1-xtb'?"),
        ("nowhere:make", BackendError, "no module 'nowhere' here; install what brings it"),
        ("ase.build:nothing", ValueError, "ase.build has no function 'nothing'"),
        ("builtins:dict", ValueError, "must give an ASE calculator, got a dict"),
    ],
)
def test_names_that_are_none(text, error, message):
    with pytest.raises(error, match=message.replace("?", r"\?")):
        load_teacher(text)


def test_options_that_do_not_fit():
    with pytest.raises(ValueError, match=r"cannot be made with the options \{\}: TypeError: .*ref"):
        load_teacher("ase.calculators.harmonic:HarmonicForceField")


def test_provenance():
    teacher = load_teacher(LJ, OPTIONS)
    assert teacher.provenance["package"] == "ase"
    assert teacher.provenance["version"]
    assert teacher.provenance["options"] == OPTIONS


def test_own_module_is_told_by_its_checksum(tmp_path, monkeypatch):
    path = tmp_path / "my_teacher.py"
    path.write_text("from ase.calculators.lj import LennardJones as make\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert len(load_teacher("my_teacher:make").provenance["checksum"]) == 64


# --- what is asked of them


def test_stress_and_dipole_only_where_they_mean_something():
    teacher = load_teacher(LJ, OPTIONS)
    assert set(teacher.results(bulk("Cu"))) == {"energy", "forces", "stress"}
    assert set(teacher.results(molecule("H2O"))) == {"energy", "forces"}


@pytest.mark.parametrize("voigt", [True, False])
def test_stress_is_in_the_order_of_voigt(voigt):
    xx, yy, zz, yz, xz, xy = range(6)
    teacher = springs()
    calculate = teacher.calculator.calculate
    full = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])

    def with_stress(*arguments):
        calculate(*arguments)
        teacher.calculator.results["stress"] = np.arange(6) if voigt else full

    teacher.calculator.calculate = with_stress
    np.testing.assert_array_equal(teacher.results(bulk("Cu"))["stress"], np.arange(6))


def test_charge_and_spin_reach_xtb():
    """The ion, then the molecule: one does not keep the charge of the other."""
    pytest.importorskip("tblite")
    teacher = load_teacher("gfn1-xtb")
    neutral = teacher.results(molecule("OH"))
    ion = molecule("OH")
    ion.info.update(charge=-1, spin=1)
    charged = teacher.results(ion)
    assert charged["charges"].sum() == pytest.approx(-1.0, abs=1e-6)
    again = teacher.results(molecule("OH"))
    assert again["charges"].sum() == pytest.approx(0.0, abs=1e-6)
    assert float(again["energy"]) == pytest.approx(float(neutral["energy"]), abs=1e-5)
    assert abs(float(charged["energy"]) - float(neutral["energy"])) > 1.0


def test_a_charge_that_is_not_used_is_refused():
    ion = molecule("OH")
    ion.info["total_charge"] = -1
    with pytest.raises(ValueError, match="it has total_charge=-1, which this teacher cannot use"):
        load_teacher(LJ, OPTIONS).results(ion)


def test_unknown_elements_are_refused(structures, tmp_path):
    teacher = springs()
    teacher.elements = frozenset({8, 6})
    with pytest.raises(ValueError, match="the model knows the elements C, O, got H") as error:
        label(teacher, structures, tmp_path / "out.xyz", LimitSettings())
    assert str(error.value).startswith(f"{structures}: frame 0: ")


# --- what is refused of what they say


def test_labels(structures, tmp_path):
    output = tmp_path / "labels.xyz"
    facts = label(springs(), structures, output, LimitSettings(), name="springs")
    assert facts["n_labelled"] == 3
    check = facts["forces_against_differences"]
    assert check["deviation"] < 0.1 * check["accepted"]
    for before, after in zip(read(structures, ":"), read(output, ":"), strict=True):
        energy = 0.5 * np.square(before.positions).sum()
        assert after.info["REF_energy"] == pytest.approx(energy, abs=1e-7)  # not that of before
        np.testing.assert_allclose(after.arrays["REF_forces"], -before.positions, atol=1e-7)
        assert after.info["note"] == "mine"
        assert after.info["teacher"] == "springs"


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_forces_that_are_no_derivative_are_refused(factor, structures, tmp_path):
    teacher = springs("scale")
    calculate = teacher.calculator.calculate

    def scaled(*arguments):
        calculate(*arguments)
        teacher.calculator.results["forces"] *= factor / 1.1

    teacher.calculator.calculate = scaled
    output = tmp_path / "labels.xyz"
    with pytest.raises(ValueError, match="not the derivative of its energy") as error:
        label(teacher, structures, output, LimitSettings(skip_bad=True))
    assert str(error.value).startswith(f"{structures}: frame 0: ")
    assert not output.exists()


#: Evaluations that the first structure and its check take.
FIRST = 1 + 1 + 4


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("energy", "not all of the teacher's energy is finite"),
        ("nan", "not all of the teacher's forces is finite"),
        ("shape", r"forces must have shape \[3, 3\], got \[2, 3\]"),
        ("large", r"the force on atom \d is .* eV/A, more than 50 \(limits: force\)"),
    ],
)
def test_bad_labels_are_refused(fault, message, structures, tmp_path):
    output = tmp_path / "labels.xyz"
    with pytest.raises(ValueError, match=message) as error:
        label(springs(fault, FIRST + 1), structures, output, LimitSettings())
    assert str(error.value).startswith(f"{structures}: frame 1: ")
    assert "limits: skip_bad leaves it out" in str(error.value)
    assert not output.exists()
    # Frame 0 is labelled already; the two others are left out, as the user now wants.
    facts = label(springs(fault), structures, output, LimitSettings(skip_bad=True))
    assert facts["n_labelled"] == 1
    assert len(facts["left_out"]) == 2
    with pytest.raises(ValueError, match="frame 1"):  # and not without being asked
        label(springs(), structures, output, LimitSettings())


def test_nothing_left_is_refused(structures, tmp_path):
    with pytest.raises(ValueError, match=r"has no structure that can be labelled: .*frame 0"):
        label(springs("nan"), structures, tmp_path / "out.xyz", LimitSettings(skip_bad=True))


def test_atoms_too_close_are_refused(structures, tmp_path):
    frames = read(structures, ":")
    frames[2].positions[1] = frames[2].positions[2] + [0.0, 0.0, 0.2]
    write(structures, frames)
    with pytest.raises(ValueError, match=r"atoms 1 \(H\) and 2 \(H\) are 0.2 A apart") as error:
        label(springs(), structures, tmp_path / "out.xyz", LimitSettings())
    assert str(error.value).startswith(f"{structures}: frame 2: ")


def test_energies_far_above_the_lowest_are_refused(structures, tmp_path):
    frames = read(structures, ":")
    frames[1].positions += 5.0  # of springs: far from where they are fixed
    write(structures, frames)
    output = tmp_path / "out.xyz"
    message = r"frame 1: the energy is .* eV/atom above the lowest of this composition"
    with pytest.raises(ValueError, match=message):
        label(springs(), structures, output, LimitSettings())
    facts = label(springs(), structures, output, LimitSettings(skip_bad=True))
    assert (facts["n_labelled"], len(facts["left_out"])) == (2, 1)


def test_the_command(structures, tmp_path, capsys, fails):
    output = tmp_path / "labels.xyz"
    options = "{sigma: 0.85, epsilon: 0.2, rc: 4.0, smooth: true}"
    argv = ["distill", "label", LJ, str(structures), "-o", str(output), "--options", options]
    assert cli.main(argv) == 0
    assert "3 structures labelled" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "labels.xyz", "labels.xyz.json", "structures.xyz",
    ]  # fmt: skip
    assert "exists already" in fails(*argv)
    assert "--limits: " in fails(*argv, "--force", "--limits", "{forces: 3}")
    assert "--options must be a mapping" in fails(*argv[:-1], "1", "--force")
