"""The command ``les``, with a backend that needs no upstream."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import les
from les import cli
from les.backends import Backend, BackendError, backend_names, backend_of, get_backend
from les.optional_packages import optional


def test_version(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out.strip() == les.__version__


def test_unknown_command(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["bake"])
    assert end.value.code == 2
    assert "predict" in capsys.readouterr().err


def test_registered_backends():
    assert "mace" in backend_names()
    for name in backend_names():
        backend = get_backend(name)
        assert isinstance(backend, Backend)
        assert backend.name == name
        assert backend.configs()


def test_unknown_backend_names_the_closest(fails):
    assert "unknown backend 'mcae'; did you mean 'mace'?" in fails("train", "mcae", "--les")
    assert "unknown backend 'xyz' (known: " in fails("config", "show", "xyz/water")


@pytest.mark.parametrize(
    ("flags", "with_les"), [([], True), (["--les"], True), (["--no-les"], False)]
)
def test_train_passes_arguments_on(fake, flags, with_les):
    assert cli.main(["train", "fake", "--config", "a.yaml", *flags, "--seed=3"]) == 0
    assert fake.calls == [(["--config", "a.yaml", "--seed=3"], with_les)]


def test_train_usage(fake, capsys, fails):
    assert cli.main(["train"]) == 2
    assert cli.main(["train", "--help"]) == 0
    assert "usage: les train {fake}" in capsys.readouterr().out
    assert "exclude each other" in fails("train", "fake", "--les", "--no-les")


@pytest.mark.parametrize("flag", ["--no_les", "--nles", "-les", "--LES", "--les=true", "--noles"])
def test_misspelt_flags_of_training(fake, flag, fails):
    """Upstream would take some of them for the beginning of an option of its own."""
    if flag == "--nles":  # may be one of upstream
        assert cli.main(["train", "fake", flag]) == 0
        return
    meant = "--no-les" if "no" in flag else "--les"
    assert f"{flag} is no option; did you mean {meant}?" in fails("train", "fake", flag)
    assert fake.calls == []


@pytest.mark.parametrize(
    ("symbol", "message"),
    [
        (
            "no_such_upstream:Model",
            "fake-upstream is not installed (no module 'no_such_upstream'); "
            'install it in an environment of its own: pip install "les[fake]"',
        ),
        (
            "json:MACE",
            "the installed module 'json' is not that of fake-upstream (it has no 'MACE'); "
            'install it in an environment of its own: pip install "les[fake]"',
        ),
        (
            "broken_upstream:Model",
            "fake-upstream fails to import: RuntimeError: no accelerator",
        ),
    ],
    ids=["absent", "wrong package", "broken"],
)
def test_unusable_upstream(fake, symbol, message, fails, monkeypatch, tmp_path):
    (tmp_path / "broken_upstream.py").write_text("raise RuntimeError('no accelerator')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(fake, "symbol", symbol)
    assert f"backend 'fake': {message}" in fails("train", "fake", "--name", "x")
    assert fake.calls == []
    with pytest.raises(BackendError):
        fake().require()
    sys.modules.pop("broken_upstream", None)


@pytest.mark.parametrize("module", ["phonopy.file_IO", "matplotlib.figure"])
def test_packages_that_need_no_compiler_are_installed_alone(module, monkeypatch):
    """The extra has them, too, and calorine, which is compiled."""
    monkeypatch.setitem(sys.modules, module, None)
    package = module.partition(".")[0]
    with pytest.raises(BackendError, match=rf"this needs {package} .*: pip install {package}$"):
        optional(module)


def test_errors_keep_their_traceback_when_debugging(fake, monkeypatch):
    monkeypatch.setattr(fake, "symbol", "json:MACE")
    with pytest.raises(BackendError, match="it has no 'MACE'"):
        cli.main(["--debug", "train", "fake"])


def test_interrupt_is_no_traceback(fake, capsys, monkeypatch):
    def interrupted(self, arguments, *, les):
        raise KeyboardInterrupt

    monkeypatch.setattr(fake, "train", interrupted)
    assert cli.main(["train", "fake"]) == 130
    assert capsys.readouterr().err == "les: interrupted\n"


def test_config_names_need_a_model(fake, fails, monkeypatch):
    """But where one model alone is installed, as in `les train`."""
    monkeypatch.setattr(fake, "version", lambda self: None)
    error = fails("config", "show", "water")
    assert "the name must be MODEL/SYSTEM, got 'water'; it may be fake/water" in error
    assert "got 'watre'; see `les config list`" in fails("config", "show", "watre")
    monkeypatch.setattr(fake, "version", lambda self: "1.0")
    assert cli.main(["config", "show", "water"]) == 0


def test_config_list_and_show(fake, capsys, fails, monkeypatch):
    assert cli.main(["config"]) == 0
    alone = capsys.readouterr().out
    assert cli.main(["config", "list"]) == 0
    listed = capsys.readouterr().out
    assert listed == alone
    head, *rows = ([cell.strip() for cell in line.split("|")] for line in listed.splitlines())
    assert head == ["configuration", "can be used here", "for"]
    said = {name: text for name, _, text in rows}
    assert {"fake/water", "fake/dipeptides", "fake/au2_mgo"} <= set(said)
    assert said["fake/water"] == "Bulk water: periodic boxes of 192 atoms, 100 epochs"
    assert said["fake/au2_mgo"].endswith("box with vacuum, few frames")  # of two lines
    assert {usable for _, usable, _ in rows} == {"yes"}
    monkeypatch.setattr(fake, "problem", lambda self: "not installed")
    assert cli.main(["config", "list"]) == 0
    assert "fake/water      | no, see les doctor" in capsys.readouterr().out
    assert cli.main(["config", "show", "fake/water"]) == 0
    assert capsys.readouterr().out == fake().configs()["water"].read_text()
    message = fails("config", "show", "fake/ice")
    assert "no configuration 'fake/ice' (known: " in message
    assert "fake/water" in message


def test_config_copy_refuses_to_overwrite(fake, fails, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = fake().configs()["water"].read_text()
    for target in ([], ["mine.yaml"]):
        assert cli.main(["config", "copy", "fake/water", *target]) == 0
    (tmp_path / "folder").mkdir()
    assert cli.main(["config", "copy", "fake/water", "folder"]) == 0
    copies = [tmp_path / "water.yaml", tmp_path / "mine.yaml", tmp_path / "folder" / "water.yaml"]
    assert [path.read_text() for path in copies] == [text] * 3
    copies[0].write_text("edited: true\n")
    assert "water.yaml exists already" in fails("config", "copy", "fake/water")
    assert copies[0].read_text() == "edited: true\n"
    assert cli.main(["config", "copy", "fake/water", "--force"]) == 0
    assert copies[0].read_text() == text
    (tmp_path / "pipe.yaml").symlink_to("/dev/null")
    assert "no regular file" in fails("config", "copy", "fake/water", "pipe.yaml", "--force")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("water.pt", "mace"),
        ("runs/water.model", "mace"),
        ("best.ckpt", "nequip"),
        ("water.nequip.zip", "nequip"),
        ("water.nequip.pt2", "nequip"),
    ],
)
def test_backend_of_a_model_file(name, expected):
    assert backend_of(Path(name)) == expected


def test_model_file_of_no_backend():
    with pytest.raises(BackendError, match=r"'water.zip' does not tell .* --backend .*mace: .pt"):
        backend_of(Path("water.zip"))


def test_nothing_to_convert(fails, tmp_path):
    error = fails("convert", "nequip", str(tmp_path / "a"), str(tmp_path / "b"))
    assert "backend 'nequip' has no published models to convert" in error
    (tmp_path / "b").touch()
    error = fails("convert", "nequip", str(tmp_path / "a"), str(tmp_path / "b"))
    assert "exists already" in error
    assert cli.main(["convert", "nequip", str(tmp_path / "a"), str(tmp_path / "b"), "--force"]) == 1


def test_converting_never_replaces_what_it_reads(fake, fails, tmp_path, monkeypatch):
    def convert(self, source, target, *, allow_pickle=False):
        target.write_text("converted")

    monkeypatch.setattr(fake, "convert", convert)
    source = tmp_path / "a.model"
    source.write_text("published")
    (tmp_path / "link.pt").symlink_to(source)
    for target in (source, tmp_path / "link.pt"):
        argv = ["convert", "fake", str(source), str(target), "--force"]
        assert "is what is read" in fails(*argv)
    assert source.read_text() == "published"
    (tmp_path / "b.pt").write_text("old")
    assert cli.main(["convert", "fake", str(source), str(tmp_path / "b.pt"), "--force"]) == 0
    assert (tmp_path / "b.pt").read_text() == "converted"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_pipe_that_ends_is_no_error(unbuffered, monkeypatch):
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    script = "from les.cli import main; import sys; sys.exit(main(['config', 'list']))"
    command = f'"{sys.executable}" -c "{script}" | true'
    run = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert run.stderr == ""
