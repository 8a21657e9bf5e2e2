"""The command ``les predict``, with a backend that needs no upstream."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

from les import ChargeSign, cli
from les.predict import predict


@pytest.fixture
def structures(tmp_path):
    """A molecule with labels of its own, and a crystal."""
    molecule = Atoms("OHH", [[0, 0, 0], [0, 0, 1.0], [0, 0.9, 0]], info={"REF_energy": -5.0})
    crystal = Atoms("NaCl", [[0, 0, 0], [2.0] * 3], cell=[4.0] * 3, pbc=True)
    path = tmp_path / "structures.xyz"
    write(path, [molecule, crystal])
    return path


def test_predict(fake, structures, tmp_path, capsys):
    output = tmp_path / "out.xyz"
    argv = ["predict", "a.model", str(structures), "--backend", "fake", "-o", str(output)]
    assert cli.main([*argv, "--bec", "--dtype", "float32"]) == 0
    options = {"bec": True, "allow_pickle": False}
    assert fake.calls == [(Path("a.model"), "cpu", "float32", options)]
    assert "2 structures" in capsys.readouterr().out
    molecule, crystal = read(output, ":")
    assert molecule.info["LES_energy"] == 3.0
    assert molecule.info["REF_energy"] == -5.0
    assert crystal.info["LES_energy"] == 2.0
    assert crystal.pbc.all()
    np.testing.assert_array_equal(molecule.arrays["LES_forces"], 1.0)
    np.testing.assert_array_equal(molecule.arrays["LES_charges"], [0.0, 0.1, 0.2])
    assert molecule.arrays["LES_born_effective_charges"].shape == (3, 9)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.xyz", "structures.xyz"]


def kept(folder):
    return sorted(folder.iterdir())


def spoiled(structures, change):
    """The file with its second frame changed."""
    frames = read(structures, ":")
    change(frames[1])
    write(structures, frames)
    return structures


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda atoms: atoms.set_positions([[0, 0, 0], [0, 0, 0]]), "at the same place"),
        (lambda atoms: atoms.set_positions([[0, 0, 0], [0, np.nan, 0]]), "must be finite"),
        (lambda atoms: atoms.set_atomic_numbers([54, 17]), "does not know xenon"),
    ],
)  # fmt: skip
def test_predict_names_file_and_frame(fake, structures, tmp_path, change, message):
    output = tmp_path / "out.xyz"
    with pytest.raises(ValueError, match=message) as error:
        predict(fake().calculator("a.model"), spoiled(structures, change), output)
    assert str(error.value).startswith(f"{structures}: frame 1: ")
    assert [path.name for path in kept(tmp_path)] == ["out.xyz.journal", "structures.xyz"]


@pytest.mark.parametrize("content", ["", "these are\nnot atoms\n", None])
def test_predict_names_a_file_without_structures(fake, tmp_path, fails, content):
    structures, output = tmp_path / "structures.xyz", tmp_path / "out.xyz"
    if content is not None:
        structures.write_text(content)
    argv = ["predict", "a.model", str(structures), "--backend", "fake", "-o", str(output)]
    assert f"{structures}" in fails(*argv)
    assert not output.exists()
    assert len(kept(tmp_path)) == (content is not None)


# --- what is written, and where


def test_formats_by_ending(fake, structures, tmp_path, fails):
    labelled = read(structures, ":")
    labelled[1].arrays["REF_forces"] = np.array([[0.1, 0.2, 1 / 3], [0.0, 0.0, 1.0]])
    labelled[1].calc = SinglePointCalculator(labelled[1], energy=-1.0)
    write(tmp_path / "labelled.xyz", labelled)
    for name in ("out.traj", "out.extxyz", "out.xyz"):
        predict(fake().calculator("a"), tmp_path / "labelled.xyz", tmp_path / name)
        molecule, crystal = read(tmp_path / name, ":")
        for atoms in (molecule, crystal):
            place = atoms.info if name == "out.traj" else atoms.arrays
            np.testing.assert_array_equal(place["LES_forces"], np.ones((len(atoms), 3)))
            assert atoms.info["LES_energy"] == len(atoms)
        assert molecule.info["REF_energy"] == -5.0
        place = crystal.info if name == "out.traj" else crystal.arrays
        np.testing.assert_allclose(place["REF_forces"], labelled[1].arrays["REF_forces"], atol=1e-8)
        assert crystal.get_potential_energy() == -1.0
    argv = ["predict", "a.model", str(structures), "--backend", "fake", "-o"]
    for name in ("out.csv", "out", "model.pt"):
        assert "must end with .xyz or .extxyz" in fails(*argv, str(tmp_path / name))
    assert fake.calls[-1][0] == Path("a")  # refused before a model is loaded


def test_nothing_is_overwritten(fake, structures, tmp_path, fails):
    output = tmp_path / "out.xyz"
    output.write_text("of an earlier run")
    output.chmod(0o640)
    link = tmp_path / "link.xyz"
    link.symlink_to(output)
    for name in (output, link):
        argv = ["predict", "a.model", str(structures), "--backend", "fake", "-o", str(name)]
        assert f"{name} exists already" in fails(*argv)
        assert output.read_text() == "of an earlier run"
    assert cli.main([*argv, "--force"]) == 0
    assert len(read(output, ":")) == 2
    assert link.is_symlink()
    assert output.stat().st_mode & 0o777 == 0o640
    argv[-1] = str(structures)
    content = structures.read_text()
    assert "is what is read" in fails(*argv, "--force")
    assert structures.read_text() == content


def test_earlier_predictions_are_replaced(fake, structures, tmp_path):
    """Also those that the model at hand does not make."""
    frames = read(structures, ":")
    frames[0].info["LES_les_energy"] = frames[0].info["LES_energy"] = 7.0
    frames[0].arrays["LES_magmoms"] = np.ones(3)
    write(structures, frames)
    predict(fake().calculator("a"), structures, tmp_path / "out.xyz")
    atoms = read(tmp_path / "out.xyz", 0)
    assert {key for key in atoms.info if key.startswith("LES_")} == {"LES_energy"}
    assert "LES_magmoms" not in atoms.arrays


def test_all_frames_between_blank_lines(fake, tmp_path, capsys):
    frame = "1\nProperties=species:S:1:pos:R:3\nH 0 0 0\n"
    (tmp_path / "in.xyz").write_text("\n\n".join([frame] * 14))
    argv = ["predict", "a", str(tmp_path / "in.xyz"), "--backend", "fake", "-o"]
    assert cli.main([*argv, str(tmp_path / "out.xyz")]) == 0
    assert "14 structures" in capsys.readouterr().out
    assert len(read(tmp_path / "out.xyz", ":")) == 14


# --- interruptions


class Interrupted(Calculator):
    """Something happens at its third structure."""

    implemented_properties = ("energy", "charges")

    def __init__(self, end):
        super().__init__()
        self.end, self.n_calls, self.charge_sign = end, 0, ChargeSign()

    def calculate(self, atoms=None, properties=None, system_changes=()):
        self.n_calls += 1
        if self.n_calls == 3:
            self.end()
        super().calculate(atoms, properties, system_changes)
        with torch.device("cpu"):
            # Their mean decides the sign in one way for the first structures, then in the other.
            charges = torch.arange(float(len(atoms))) - 1.5
            sign = self.charge_sign(-charges * (3.5 - len(atoms)), torch.tensor(atoms.numbers))
        self.results = {"energy": float(len(atoms)), "charges": sign * charges.numpy()}


def interrupt():
    raise KeyboardInterrupt


@pytest.fixture
def five(tmp_path):
    """A file of five structures, which tell their place by their number of atoms."""
    path = tmp_path / "five.xyz"
    frames = [Atoms("OH" + "H" * n, np.arange(3.0 * n + 6).reshape(-1, 3)) for n in range(5)]
    write(path, frames, format="extxyz")
    return path


SCRIPT = """
import os, signal, sys
from pathlib import Path
from les.predict import predict
from tests.core.test_predict import Interrupted
end = lambda: os.kill(os.getpid(), signal.SIGKILL)
predict(Interrupted(end), Path(sys.argv[1]), Path(sys.argv[2]), {"model": "a"})
"""


@pytest.mark.parametrize("how", ["Ctrl-C", "kill -9"])
def test_an_interrupted_run_goes_on(how, five, tmp_path, caplog):
    output = tmp_path / "out.xyz"
    if how == "Ctrl-C":
        with pytest.raises(KeyboardInterrupt):
            predict(Interrupted(interrupt), five, output, {"model": "a"})
        assert "2 of 5 structures are kept in" in caplog.text
    else:
        root = Path(__file__).parents[2]
        run = subprocess.run([sys.executable, "-c", SCRIPT, five, output], cwd=root, check=False)
        assert run.returncode == -signal.SIGKILL
    assert not output.exists()
    journal = tmp_path / "out.xyz.journal"
    kept_results = journal.read_bytes()
    with pytest.raises(ValueError, match=f"{journal} keeps the results .* --resume"):
        predict(Interrupted(print), five, output, {"model": "a"})
    with pytest.raises(ValueError, match="of another run, with other model;"):
        predict(Interrupted(print), five, output, {"model": "b"}, resume=True)
    assert journal.read_bytes() == kept_results

    calculator = Interrupted(print)
    calculator.n_calls = 10
    result = predict(calculator, five, output, {"model": "a"}, resume=True)
    assert result.n_written == 5
    assert calculator.n_calls == 13  # three were left
    assert calculator.charge_sign.sign == -1  # as the first structure had decided
    assert [atoms.info["LES_energy"] for atoms in read(output, ":")] == [2, 3, 4, 5, 6]
    assert kept(tmp_path) == [five, output]


def test_resumed_results_are_those_of_one_run(five, tmp_path):
    one = tmp_path / "one.xyz"
    predict(Interrupted(list), five, one)
    with pytest.raises(KeyboardInterrupt):
        predict(Interrupted(interrupt), five, tmp_path / "two.xyz", resume=True)
    predict(Interrupted(list), five, tmp_path / "two.xyz", resume=True)
    assert one.read_bytes() == (tmp_path / "two.xyz").read_bytes()


def test_changed_structures_are_another_run(five, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        predict(Interrupted(interrupt), five, tmp_path / "out.xyz")
    five.write_text(five.read_text().replace("4.0", "4.1"))
    with pytest.raises(ValueError, match="of another run, with other structures;"):
        predict(Interrupted(list), five, tmp_path / "out.xyz", resume=True)


def test_structures_that_change_meanwhile(five, tmp_path):
    def change():
        five.write_text(five.read_text().replace("4.0", "4.1"))

    with pytest.raises(ValueError, match=f"{five} has changed since this run began"):
        predict(Interrupted(change), five, tmp_path / "out.xyz")
    assert not (tmp_path / "out.xyz").exists()


def test_two_runs_at_once(five, tmp_path):
    def second():
        with pytest.raises(OSError, match="is in use by process"):
            predict(Interrupted(list), five, tmp_path / "out.xyz", resume=True)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(Interrupted(second), five, tmp_path / "out.xyz")


@pytest.mark.parametrize("name", ["out.xyz", "out.traj"])
def test_an_output_that_cannot_be_written(name, five, tmp_path, monkeypatch):
    """What has been computed is not computed again."""

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("ase.io.write", full)
        patch.setattr("ase.io.Trajectory.write", full, raising=False)
        patch.setattr("ase.io.trajectory.TrajectoryWriter.write", full)
        with pytest.raises(OSError, match=f"No space left on device: '{tmp_path / name}'"):
            predict(Interrupted(list), five, tmp_path / name)
    assert [path.name for path in kept(tmp_path)] == ["five.xyz", f"{name}.journal"]
    calculator = Interrupted(interrupt)
    assert predict(calculator, five, tmp_path / name, resume=True).n_written == 5
    assert calculator.n_calls == 0


# --- bad structures


def test_bad_structures_are_left_out(fake, five, tmp_path, capsys, fails):
    frames = read(five, ":")
    frames[1].numbers[:] = 54
    frames[3].positions[:] = 0.0
    write(five, frames, format="extxyz")
    output = tmp_path / "out.xyz"
    argv = ["predict", "a", str(five), "--backend", "fake", "-o", str(output)]
    error = fails(*argv)
    assert f"{five}: frame 1: the model does not know xenon (--skip-bad leaves it out)" in error
    assert cli.main([*argv, "--resume", "--skip-bad"]) == 1
    written = capsys.readouterr()
    assert "3 structures written" in written.out
    assert f"left out: {five}: frame 1: the model does not know xenon" in written.err
    assert f"left out: {five}: frame 3: atoms 0 and 1 are at the same place" in written.err
    assert "2 of 5 structures left out" in written.err
    assert [atoms.info["LES_frame"] for atoms in read(output, ":")] == [0, 2, 4]


def test_a_file_that_is_not_whole(fake, five, tmp_path, capsys, fails):
    lines = five.read_text().splitlines(keepends=True)
    five.write_text("".join(lines[:-2]))
    output = tmp_path / "out.xyz"
    argv = ["predict", "a", str(five), "--backend", "fake", "-o", str(output)]
    assert "frame 4: announces 6 atoms, 4 lines follow" in fails(*argv)
    assert kept(tmp_path) == [five]  # refused before anything is computed
    assert cli.main([*argv, "--skip-bad"]) == 1
    assert "left out: " in capsys.readouterr().err
    assert len(read(output, ":")) == 4


def test_nothing_but_bad_structures(fake, five, tmp_path, fails):
    frames = read(five, ":")
    for atoms in frames:
        atoms.numbers[:] = 54
    write(five, frames, format="extxyz")
    argv = ["predict", "a", str(five), "--backend", "fake", "-o", str(tmp_path / "out.xyz")]
    assert "has no structure that can be evaluated" in fails(*argv, "--skip-bad")
    assert kept(tmp_path) == [five]  # nothing to go on with


def test_structures_that_were_left_out_are_not_forgotten(five, tmp_path):
    class Broken(Interrupted):
        def calculate(self, atoms):
            if self.n_calls == 1:
                self.n_calls += 1
                raise ValueError("no")
            super().calculate(atoms)

    output = tmp_path / "out.xyz"
    with pytest.raises(KeyboardInterrupt):
        predict(Broken(interrupt), five, output, skip_bad=True)
    with pytest.raises(ValueError, match=r"an earlier run left out .*five.xyz: frame 1: no"):
        predict(Interrupted(list), five, output, resume=True)
    assert predict(Interrupted(list), five, output, resume=True, skip_bad=True).n_written == 4


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("full"), RuntimeError("can't allocate memory: 8 TB")]
)
def test_too_little_memory_says_nothing_of_a_structure(error, five, tmp_path):
    def fail():
        raise error

    with pytest.raises((MemoryError, torch.OutOfMemoryError)):
        predict(Interrupted(fail), five, tmp_path / "out.xyz", skip_bad=True)
    assert predict(Interrupted(list), five, tmp_path / "out.xyz", resume=True).n_written == 5


def test_errors_of_other_kinds_name_the_structure(five, tmp_path):
    def fail():
        raise KeyError("edge_index")

    with pytest.raises(ValueError, match="frame 2: KeyError: 'edge_index'"):
        predict(Interrupted(fail), five, tmp_path / "out.xyz")


# --- labels


def test_errors_against_labels(fake, five, tmp_path, capsys):
    frames = read(five, ":")
    for atoms in frames[1:]:
        atoms.info["REF_energy"] = len(atoms) * 1.01
        atoms.arrays["REF_forces"] = np.full((len(atoms), 3), 0.75)
    write(five, frames, format="extxyz")
    argv = ["predict", "a", str(five), "--backend", "fake", "-o", str(tmp_path / "out.xyz")]
    assert cli.main(argv) == 0
    head, line, _ = capsys.readouterr().out.split("\n", 2)
    assert [text.strip() for text in head.split("|")[1:]] == [
        "energy MAE / RMSE [meV/atom]",
        "forces MAE / RMSE [meV/A]",
    ]
    assert [text.strip() for text in line.split("|")] == ["five.xyz", "10 / 10", "250 / 250"]


def test_labels_that_are_not_compared(fake, five, tmp_path, caplog):
    frames = read(five, ":")
    for index, atoms in enumerate(frames):
        atoms.info |= {"dft_energy": 1.0, "LES_energy": 2.0, "total_charge": index % 2}
        atoms.arrays["REF_forces"] = np.full((len(atoms), 3), np.nan if index == 3 else 1.0)
    write(five, frames, format="extxyz")
    result = predict(fake().calculator("a"), five, tmp_path / "out.xyz")
    assert result.errors.sizes == {"forces": 3 * (2 + 3 + 4 + 6)}
    assert "it has dft_energy, which is not read" in caplog.text
    assert "it has total_charge" not in caplog.text  # no charges of atoms
    assert "1 labels of " in caplog.text
    assert "frame 3: key 'REF_forces' holds NaN" in caplog.text
    assert f"2 of 5 structures of {five} have a total_charge other than 0" in caplog.text


def test_charges_are_compared(fake, five, tmp_path, caplog):
    frames = read(five, ":")
    for atoms in frames[:2]:
        atoms.arrays["mbis_charges"] = np.arange(len(atoms)) / 5.0  # twice those of the model
    write(five, frames, format="extxyz")
    result = predict(fake().calculator("a"), five, tmp_path / "out.xyz")
    figures = result.agreements.figures()["charges"]
    assert figures["n_values"] == len(frames[0]) + len(frames[1])
    assert figures["scale"] == pytest.approx(2.0)
    assert figures["r2_scaled"] == pytest.approx(1.0)
    frames[0].arrays["bader_charges"] = frames[0].arrays.pop("mbis_charges")
    write(five, frames[0], format="extxyz")
    predict(fake().calculator("a"), five, tmp_path / "again.xyz")
    assert "has no charges to compare with under REF_charges" in caplog.text
    assert "it has bader_charges, which is not read" in caplog.text


def test_figures_of_merit(fake, five, tmp_path, capsys, caplog):
    """Of what is linear in the charges, with the sign that it has."""
    frames = read(five, ":")
    for atoms in frames:
        atoms.arrays["REF_bec"] = np.full((len(atoms), 9), 0.5)
    frames[0].arrays["REF_bec"][0] = 1.0
    frames[1].info["REF_dipole"] = [-0.1, 0.0, 0.0]
    frames[2].info |= {"REF_dipole": [1.0, 0.0, 0.0], "total_charge": 1}
    write(five, frames, format="extxyz")
    calculator = fake().calculator("a")
    plain = calculator.calculate

    def calculate(atoms, *rest, **options):
        plain(atoms, *rest, **options)
        calculator.results["dipole"] = np.array([0.2, 0.0, 0.0])
        calculator.results["born_effective_charges"][:] = 0.25

    calculator.calculate = calculate
    result = predict(calculator, five, tmp_path / "out.xyz")
    figures = result.agreements.figures()
    assert figures["bec"]["n_values"] == 9 * 20
    assert figures["bec"]["scale"] == pytest.approx(0.525 / 0.25)
    assert figures["dipole"]["n_values"] == 3
    assert figures["dipole"]["scale"] == pytest.approx(-0.5)
    assert f"1 structures of {five} have a dipole that is not compared" in caplog.text
    assert f"the dipoles of {five} correlate negatively with the reference" in caplog.text


def test_figures_of_merit_are_printed(fake, five, tmp_path, capsys):
    frames = read(five, ":")
    for atoms in frames:
        atoms.arrays["bec"] = np.ones((len(atoms), 9))
    write(five, frames, format="extxyz")
    argv = ["predict", "a", str(five), "--backend", "fake", "-o", str(tmp_path / "out.xyz")]
    assert cli.main(argv) == 0
    head, line, _ = capsys.readouterr().out.split("\n", 2)
    assert "best-fit scale | R2 | R2 with that scale | acoustic sum" in head
    assert line.startswith("Born effective charges [e] | 180    | 1    | -")


def test_the_acoustic_sum_is_printed_without_labels(fake, five, tmp_path, capsys, monkeypatch):
    calculator = fake().calculator("a")
    plain = calculator.calculate

    def calculate(atoms, *rest, **options):
        plain(atoms, *rest, **options)
        calculator.results["born_effective_charges"][:] = 0.25

    calculator.calculate = calculate
    monkeypatch.setattr(fake, "calculator", lambda *_, **__: calculator)
    argv = ["predict", "a", str(five), "--backend", "fake", "-o", str(tmp_path / "out.xyz")]
    assert cli.main([*argv, "--bec"]) == 0
    sizes = np.array([len(atoms) for atoms in read(five, ":")])
    expected = 0.25 * np.sqrt(np.mean(sizes**2))
    said = f"acoustic sum of Born effective charges (root mean square): {expected:.3g} e"
    assert said in capsys.readouterr().out


# --- options


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--bec"], {"bec": True}),
        (["--bec", "--bec-method", "phase"], {"bec": "phase"}),
        (["--bec", "--acoustic-sum", "spread"], {"bec": True, "acoustic_sum": "spread"}),
        (["--eps-inf", "1.78"], {"bec": False, "eps_inf": 1.78}),
    ],
)
def test_options_of_charges(fake, structures, tmp_path, options, expected):
    argv = ["predict", "a", str(structures), "--backend", "fake", "-o", str(tmp_path / "out.xyz")]
    assert cli.main([*argv, *options]) == 0
    assert fake.calls[-1][-1] == {"allow_pickle": False, **expected}


@pytest.mark.parametrize("value", ["0", "-1.78", "nan", "inf"])
def test_bad_eps_inf(fake, structures, value, fails):
    argv = ["predict", "a", str(structures), "--backend", "fake", f"--eps-inf={value}"]
    assert "`--eps-inf` must be a positive number" in fails(*argv)
    assert not fake.calls


@pytest.mark.parametrize("option", [["--bec-method", "phase"], ["--acoustic-sum", "spread"]])
def test_options_without_effect(fake, structures, option, capsys):
    with pytest.raises(SystemExit):
        cli.main(["predict", "a", str(structures), "--backend", "fake", *option])
    assert f"{option[0]} has no effect without --bec" in capsys.readouterr().err
    assert not fake.calls


def test_options_that_a_backend_does_not_know(fake, structures, tmp_path, monkeypatch, fails):
    original = fake.calculator

    def calculator(self, model, *, device="cpu", dtype="", bec=False, allow_pickle=False):
        return original(self, model)

    monkeypatch.setattr(fake, "calculator", calculator)
    argv = ["predict", "a", str(structures), "--backend", "fake", "-o", str(tmp_path / "out.xyz")]
    assert "models of fake have no charges to scale by --eps-inf" in fails(*argv, "--eps-inf=1.78")


def test_heads(fake, structures, tmp_path, monkeypatch, fails):
    argv = ["predict", "a", str(structures), "--backend", "fake", "--head", "dft"]
    assert cli.main([*argv, "-o", str(tmp_path / "out.xyz")]) == 0
    assert fake.calls[-1][-1]["head"] == "dft"

    original = fake.calculator

    def calculator(self, model, *, device="cpu", dtype="", bec=False, allow_pickle=False):
        return original(self, model)

    monkeypatch.setattr(fake, "calculator", calculator)
    assert "models of fake have no heads to choose by --head" in fails(
        *argv, "-o", str(tmp_path / "other.xyz")
    )


def test_a_model_that_cannot_be_read(fake, structures, tmp_path, monkeypatch, fails):
    def calculator(self, model, **options):
        raise KeyError("state_dict")

    monkeypatch.setattr(fake, "calculator", calculator)
    argv = ["predict", "a", str(structures), "--backend", "fake", "-o", str(tmp_path / "out.xyz")]
    assert "a cannot be read as a model of fake: KeyError: 'state_dict'" in fails(*argv)


def test_device(fake, structures, tmp_path, fails):
    argv = ["predict", "a", str(structures), "--backend", "fake", "-o", str(tmp_path / "out.xyz")]
    assert "`device` must be auto, cpu, cuda" in fails(*argv, "--device", "gpu")
    assert "`device` is cuda:99, but torch sees" in fails(*argv, "--device", "cuda:99")


def test_several_models(fake, structures, tmp_path, monkeypatch, fails):
    """Options may stand between the files."""
    argv = ["predict", "a", "--backend", "fake", "b", "-o", str(tmp_path / "out.xyz")]
    assert cli.main([*argv, str(structures)]) == 0
    assert [call[0] for call in fake.calls] == [Path("a"), Path("b")]
    molecule = read(tmp_path / "out.xyz", 0)
    assert molecule.info["LES_energy"] == 3.0
    assert molecule.info["LES_energy_std"] == 0.0
    np.testing.assert_array_equal(molecule.arrays["LES_forces_std"], 0.0)
    assert "needs a model file, and then a file of structures" in fails("predict", "a.model")
