"""The commands ``les ir`` and ``les born``, with classical models for trained ones."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from ase.build import bulk
from ase.io import read, write

from les import cli
from les.backends import arguments
from les.spectra.classical import FlexibleWater, RigidIons, water_box, water_molecule

pytest.importorskip("calorine")
pytest.importorskip("phonopy")
pytestmark = pytest.mark.cpu_only("the classical models compute on the CPU")


class ShortRange(FlexibleWater):
    """Has no charges that anyone could see."""

    def __init__(self, bec=False, **kwargs):
        super().__init__(**kwargs)
        self.les_config = None


class Polarisable(FlexibleWater):
    """Answers to a field along its bonds, the more the longer they are."""

    used_labels = ("external_field",)

    def calculate(self, atoms=None, *args, **kwargs):
        super().calculate(atoms, *args, **kwargs)
        bonds = atoms.positions[1:] - atoms.positions[0]
        field = np.array(atoms.info.get("external_field", np.zeros(3)))
        self.results["dipole"] = self.results["dipole"] + 0.1 * bonds.T @ bonds @ field


KINDS = (FlexibleWater, Polarisable, RigidIons, ShortRange)


@pytest.fixture
def models(fake, monkeypatch, tmp_path):
    """Files of models, by the name of their class."""

    class Backend(fake):
        def calculator(self, model, *, device, dtype, allow_pickle=False, **options):
            kinds = {kind.__name__: kind for kind in KINDS}
            return kinds[model.stem](**options)

    monkeypatch.setattr(arguments, "get_backend", lambda name: Backend())
    monkeypatch.setattr(arguments, "backend_of", lambda model: "fake")
    monkeypatch.setattr(arguments, "backend_names", lambda: ["fake"])
    monkeypatch.chdir(tmp_path)
    for kind in KINDS:
        (tmp_path / f"{kind.__name__}.pt").write_text("a model")
    write("molecule.xyz", water_molecule())
    write("box.xyz", water_box())
    write("crystal.xyz", bulk("NaCl", "rocksalt", a=5.69))
    return tmp_path


RUN = (
    *("ir", "run", "FlexibleWater.pt", "box.xyz", "--equilibration", "0.004"),
    *("--production", "0.06", "--resolution", "1500", "--highest", "4000"),
)


def test_run(models, capsys):
    """The second call goes on with what the first one has left, for longer."""
    (models / "measured.csv").write_text("cm-1,n,k\n400,1.3,0.1\n1600,1.2,0.2\n3400,1.2,0.01\n")
    assert cli.main([*RUN, "--experiment", "measured.csv", "--eps-inf", "1.7"]) == 0
    out = capsys.readouterr().out
    assert "0.06 ps at" in out
    assert "eps_inf 1.7" in out
    assert "Nyquist limit 8339 1/cm" in out
    assert "static dielectric constant: " in out
    assert "maxima of the measured spectrum (absorption_times_index): 1600 1/cm" in out
    names = {"currents.csv", "currents.csv.journal", "spectrum.csv", "spectrum.png"}
    assert {path.name for path in (models / "ir").iterdir()} == names
    first = np.genfromtxt(models / "ir" / "currents.csv", delimiter=",", names=True)
    assert len(first) == 31
    assert cli.main([*RUN, "--production", "0.08", "--eps-inf", "1.7"]) == 0
    longer = np.genfromtxt(models / "ir" / "currents.csv", delimiter=",", names=True)
    assert len(longer) == 41
    np.testing.assert_array_equal(longer["Jx"][:31], first["Jx"])


def test_run_of_another_model(models, fails):
    assert cli.main([*RUN]) == 0
    assert "is of another run, with other --eps-inf" in fails(*RUN, "--eps-inf", "2.0")
    (models / "ir" / "currents.csv.journal").unlink()
    assert "currents.csv exists already" in fails(*RUN)


def test_run_of_other_isotopes(models, fails):
    """What moves in another way is another run."""
    assert cli.main([*RUN]) == 0
    heavy = read(RUN[3])
    heavy.set_masses([18.0, *heavy.get_masses()[1:]])
    write(RUN[3], heavy)
    assert "of another run, with other structure" in fails(*RUN)


def test_run_that_is_forced(models):
    """A journal of another run is replaced, one of the same run goes on."""
    journal = models / "ir" / "currents.csv.journal"
    assert cli.main([*RUN]) == 0
    first = journal.read_bytes()
    assert cli.main([*RUN, "--force"]) == 0
    assert journal.read_bytes() == first
    assert cli.main([*RUN, "--eps-inf", "2.25", "--force"]) == 0
    found = journal.read_bytes()
    assert found.splitlines()[0] != first.splitlines()[0]
    assert len(found.splitlines()) == len(first.splitlines())
    journal.write_bytes(b"damaged\n" + found)
    assert cli.main([*RUN, "--force"]) == 0
    assert journal.read_bytes() == first


def test_what_a_run_reads_is_not_replaced(models, fails):
    """Also where a journal says that the folder is that of the run."""
    (models / "ir").mkdir()
    write("ir/currents.csv", water_box(), format="extxyz")
    (models / "ir" / "currents.csv.journal").write_text("")
    kept = (models / "ir" / "currents.csv").read_bytes()
    run = (*RUN[:3], "ir/currents.csv", *RUN[4:])
    assert "is what is read (ir/currents.csv)" in fails(*run, "--force")
    assert (models / "ir" / "currents.csv").read_bytes() == kept


def test_trajectory(models, capsys, caplog, fails):
    frames = []
    atoms = water_molecule()
    atoms.set_momenta([[0, 0, 0], [0, 0.5, 0], [0, -0.5, 0]])
    for number in range(40):
        atoms.positions[1, 1] += 0.01 * np.sin(number)
        frames.append(atoms.copy())
    write("trajectory.xyz", frames)
    command = ("ir", "trajectory", "FlexibleWater.pt", "trajectory.xyz", "--interval", "2")
    options = ("--resolution", "1000", "-o", "results")
    assert cli.main([*command, *options]) == 0
    assert "hydrogen" not in caplog.text
    out = capsys.readouterr().out
    assert "dielectric" not in out
    names = {"currents.csv", "spectrum.csv", "spectrum.png"}
    assert {path.name for path in (models / "results").iterdir()} == names
    assert "exists already" in fails(*command, *options)
    assert cli.main([*command, *options, "--force"]) == 0
    assert "needs a trajectory of" in fails(*command, "-o", "other")
    for number, frame in enumerate(frames):
        frame.positions[1, 1] += 0.1 * number
    write("trajectory.xyz", frames)
    assert cli.main([*command, *options[:2], "-o", "broken"]) == 0
    assert "1 of 2 hydrogen atoms are bonded to another atom at the end" in caplog.text
    write("trajectory.xyz", [water_molecule()] * 3)
    assert "frame 0: there are no velocities" in fails(*command, "-o", "third")


def test_raman(models, capsys, fails):
    """Scattering beside absorption, of a trajectory and of modes."""
    atoms = water_molecule()
    atoms.set_momenta([[0, 0, 0], [0, 0.5, 0], [0, -0.5, 0]])
    frames = []
    for number in range(80):
        atoms.positions[1:] *= 1.0 + 0.02 * np.sin(number)
        frames.append(atoms.copy())
    write("trajectory.xyz", frames)
    options = ("trajectory.xyz", "--interval", "2", "--resolution", "800", "--raman")
    assert "do not answer to a field" in fails("ir", "trajectory", "FlexibleWater.pt", *options)
    assert cli.main(["ir", "trajectory", "Polarisable.pt", *options, "-o", "both"]) == 0
    assert "maxima of the Raman spectrum: " in capsys.readouterr().out
    assert (models / "both" / "raman.png").stat().st_size > 10_000
    currents = np.genfromtxt(models / "both" / "currents.csv", delimiter=",", names=True)
    bonds = frames[0].positions[1:] - frames[0].positions[0]
    assert currents["alpha_xy"][0] == pytest.approx(0.1 * bonds[:, 0] @ bonds[:, 1], abs=1e-8)
    spectrum = np.genfromtxt(models / "both" / "raman.csv", delimiter=",", names=True)
    assert spectrum.dtype.names == ("wavenumber", "raman", "isotropic", "anisotropic")
    assert cli.main(["ir", "harmonic", "Polarisable.pt", "molecule.xyz", "--raman"]) == 0
    assert "Raman activity [A^4/u]" in capsys.readouterr().out


def test_harmonic(models, capsys, monkeypatch):
    command = ["ir", "harmonic", "FlexibleWater.pt", "molecule.xyz"]
    assert cli.main([*command, "-o", "quiet"]) == 0
    assert "relaxing" not in capsys.readouterr().err  # no bars in a file or pipe
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert cli.main(command) == 0
    out, progress = capsys.readouterr()
    assert "relaxing" in progress
    assert "9/9" in progress  # coordinates that were displaced
    assert "intensity [km/mol]" in out
    assert {path.name for path in (models / "ir").iterdir()} == {
        "modes.csv",
        "modes.png",
        "relaxed.xyz",
    }
    modes = np.genfromtxt(models / "ir" / "modes.csv", delimiter=",", names=True)
    assert len(modes) == 3


def test_born(models, capsys, fails):
    command = ("born", "RigidIons.pt", "crystal.xyz", "--eps-inf", "2.25")
    assert cli.main([*command]) == 0
    out = capsys.readouterr().out
    assert "Na    1.5000   " in out
    assert "BORN: with eps_inf = 2.25" in out
    lines = (models / "BORN").read_text().splitlines()
    assert [float(x) for x in lines[1].split()] == [2.25, 0, 0, 0, 2.25, 0, 0, 0, 2.25]
    assert "BORN exists already" in fails(*command)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("ir", "run", "ShortRange.pt", "box.xyz"), "the model has no LES, and so no charges"),
        (("born", "ShortRange.pt", "crystal.xyz"), "the model has no LES, and so no charges"),
        (("ir", "harmonic", "ShortRange.pt", "molecule.xyz"), "the model has no LES"),
        (("born", "RigidIons.pt", "crystal.xyz", "--eps-inf", "0"), "`--eps-inf` must be a posi"),
        ((*RUN, "--eps-inf", "-1"), "`--eps-inf` must be a positive number, got -1"),
        ((*RUN, "--timestep", "0"), "`timestep` must be a positive number, got 0"),
        ((*RUN, "--resolution", "10"), "a resolution of 10 1/cm needs a trajectory of"),
        ((*RUN, "--experiment", "box.xyz"), "box.xyz: line"),
        (("born", "FlexibleWater.pt", "molecule.xyz"), "crystals with three periodic axes"),
        (("ir", "harmonic", "FlexibleWater.pt", "box.xyz", "--no-relax"), "are of molecules"),
    ],
)
def test_bad_input(models, fails, argv, message):
    assert message in fails(*argv)


def test_a_measured_spectrum_elsewhere(models, fails):
    """It is refused before anything is computed."""
    (models / "far.csv").write_text("cm-1,absorption\n5000,1\n6000,2\n")
    message = fails(*RUN, "--experiment", "far.csv")
    assert "far.csv: the measured spectrum must have wavenumbers in the range of the" in message
    assert "0 to 4000 1/cm, got 5000 to 6000 1/cm" in message
    assert not (models / "ir").exists()


def test_several_structures(models, fails):
    write("two.xyz", [water_box(), water_box()])
    command = ("ir", "run", "FlexibleWater.pt", "two.xyz")
    assert "two.xyz: one structure is wanted, got 2" in fails(*command)


def test_packages_that_are_missing(models, fails, monkeypatch):
    """It is said before anything is computed."""
    monkeypatch.setitem(sys.modules, "calorine.tools", None)
    message = fails(*RUN)
    assert "this needs calorine" in message
    assert 'install it with: pip install "les[spectra]"' in message
    assert not (models / "ir").exists()
