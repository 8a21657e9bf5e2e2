"""What ``import nequip`` loads of us: little, and never in the way."""

from __future__ import annotations

import sys
import textwrap

import pytest

from les.backends import backend_names, get_backend
from les_nequip.backend import AllegroBackend, NequIPBackend
from les_nequip.registration import COMPILE_TARGETS, register


def without(*packages):
    """A program that hides their entry points from upstream, and Allegro altogether."""
    return f"""
import sys, importlib.metadata as metadata
found = metadata.entry_points
def without(**selection):
    entries = found(**selection)
    if selection != {{"group": "nequip.extension"}}:
        return entries
    return [entry for entry in entries if entry.value.split(".")[0] not in {packages}]
metadata.entry_points, sys.modules["allegro"] = without, None
"""


WITHOUT_ALLEGRO = without("allegro")
SYSTEMS = {"water", "dipeptides", "au2_mgo"}


@pytest.mark.parametrize(("name", "kind"), [("nequip", NequIPBackend), ("allegro", AllegroBackend)])
def test_backends_are_found(name, kind):
    assert name in backend_names()
    backend = get_backend(name)
    assert type(backend) is kind
    assert backend.problem() is None
    assert backend.version() is not None
    assert set(backend.configs()) == SYSTEMS


def test_doctor(les_command, capsys):
    assert les_command("doctor") == 0
    output = capsys.readouterr().out
    for backend in (NequIPBackend(), AllegroBackend()):
        assert f"ok  {backend.distribution} {backend.version()}" in output


def test_fields_and_targets_are_registered():
    """By ``import nequip`` alone, which this module does not do itself."""
    from nequip.data import _key_registry
    from nequip.scripts._compile_utils import COMPILE_TARGET_DICT

    register()  # once more
    assert "les_energy" in _key_registry._GRAPH_FIELDS
    for name in COMPILE_TARGETS:
        target = COMPILE_TARGET_DICT[name]
        assert "charges" in target["output"]
        assert ("born_effective_charges" in target["output"]) == name.endswith("_bec")
        assert "cell" in target["input"]


def test_what_is_imported(run_program):
    """Upstream imports all that its entry points name: beyond ``import les``, hardly anything.

    Allegro, which needs some of upstream's modules that we need, is left out.
    """

    def modules(program):
        return set(run_program("-c", f"{program}\nprint(*sys.modules)").stdout.split())

    upstream = modules(without("allegro", "les", "les_nequip") + "import nequip")
    ours = modules(WITHOUT_ALLEGRO + "import nequip") - upstream
    assert "les" not in upstream and "les" in ours  # the entry points are what loads it
    ours -= modules("import sys, les")
    assert {name for name in ours if name.split(".")[0] not in sys.stdlib_module_names} == {
        "les_nequip",
        "les_nequip.keys",
        "les_nequip.registration",
        # where upstream keeps what we register
        "nequip.scripts",
        "nequip.scripts._compile_utils",
        "nequip.scripts._package_utils",
    }


@pytest.mark.parametrize(
    "breakage",
    [
        "import nequip.data; del nequip.data.register_fields",
        "import nequip.scripts._package_utils as m\n"
        "m.register_libraries_as_external_for_packaging = None",
    ],
)
def test_another_nequip(run_program, breakage):
    """Registration fails with a warning, and ``import nequip`` goes on."""
    program = f"""
        class Breakage:
            def find_spec(self, name, path=None, target=None):
                if name == "les_nequip.registration":
                    exec({breakage!r})

        sys.meta_path.insert(0, Breakage())
        import nequip, nequip.model
        print("les_nequip" in sys.modules)
    """
    result = run_program("-c", WITHOUT_ALLEGRO + textwrap.dedent(program))
    assert result.stdout.strip() == "True"
    assert result.stderr.startswith("LES is not available in")
    assert result.stderr.count("\n") == 1


# --- without nequip, without Allegro

WITHOUT_NEQUIP = "import sys; sys.modules['nequip'] = None\n"


def test_import_without_nequip(run_program):
    program = (
        "import les_nequip, les_nequip.backend as b\n"
        "for backend in (b.NequIPBackend(), b.AllegroBackend()):\n"
        "    print(backend.problem())\n"
        "    print(sorted(backend.configs()))\n"
        "print([name for name in ('ase', 'e3nn', 'hydra') if name in sys.modules])"
    )
    result = run_program("-c", WITHOUT_NEQUIP + program)
    lines = result.stdout.splitlines()
    assert lines[0].startswith("nequip is not installed")
    assert lines[0].endswith('install it in an environment of its own: pip install "les[nequip]"')
    assert lines[1] == lines[3] == str(sorted(SYSTEMS))
    assert lines[2].startswith("nequip-allegro is not installed")
    assert lines[4] == "[]"
    assert not result.stderr


def test_names_without_nequip(run_program):
    program = """
        import les_nequip
        for name in les_nequip.__all__:
            try:
                getattr(les_nequip, name)
            except Exception as error:
                print(name, type(error).__name__, error)
    """
    lines = run_program("-c", WITHOUT_NEQUIP + textwrap.dedent(program)).stdout.splitlines()
    assert [line.split()[0] for line in lines] == [
        "LES",
        "AddLES",
        "ChargeParamGroups",
        "ChargesFirst",
        "ComputeResponses",
        "FitAtomicEnergies",
        "LESCalculator",
        "PairPotentials",
        "SecondStage",
        "TrainedModel",
        "WithResponses",
        "load_model",
        "save_model",
    ]
    for line in lines:
        assert "BackendError backend 'nequip': nequip is not installed" in line
        assert line.endswith('pip install "les[nequip]"')


def test_without_allegro(run_program):
    program = (
        "from les.cli import main\n"
        "import les_nequip.backend as b, les_nequip\n"
        "les_nequip.LES\n"
        "print(b.NequIPBackend().problem())\n"
        "sys.exit(main(['train', 'allegro', '--les', '-cn', 'x']))"
    )
    result = run_program("-c", WITHOUT_ALLEGRO + program, check=False)
    assert result.stdout.strip() == "None"
    assert result.returncode == 1
    assert "les: error: backend 'allegro': nequip-allegro is not installed" in result.stderr
    assert 'pip install "les[allegro]"' in result.stderr


def test_unknown_name():
    import les_nequip

    with pytest.raises(AttributeError, match="module 'les_nequip' has no attribute 'LESS'"):
        _ = les_nequip.LESS
