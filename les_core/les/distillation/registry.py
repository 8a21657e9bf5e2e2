"""Teachers that have a name: what they are, what to install, and how their calculators are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple


class KnownTeacher(NamedTuple):
    """A teacher whose parameters come inside a package.

    Attributes:
        make: makes the ASE calculator from keyword arguments.
        module: what is imported to see whether it is installed.
        distribution: the package that brings it.
        install: what to type to install it.
        elements: atomic numbers that it knows; ``None`` where only its calculator says.
        about: what it is, in a few words.
        charges: whether it takes the total charge and the spin multiplicity of a structure, as
            the parameters ``charge`` and ``multiplicity`` of its calculator.
    """

    make: Callable[..., Any]
    module: str
    distribution: str
    install: str
    elements: frozenset[int] | None
    about: str
    charges: bool = False


def _tblite(method: str) -> KnownTeacher:
    def make(**options: Any) -> Any:
        from tblite.ase import TBLite

        return TBLite(**{"method": method, "verbosity": 0, **options})

    return KnownTeacher(
        make, "tblite.ase", "tblite", "pip install tblite", frozenset(range(1, 87)),
        "semiempirical, with charges", charges=True,
    )  # fmt: skip


def _chgnet(version: str, about: str) -> KnownTeacher:
    def make(**options: Any) -> Any:
        import contextlib
        import io

        from chgnet.model.dynamics import CHGNetCalculator
        from chgnet.model.model import CHGNet

        device = options.pop("use_device", "cpu")
        with contextlib.redirect_stdout(io.StringIO()):
            model = CHGNet.load(model_name=version, use_device=device, verbose=False)
            return CHGNetCalculator(model=model, use_device=device, **options)

    elements = frozenset(range(1, 95))
    install = "pip install chgnet"
    return KnownTeacher(make, "chgnet.model.dynamics", "chgnet", install, elements, about)


def _sevennet(model: str, about: str) -> KnownTeacher:
    def make(**options: Any) -> Any:
        from sevenn.calculator import SevenNetCalculator

        return SevenNetCalculator(**{"model": model, "device": "cpu", **options})

    return KnownTeacher(make, "sevenn.calculator", "sevenn", "pip install sevenn", None, about)


def _ani1x(**options: Any) -> Any:
    import torchani

    name = "ani-1x_8x.info"
    packaged = Path(torchani.__file__).parent / "resources" / name
    own = list((Path.home() / ".local" / "torchani").rglob(name))
    if not (packaged.is_file() and packaged.stat().st_size > 0) and not own:
        raise ValueError(
            f"the list of networks of ANI-1x, {packaged}, is empty in this release of torchani; "
            "write these four lines to it: ani-1x_8x/rHCNO-5.2R_16-3.5A_a4-8.params, "
            "ani-1x_8x/sae_linfit.dat, ani-1x_8x/train, 8"
        )
    return torchani.models.ANI1x(**options).double().ase()


#: Name -> teacher.
REGISTRY: Mapping[str, KnownTeacher] = {
    "gfn1-xtb": _tblite("GFN1-xTB"),
    "gfn2-xtb": _tblite("GFN2-xTB"),
    "chgnet": _chgnet("0.3.0", "crystals, PBE(+U)"),
    "chgnet-r2scan": _chgnet("r2scan", "crystals, r2SCAN"),
    "sevennet-0": _sevennet("7net-0", "crystals, PBE(+U)"),
    "sevennet-l3i5": _sevennet("7net-l3i5", "crystals, PBE(+U); slower and more accurate"),
    "ani-1x": KnownTeacher(
        _ani1x, "torchani", "torchani", 'pip install "torchani==2.2.4" "setuptools<81"',
        frozenset({1, 6, 7, 8}), "organic molecules, wB97X",
    ),
}  # fmt: skip
