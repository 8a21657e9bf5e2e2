"""Bad input: every message names the argument, what was expected and what came."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from ase import Atoms

from les import Ewald, Les, LESConfig, born_effective_charges, dipole_moments
from les.data.atoms import ANY_AXES, check_atoms
from les.sums.checks import NotFiniteError, TooLargeError, check_precision


@pytest.fixture
def arguments():
    """Good arguments for an open structure of three atoms and a periodic one of two."""
    return {
        "charges": torch.tensor([1.0, -0.5, -0.5, 1.0, -1.0]),
        "positions": torch.arange(15.0).view(5, 3),
        "cell": torch.stack([torch.zeros(3, 3), 9.0 * torch.eye(3)]),
        "batch": torch.tensor([0, 0, 0, 1, 1]),
        "pbc": torch.tensor([[False] * 3, [True] * 3]),
    }


def with_value(tensor, index, value):
    changed = tensor.clone()
    changed[index] = value
    return changed


NAN, INFINITY = float("nan"), float("inf")

# name of the argument, what is done to it, error, message
BAD = {
    "nan_position": (
        "positions", lambda v: with_value(v, (3, 1), NAN),
        NotFiniteError, r"`positions` must be finite, got nan at index \[3, 1\]",
    ),
    "infinite_position": (
        "positions", lambda v: with_value(v, (0, 2), -INFINITY),
        NotFiniteError, r"`positions` must be finite, got -inf at index \[0, 2\]",
    ),
    "flat_positions": (
        "positions", lambda v: v.flatten(),
        ValueError, r"`positions` must have shape \[n_atoms, 3\], got \[15\]",
    ),
    "planar_positions": (
        "positions", lambda v: v[:, :2],
        ValueError, r"`positions` must have shape \[n_atoms, 3\], got \[5, 2\]",
    ),
    "whole_positions": (
        "positions", lambda v: v.long(),
        TypeError, "`positions` must be float32 or float64, got torch.int64",
    ),
    "missing_charge": (
        "charges", lambda v: v[:4],
        ValueError, r"`charges` must have shape .* n_atoms = 5, got \[4\]",
    ),
    "cubic_charges": (
        "charges", lambda v: v.view(5, 1, 1),
        ValueError, r"`charges` must have shape .* got \[5, 1, 1\]",
    ),
    "no_channels": (
        "charges", lambda v: v.view(5, 1)[:, :0],
        ValueError, r"`charges` must have shape .* got \[5, 0\]",
    ),
    "nan_charge": (
        "charges", lambda v: with_value(v, 2, NAN),
        NotFiniteError, r"`charges` must be finite, got nan at index \[2\]",
    ),
    "double_charges": (
        "charges", lambda v: v.double(),
        TypeError,
        r"`charges` must have the dtype of `positions` \(torch.float32\), got torch.float64",
    ),
    "single_cell": (
        "cell", lambda v: v[0],
        ValueError, r"`cell` must have shape \[n_structures, 3, 3\], got \[3, 3\]",
    ),
    "stacked_cells": (
        "cell", lambda v: v.view(6, 3),
        ValueError, r"`cell` must have shape \[n_structures, 3, 3\], got \[6, 3\]",
    ),
    "double_cell": (
        "cell", lambda v: v.double(),
        TypeError, "`cell` must have the dtype of `positions`",
    ),
    "nan_cell": (
        "cell", lambda v: with_value(v, (1, 0, 2), NAN),
        NotFiniteError, r"`cell` must be finite, got nan at index \[1, 0, 2\]",
    ),
    "missing_cell": (
        "cell", lambda v: torch.zeros_like(v),
        ValueError, r"`cell` must span a volume where `pbc` is true, got .* for structure 1",
    ),
    "no_batch": (
        "batch", lambda _: None,
        ValueError, "`batch` must be given for several structures, got None",
    ),
    "short_batch": (
        "batch", lambda v: v[:4],
        ValueError, r"`batch` must have shape \[n_atoms\] = \[5\], got \[4\]",
    ),
    "float_batch": (
        "batch", lambda v: v.float(),
        TypeError, "`batch` must be of dtype torch.int64, got torch.float32",
    ),
    "far_position": (
        "positions", lambda v: with_value(v, (3, 1), -2e6),
        TooLargeError,
        r"`positions` must be within 1048576\.0? A .* float32 .* got -2000000\.0? at .* \[3, 1\]",
    ),
    "large_charge": (
        "charges", lambda v: with_value(v, 2, 1e20),
        TooLargeError,
        r"`charges` must be below 1000000\.0? e in size, got 1\.\d*e\+20 at index \[2\]",
    ),
    "shuffled_batch": (
        "batch", lambda _: torch.tensor([0, 1, 0, 1, 1]),
        ValueError, "`batch` must be in ascending order",
    ),
    "batch_beyond_the_cells": (
        "batch", lambda v: v + 1,
        ValueError, r"`batch` must lie in 0 ... n_structures - 1 = 1 .* got 1 ... 2",
    ),
    "negative_batch": (
        "batch", lambda v: v - 1,
        ValueError, r"`batch` must lie in .* got -1 ... 0",
    ),
    "pbc_of_one": (
        "pbc", lambda v: v[0],
        ValueError, r"`pbc` must have shape \[n_structures, 3\] = \[2, 3\], got \[3\]",
    ),
    "whole_pbc": (
        "pbc", lambda v: v.long(),
        TypeError, "`pbc` must be of dtype torch.bool, got torch.int64",
    ),
    "wire": (
        "pbc", lambda v: with_value(v, (0, 0), True),
        ValueError, r"got \[True, False, False\] for structure 0",
    ),
    "coinciding_atoms": (
        "positions", lambda v: with_value(v, 2, v[1]),
        ValueError, "`positions` must differ, got atoms 1 and 2 .* at the same place",
    ),
}  # fmt: skip


@pytest.mark.parametrize("through", ["Ewald", "none", "shift"])
@pytest.mark.parametrize("case", BAD)
def test_bad_arguments(arguments, case, through):
    name, change, error, message = BAD[case]
    assert torch.isfinite(Ewald()(**arguments)[0]).all()
    arguments[name] = change(arguments[name])
    module = Ewald()
    if through != "Ewald":
        module = Les(LESConfig(neutrality=through))
        arguments["latent_charges"] = arguments.pop("charges")
    if through == "shift":  # which looks at them first
        message = message.replace("`charges`", "`latent_charges`")
    with pytest.raises(error, match=message) as raised:
        module(**arguments)
    assert raised.type is error


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_in_torchscript(arguments, case):
    """A scripted model has no other guard: it refuses the same, in the same words."""
    name, change, error, message = BAD[case]
    if error is TypeError:  # TorchScript prints dtypes as numbers
        message = f"`{name}` must"
    scripted = torch.jit.script(Ewald())
    assert torch.isfinite(scripted(**arguments)[0]).all()
    arguments[name] = change(arguments[name])
    with pytest.raises(RuntimeError, match=message):
        scripted(**arguments)


NO_TENSORS = {
    "array": (lambda v: v.numpy(), TypeError, "must be a torch.Tensor, got numpy.ndarray"),
    "list": (lambda v: v.tolist(), TypeError, "must be a torch.Tensor, got list"),
    "sparse": (lambda v: v.to_sparse(), ValueError, "must be dense, got a tensor .*sparse_coo"),
}


@pytest.mark.cpu_only("arrays of NumPy")
@pytest.mark.parametrize("name", ["charges", "positions", "cell", "batch", "pbc"])
@pytest.mark.parametrize("kind", NO_TENSORS)
def test_what_is_no_tensor(arguments, name, kind):
    change, error, message = NO_TENSORS[kind]
    changed = {**arguments, name: change(arguments[name])}
    with pytest.raises(error, match=f"`{name}` {message}"):
        Ewald()(**changed)
    charges = changed.pop("charges")
    message = f"`{'latent_' if name == 'charges' else ''}{name}` {message}"
    with pytest.raises(error, match=message):
        Les()(latent_charges=charges, **changed)
    positions = changed["positions"]
    if name != "positions":
        positions = positions.requires_grad_()
    with pytest.raises(error, match=f"`{name}`"):
        born_effective_charges(charges, **{**changed, "positions": positions})


def test_values_are_needed(arguments):
    nowhere = {name: value.to("meta") for name, value in arguments.items()}
    with pytest.raises(ValueError, match=r"`positions` must have values, got .* device meta"):
        Ewald()(**nowhere)
    for name in ("charges", "positions"):
        with pytest.raises(TypeError, match=f"`{name}` must be a torch.Tensor, got NoneType"):
            Ewald()(**{**arguments, name: None})


def test_large_values_in_float64(arguments):
    """Places far away are a matter of digits."""
    double = {
        name: value.double() if value.is_floating_point() else value
        for name, value in arguments.items()
    }
    double["positions"][3, 1] = 1e12
    assert torch.isfinite(Ewald()(**double)[0]).all()
    double["positions"][3, 1] = 1e200
    with pytest.raises(TooLargeError, match=r"float64 .* got 1e\+200 at index \[3, 1\]"):
        Ewald()(**double)


@pytest.mark.parametrize("native", ["0", "1"])
@pytest.mark.parametrize("value", [NAN, INFINITY, -INFINITY])
@pytest.mark.parametrize(
    ("name", "index"), [("charges", 4), ("positions", (4, 2)), ("cell", (1, 2, 2))]
)
def test_any_bad_value(arguments, monkeypatch, native, name, index, value):
    """The last one, too, with kernels and without, among values of both signs."""
    monkeypatch.setenv("LES_NATIVE", native)
    arguments[name] = with_value(arguments[name], index, value)
    with pytest.raises(NotFiniteError, match=f"`{name}` must be finite, got {value}"):
        Ewald()(**arguments)


@pytest.mark.parametrize("kind", [torch.int32, torch.int16, torch.uint8])
def test_whole_numbers_of_any_size(arguments, kind):
    """As indices of structures."""
    expected = Ewald()(**arguments)[0]
    owner = arguments["batch"]
    arguments["batch"] = owner.to(kind)
    assert torch.equal(Ewald()(**arguments)[0], expected)
    torch.testing.assert_close(torch.jit.script(Ewald())(**arguments)[0], expected)
    charges, positions = arguments["charges"], arguments["positions"]
    found = dipole_moments(charges, positions, arguments["batch"], 2)
    assert torch.equal(found, dipole_moments(charges, positions, owner, 2))


@pytest.mark.parametrize("scripted", [False, True])
def test_without_a_cell(arguments, scripted):
    """Structures are open; as many as ``pbc`` has, or as there are atoms of."""
    les = torch.jit.script(Les()) if scripted else Les()
    positions, batch = arguments["positions"], arguments["batch"]
    options = {"latent_charges": arguments["charges"], "batch": batch}
    expected = les(positions, torch.zeros(2, 3, 3), **options)["E_lr"]
    assert torch.equal(les(positions, None, **options)["E_lr"], expected)
    more = les(positions, None, pbc=torch.zeros(3, 3, dtype=torch.bool), **options)["E_lr"]
    assert torch.equal(more, torch.cat([expected, torch.zeros(1)]))
    options = {"latent_charges": arguments["charges"]}
    one = les(positions, None, **options)["E_lr"]
    assert torch.equal(one, les(positions, torch.zeros(1, 3, 3), **options)["E_lr"])
    message = "`cell` must be given where `pbc` is true, got None"
    with pytest.raises((ValueError, torch.jit.Error), match=message):
        les(positions, None, pbc=arguments["pbc"], **options)


def test_born_effective_charges_without_a_cell(arguments):
    positions = arguments["positions"].requires_grad_()
    charges = torch.sin(positions).sum(1)
    found = born_effective_charges(charges, positions, batch=arguments["batch"])
    cells = torch.zeros(2, 3, 3)
    expected = born_effective_charges(charges, positions, cells, arguments["batch"])
    assert torch.equal(found, expected)


@pytest.mark.parametrize("index", [-1, 3])
def test_bad_component_of_the_polarisation(arguments, index):
    arguments["latent_charges"] = arguments.pop("charges")
    with pytest.raises(ValueError, match=f"`bec_output_index` must be 0, 1 or 2, got {index}"):
        Les()(**arguments, bec_output_index=index)


@pytest.mark.parametrize("name", ["charges", "cell", "batch", "pbc"])
def test_devices(arguments, device, name):
    """The meta device stands for any other."""
    arguments[name] = arguments[name].to("meta")
    message = f"`{name}` must be on the device of .*{device}.* got meta"
    with pytest.raises(ValueError, match=message):
        Ewald()(**arguments)


def test_coinciding_atoms_of_a_periodic_structure_are_no_problem(arguments):
    """The sum over k is smooth there; only open pairs would divide by zero."""
    arguments["positions"][4] = arguments["positions"][3]
    assert torch.isfinite(Ewald()(**arguments)[0]).all()


def test_charges_or_features(arguments):
    del arguments["charges"]
    with pytest.raises(ValueError, match="one of `latent_charges` and `desc` must be given"):
        Les()(**arguments)
    with pytest.raises(ValueError, match="`desc` needs a charge readout"):
        Les()(desc=torch.rand(5, 4), **arguments)


@pytest.mark.parametrize(
    ("name", "value"),
    list(itertools.product(("sigma", "dl", "norm_factor"), (0.0, -1.0, NAN, INFINITY))),
)
def test_bad_ewald_numbers(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be a positive number, got {value}"):
        Ewald(**{name: value})


@pytest.mark.parametrize("build", [Ewald, LESConfig, lambda **values: Les(values)])
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("dl", 1e300, r"`dl` must be between 0.001 and 1000 A, got 1e\+300"),
        ("dl", 1e-300, "`dl` must be between 0.001 and 1000 A, got 1e-300"),
        ("sigma", 1e200, r"`sigma` must be between 0.001 and 1000 A, got 1e\+200"),
        ("norm_factor", 1e99, r"`norm_factor` must be between .* eV A / e\^2, got 1e\+99"),
        ("sigma", "1", "`sigma` must be a positive number, got '1'"),
        ("dl", [2.0], r"`dl` must be a positive number, got \[2.0\]"),
        ("norm_factor", True, "`norm_factor` must be a positive number, got True"),
        ("remove_self_interaction", "no", "`remove_self_interaction` must be .* got 'no'"),
    ],
)
def test_numbers_out_of_range(build, name, value, message):
    with pytest.raises(ValueError, match=message):
        build(**{name: value})


@pytest.mark.parametrize(("sigma", "dl"), list(itertools.product((1e-3, 1.0, 1e3), repeat=2)))
def test_ends_of_the_ranges(sigma, dl):
    """What is not refused has a mesh."""
    ewald = Ewald(sigma, dl)
    assert 0.0 < ewald.spacing < dl / 2.0


@pytest.mark.parametrize("value", [-1.0, 0.0, NAN, "1"])
def test_bad_dielectric_constants(arguments, value):
    message = f"`epsilon_factor` must be a positive number, got {value!r}"
    with pytest.raises(ValueError, match=message):
        Les({"epsilon_factor": value})
    charges, positions, cell, batch, _ = arguments.values()
    with pytest.raises(ValueError, match=message):
        dipole_moments(charges, positions, batch, 2, epsilon_factor=value)
    positions.requires_grad_()
    with pytest.raises(ValueError, match=message):
        born_effective_charges(charges, positions, cell, batch, epsilon_factor=value)


@pytest.mark.parametrize(("name", "value"), [("method", "mesh?"), ("cutoff", "soft")])
def test_bad_ewald_choices(name, value):
    with pytest.raises(ValueError, match=rf"`{name}` must be one of \(.*\), got '.*'"):
        Ewald(**{name: value})


ATOMS = Atoms("OHH", [[0, 0, 0], [0, 0, 1.0], [0, 0.9, 0]])
CRYSTAL = Atoms("NaCl", [[0, 0, 0], [2.0, 2.0, 2.0]], cell=[4.0] * 3, pbc=True)


@pytest.mark.parametrize("atoms", [ATOMS, CRYSTAL, ATOMS[:1]])
def test_good_structures(atoms):
    check_atoms(atoms)


@pytest.mark.parametrize("method", ["direct", "mesh"])
def test_cells_beyond_all_numbers(method):
    arguments = torch.ones(2).double(), torch.rand(2, 3).double(), 1e160 * torch.eye(3).double()
    with pytest.raises(ValueError, match="`cell` is too large for"):
        Ewald(method=method)(*arguments[:2], arguments[2].unsqueeze(0))


@pytest.mark.parametrize("far", [1e7, 1e14])
@pytest.mark.parametrize("method", ["direct", "mesh", "scripted"])
def test_grids_that_no_memory_holds(method, far):
    """An atom that has left a slab, for instance."""
    ewald = torch.jit.script(Ewald()) if method == "scripted" else Ewald(method=method)
    positions = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, far]]).double()
    arguments = torch.ones(2).double(), positions, 10.0 * torch.eye(3).unsqueeze(0).double()
    pbc = torch.tensor([[True, True, False]])
    message = r"`cell` is too large for `dl` = 2\..* \[10\.0?, 10\.0?, .* may have left"
    if method == "mesh":
        message = r"`cell` is too large for a mesh with points 0\.4\d* A apart: .* may have left"
    with pytest.raises((ValueError, RuntimeError), match=message):
        ewald(*arguments, pbc=pbc)


def test_lower_precision_is_refused(device):
    arguments = torch.ones(2), torch.eye(3)[:2], torch.zeros(1, 3, 3)
    with (
        torch.autocast(device.type, dtype=torch.bfloat16),
        pytest.raises(RuntimeError, match=r"outside torch\.autocast"),
    ):
        Ewald()(*arguments)

    class OnDevice:
        """Stands for positions on a GPU."""

        device, dtype = torch.device("cuda"), torch.float32

    check_precision(OnDevice())
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    try:
        for setting, value in (("fp32_precision", "tf32"), ("allow_tf32", True)):
            setattr(matmul, setting, value)
            Ewald()(*[argument.cpu() for argument in arguments])
            with pytest.warns(UserWarning, match="three digits"):
                check_precision(OnDevice())
    finally:
        matmul.fp32_precision = before


def test_good_slabs():
    """The vector along the open axis is free; places along it differ however far apart."""
    for vector in (0, 4, 30):
        check_atoms(altered(CRYSTAL, pbc=[True, True, False], cell=[4, 4, vector]))
    apart = altered(CRYSTAL, pbc=[True, True, False], positions=[[0, 0, 0], [0, 0, 4.0]])
    check_atoms(apart)
    with pytest.raises(ValueError, match=r"pbc must have 0 or 3 axes true.*enough vacuum"):
        check_atoms(apart, (0, 3))
    check_atoms(altered(CRYSTAL, pbc=[True, False, False]), ANY_AXES)


def altered(atoms, **changes):
    """A copy with other attributes."""
    copy = atoms.copy()
    for name, value in changes.items():
        setattr(copy, name, value)
    return copy


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (Atoms(), "the structure must have atoms, got none"),
        (altered(ATOMS, positions=[[0, 0, 0], [0, np.nan, 1], [0, 1, 0]]), "finite, got .* atom 1"),
        (altered(CRYSTAL, cell=[4, np.inf, 4]), "the cell must be finite"),
        (altered(CRYSTAL, pbc=[True, False, False]), "pbc must have 0, 2 or 3 axes true, got"),
        (altered(CRYSTAL, pbc=[True, True, False], cell=[4, 0, 4]), "needs a cell, got"),
        (
            altered(CRYSTAL, pbc=[1, 1, 0], cell=[4, 4, 0], positions=[[0, 0, 0], [4, -4, 0]]),
            "atoms 0 and 1 are at the same",
        ),
        (altered(CRYSTAL, cell=[0, 0, 0]), "a periodic structure needs a cell, got"),
        (altered(ATOMS, positions=np.zeros((3, 3))), "atoms 0 and 1 are at the same place"),
        (altered(CRYSTAL, positions=[[0, 0, 0], [4.0, -8.0, 0]]), "atoms 0 and 1 are at the same"),
        (altered(CRYSTAL, positions=[[0, 0, -1e-9], [0, 0, 0]]), "atoms 0 and 1 are at the same"),
    ],
)  # fmt: skip
def test_bad_structures(atoms, message):
    with pytest.raises(ValueError, match=message):
        check_atoms(atoms)
