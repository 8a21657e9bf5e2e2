"""Compiled models give what eager ones give: energies, derivatives, training, errors."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from les import Ewald, Les, LESConfig
from les.sums.plan import crossovers, engine_for

pytestmark = pytest.mark.skipif(
    not hasattr(torch._dynamo.config, "trace_autograd_ops"),
    reason="this torch cannot compile torch.autograd.grad",
)

SLAB, BULK, OPEN = [True, True, False], [True] * 3, [False] * 3
#: Kinds of structures, their periodic axes, number of channels.
CASES = {
    "one": (["triclinic"], None, None),
    "periodic": (["triclinic", "left_handed", "cubic"], None, None),
    "open": (["open", "open"], None, None),
    "slab": (["triclinic", "cubic"], [SLAB, SLAB], None),
    "mixed": (["triclinic", "open", "cubic"], [BULK, OPEN, SLAB], None),
    "channels": (["cubic", "open"], None, 2),
}
RUNS = [*((case, "direct") for case in CASES), ("mixed", "mesh")]


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()
    with torch._dynamo.config.patch(trace_autograd_ops=True):
        yield


@pytest.fixture
def make_arguments(make_system, join):
    """Makes arguments of ``Ewald.forward``; several structures are of several sizes."""

    def make(case, dtype=torch.float64, n_atoms=7):
        kinds, pbc, channels = CASES[case]
        systems = [
            make_system(kind, n_atoms + 2 * i, dtype, channels, total=0.2, seed=n_atoms + i)
            for i, kind in enumerate(kinds)
        ]
        charges, positions, cell, batch = join(systems)
        pbc = None if pbc is None else torch.tensor(pbc)
        return charges, positions, cell, None if case == "one" else batch, pbc

    return make


def compiled(function, backend="aot_eager", dynamic=True):
    return torch.compile(function, fullgraph=True, backend=backend, dynamic=dynamic)


def assert_same(actual, expected, tolerance=1e-10):
    for value, target in zip(actual, expected, strict=True):
        assert value.dtype == target.dtype
        scale = max(1.0, target.abs().max().item())
        torch.testing.assert_close(value, target, rtol=0.0, atol=tolerance * scale)


def with_gradients(function, arguments):
    """Energies, potentials and gradients of something that is not linear in both."""
    leaves = [value.clone().requires_grad_() for value in arguments[:3]]
    energy, potential = function(*leaves, *arguments[3:], True)
    loss = energy.square().sum() + potential.pow(3).sum()
    gradients = torch.autograd.grad(loss, leaves, materialize_grads=True)
    return energy.detach(), potential.detach(), *gradients


class Model(nn.Module):
    """Charges that depend on the environment; forces and stress as a host computes them."""

    def __init__(self, ewald, dtype=torch.float64):
        super().__init__()
        self.ewald = ewald
        self.weight = nn.Parameter(torch.tensor([0.3, -0.2, 0.5], dtype=dtype))

    def forward(self, charges, positions, cell, batch, pbc, strain):
        deformation = torch.eye(3, dtype=cell.dtype) + strain
        cell = cell @ deformation
        owner = 0 if batch is None else batch
        positions = (positions.unsqueeze(1) @ deformation[owner]).squeeze(1)
        factor = 1.0 + torch.sin(positions) @ self.weight
        charges = charges * (factor if charges.dim() == 1 else factor.unsqueeze(1))
        return self.ewald(charges, positions, cell, batch, pbc)[0]


def with_forces(model):
    def evaluate(charges, positions, cell, batch, pbc, strain):
        energy = model(charges, positions, cell, batch, pbc, strain)
        forces, stress = torch.autograd.grad(energy.sum(), [positions, strain], create_graph=True)
        return energy, forces, stress

    return evaluate


def train(model, evaluate, arguments):
    """What is trained on, and the gradient of a loss."""
    charges, positions, cell, batch, pbc = arguments
    strain = torch.zeros_like(cell).requires_grad_()
    positions = positions.clone().requires_grad_()
    out = evaluate(charges, positions, cell, batch, pbc, strain)
    model.zero_grad()
    sum(value.square().sum() for value in out).backward()
    return *(value.detach() for value in out), model.weight.grad, positions.grad


# --- the same as eager


@pytest.mark.parametrize(("case", "method"), RUNS)
def test_forward_and_backward(make_arguments, case, method):
    ewald = Ewald(0.9, 2.2, method, remove_self_interaction=case != "mixed")
    arguments = make_arguments(case)
    expected = with_gradients(ewald, arguments)
    assert_same(with_gradients(compiled(ewald), arguments), expected)
    assert expected[3].abs().max() > 1e-2


@pytest.mark.parametrize(("case", "method"), RUNS)
def test_training_on_forces_and_stress(make_arguments, case, method):
    model = Model(Ewald(0.9, 2.2, method))
    evaluate = with_forces(model)
    arguments = make_arguments(case)
    expected = train(model, evaluate, arguments)
    assert_same(train(model, compiled(evaluate), arguments), expected)
    assert min(value.abs().max() for value in expected) > 1e-3


@pytest.mark.parametrize(
    ("dtype", "tolerance", "cutoff"),
    [(torch.float32, 1e-4, "smooth"), (torch.float64, 1e-10, "sharp")],
)
def test_settings_and_float32(make_arguments, dtype, tolerance, cutoff):
    """All settings reach the operator; ``auto`` takes the mesh for some of these structures."""
    options = {"norm_factor": 70.0, "remove_self_interaction": False, "cutoff": cutoff}
    ewald = Ewald(1.1, 1.7, spacing=0.5, order=5, **options)
    model = Model(ewald, dtype)
    evaluate = with_forces(model)
    in_kernels = engine_for(torch.empty(0).device, dtype).compiled
    n_atoms = crossovers(ewald.settings(), in_kernels, False)[0] - 1
    arguments = make_arguments("periodic", dtype, n_atoms=n_atoms)
    expected = train(model, evaluate, arguments)
    assert_same(train(model, compiled(evaluate), arguments), expected, tolerance)


def test_whole_step_inside(make_arguments):
    """With positions that become a leaf inside, and the loss; what is returned is detached."""
    model = Model(Ewald(dl=2.2))

    def step(charges, positions, cell, batch, pbc):
        positions = positions.detach().requires_grad_()
        strain = torch.zeros_like(cell).requires_grad_()
        out = with_forces(model)(charges, positions, cell, batch, pbc, strain)
        loss = sum(value.square().sum() for value in out)
        return loss.detach(), torch.autograd.grad(loss, model.weight)[0]

    arguments = make_arguments("mixed")
    assert_same(compiled(step)(*arguments), step(*arguments))


def test_les(make_arguments):
    """Readout, energies of atoms, and energies that are trained on."""
    les = Les(LESConfig(use_atomwise=True, n_features=3, dl=2.2)).double()

    def evaluate(positions, cell, batch, pbc):
        features = torch.sin(positions)
        out = les(positions, cell, desc=features, batch=batch, pbc=pbc, compute_atom_energies=True)
        assert out["BEC"] is None
        return out["E_lr"], out["E_lr_atoms"], out["latent_charges"]

    def gradients(function, positions, *others):
        out = function(positions.clone().requires_grad_(), *others)
        parameters = list(les.parameters())
        found = torch.autograd.grad(sum(value.square().sum() for value in out), parameters)
        return *(value.detach() for value in out), *found

    arguments = make_arguments("mixed")[1:]
    assert_same(gradients(compiled(evaluate), *arguments), gradients(evaluate, *arguments))


def test_born_effective_charges(make_arguments):
    """Trained on."""
    les = Les(LESConfig(dl=2.2))
    weight = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)

    def evaluate(charges, positions, cell, batch, pbc):
        charges = charges * (1.0 + weight * torch.sin(positions[:, 0]))
        out = les(positions, cell, latent_charges=charges, batch=batch, pbc=pbc, compute_bec=True)
        return out["E_lr"], out["BEC"]

    def gradients(function, charges, positions, *others):
        out = function(charges, positions.clone().requires_grad_(), *others)
        found = torch.autograd.grad(sum(value.square().sum() for value in out), weight)
        return *(value.detach() for value in out), *found

    arguments = make_arguments("mixed")
    assert_same(gradients(compiled(evaluate), *arguments), gradients(evaluate, *arguments))


def test_without_derivatives(make_arguments):
    """Without gradients, in inference mode, and without atoms."""
    ewald = Ewald(dl=2.2)
    function = compiled(lambda *arguments: ewald(*arguments, compute_potential=True))
    arguments = make_arguments("mixed")
    expected = ewald(*arguments, compute_potential=True)
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            assert_same(function(*[value.clone() for value in arguments]), expected)
    nothing = [arguments[0][:0], arguments[1][:0], arguments[2], arguments[3][:0], arguments[4]]
    energy, potential, *gradients = with_gradients(compiled(ewald), nothing)
    assert energy.tolist() == [0.0] * 3
    assert len(potential) == 0
    assert not gradients[2].any()


def test_without_cells(make_arguments):
    """Open structures: as many as ``pbc`` has; and indices of another size."""
    charges, positions, cell, batch, _ = make_arguments("open")
    pbc = torch.zeros(len(cell), 3, dtype=torch.bool)
    ewald = Ewald(dl=2.2)
    expected = ewald(charges, positions, cell, batch)[0]
    found = compiled(ewald)(charges, positions, None, batch.to(torch.int32), pbc)[0]
    assert_same([found], [expected])
    with pytest.raises(ValueError, match="`cell` must span a volume where `pbc` is true"):
        compiled(ewald)(charges, positions, None, batch, ~pbc)
    message = "`cell` or `pbc` must be given with `batch` in compiled code"
    with pytest.raises(torch._dynamo.exc.Unsupported, match=message):
        compiled(ewald)(charges, positions, None, batch)


def test_none_where_no_potential_is_asked_for(make_arguments):
    assert compiled(Ewald(dl=2.2))(*make_arguments("mixed"))[1] is None


# --- one graph for all structures


def test_one_graph_for_all_sizes(make_arguments):
    model = Model(Ewald(dl=2.2))
    evaluate = with_forces(model)
    function = compiled(evaluate)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for n_atoms in range(3, 13):
            arguments = make_arguments("mixed", n_atoms=n_atoms)
            assert_same(train(model, function, arguments), train(model, evaluate, arguments))


def test_sizes_are_found_to_vary(make_arguments):
    """Without ``dynamic=True`` there are two graphs: of the first size, and of all others."""
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    function = compiled(Ewald(dl=2.2), counter, dynamic=None)
    for n_atoms in range(3, 13):
        with_gradients(function, make_arguments("mixed", n_atoms=n_atoms))
    assert counter.frame_count == 2


# --- derivatives outside of the compiled function


def test_second_derivatives_outside(make_arguments):
    """The operators have them. AOTAutograd refuses them: no wrong numbers."""
    ewald = Ewald(dl=2.2)
    charges, positions, *others = make_arguments("mixed")

    def second(function):
        leaf = positions.clone().requires_grad_()
        energy = function(charges, leaf, *others)[0].sum()
        forces = torch.autograd.grad(energy, leaf, create_graph=True)[0]
        return forces.detach(), torch.autograd.grad(forces.square().sum(), leaf)[0]

    assert_same(second(compiled(ewald, "eager")), second(ewald))
    torch._dynamo.reset()
    with pytest.raises(RuntimeError, match=r"create_graph=False|double backward"):
        second(compiled(ewald, "aot_eager"))


@pytest.mark.parametrize("way", ["by_operator", "forward"])
def test_third_derivatives_are_refused(make_arguments, way):
    charges, positions, cell, *others = make_arguments("periodic")
    positions.requires_grad_()
    value = getattr(Ewald(dl=2.2), way)(charges, positions, cell, *others, False)[0].sum()
    for _ in range(2):
        gradient = torch.autograd.grad(value, positions, create_graph=True)[0]
        value = gradient.square().sum()
    with pytest.raises(RuntimeError, match="third derivatives of the compiled sum"):
        make_fx(lambda: torch.autograd.grad(value, positions)[0], tracing_mode="real")()


@pytest.mark.parametrize("case", ["one", "mixed", "open"])
def test_third_and_fourth_derivatives(make_arguments, case):
    """Of the operator, where nothing is traced; charges depend on positions."""
    ewald, found = Ewald(dl=2.2), []
    *leaves, batch, pbc = make_arguments(case)
    leaves = [value.requires_grad_() for value in leaves]
    for evaluate in (ewald, ewald.by_operator):
        charges = leaves[0] * torch.cos(leaves[1][:, 0])
        value = evaluate(charges, *leaves[1:], batch, pbc, True)
        value = value[0].square().sum() + value[1].pow(3).sum()
        for _ in range(3):
            options = {"create_graph": True, "materialize_grads": True}
            gradients = torch.autograd.grad(value, leaves, **options)
            found += gradients
            value = sum(gradient.square().sum() for gradient in gradients)
    half = len(found) // 2
    assert_same(found[half:], found[:half], 1e-9)


@pytest.mark.parametrize("case", ["one", "mixed"])
def test_operators_keep_the_rules(make_arguments, case):
    """Of torch: schema, shapes without data, derivatives, tracing."""
    ewald = Ewald(dl=2.2)
    settings = ewald.settings()
    charges, positions, cell, batch, pbc = make_arguments(case)
    for wanted in ([True, True, True], [False, True, False]):
        leaves = [
            value.clone().requires_grad_(flag)
            for value, flag in zip((charges, positions, cell), wanted, strict=True)
        ]
        arguments = (*leaves, batch, pbc, *settings, wanted)
        torch.library.opcheck(torch.ops.les.ewald_sum, arguments)
    gradients = [None, torch.ones_like(positions), None]
    arguments = (*gradients, charges, positions, cell, batch, pbc, *settings, [True] * 3)
    torch.library.opcheck(torch.ops.les.ewald_product, arguments)


# --- errors


def broken(name, charges, positions, cell, batch, pbc):
    """Arguments that eager refuses."""
    if name == "nan":
        positions = positions.clone()
        positions[3, 1] = float("nan")
    elif name == "order":
        batch = batch.flip(0)
    elif name == "short batch":
        batch = batch[:4]
    elif name == "batch dtype":
        batch = batch.to(torch.float64)
    elif name == "no batch":
        batch = None
    elif name == "charges":
        charges = charges[:-1]
    elif name == "charges dtype":
        charges = charges.float()
    elif name == "cell":
        cell = cell[0, 0, 0]
    elif name == "wire":
        pbc = pbc & torch.tensor([True, False, False])
    elif name == "no volume":
        cell = torch.zeros_like(cell)
    elif name == "same place":
        positions, pbc = torch.zeros_like(positions), torch.zeros_like(pbc)
    return charges, positions, cell, batch, pbc


@pytest.mark.parametrize(
    "name",
    [
        "nan", "order", "short batch", "batch dtype", "no batch", "charges", "charges dtype",
        "cell", "wire", "no volume", "same place",
    ],
)  # fmt: skip
def test_errors_are_those_of_eager(make_arguments, name):
    ewald = Ewald(dl=2.2)
    charges, positions, *others = broken(name, *make_arguments("mixed"))
    positions.requires_grad_()
    with pytest.raises((ValueError, TypeError)) as expected:
        ewald(charges, positions, *others)
    with pytest.raises(expected.type) as found:
        compiled(ewald)(charges, positions, *others)
    assert str(expected.value) in str(found.value)


# --- compilers that make code

needs_compiler = pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++")), reason="needs a C++ compiler"
)


@needs_compiler
def test_inductor(make_arguments):
    ewald = Ewald(dl=2.2)
    weight = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)

    def evaluate(charges, positions, *others):
        charges = charges * (1.0 + weight * torch.sin(positions[:, 0]))
        energy = ewald(charges, positions, *others)[0].sum()
        return energy, torch.autograd.grad(energy, positions, create_graph=True)[0]

    def gradients(function, charges, positions, *others):
        leaf = positions.clone().requires_grad_()
        energy, forces = function(charges, leaf, *others)
        return forces.detach(), *torch.autograd.grad(forces.square().sum() + energy, [leaf, weight])

    function = compiled(evaluate, "inductor")
    with torch._dynamo.config.patch(error_on_recompile=True):
        for n_atoms in (5, 8):
            arguments = make_arguments("mixed", n_atoms=n_atoms)
            assert_same(gradients(function, *arguments), gradients(evaluate, *arguments))
