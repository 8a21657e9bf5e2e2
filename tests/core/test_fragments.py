"""Fragments of a structure that keep their total charges."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from les import Ewald, Les, LESConfig, born_effective_charges
from les.conjugate_gradients import Convergence
from les.equilibration import equilibrate
from les.fragments import UNTOLD, fragments_of
from les.long_range import long_range
from les.response.arguments import BornSettings
from les.response.born import born_charges_of_model
from les.response.fragments import lattice_shifts
from les.structures import ChargeSums, Structures
from les.testing.derivatives import derivative

CELL = torch.tensor([[7.0, 0.3, -0.7], [1.1, 6.4, 0.3], [-1.4, 0.9, 7.1]]).double()
LABELS = torch.tensor([4, 4, 4, -1, -1, -1, 9, 9, 9])
#: Total charges of the fragments above, for each atom.
CHARGES = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, 1.0, -1.0, -1.0, -1.0]).double()
PBC = {"open": [False] * 3, "crystal": [True] * 3, "slab": [True, True, False]}


def molecules(n=3):
    """Positions of bent molecules of three atoms, each in one piece ``[3 n, 3]``."""
    generator = torch.Generator(device="cpu").manual_seed(1)
    shape = torch.tensor([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]]).double()
    centres = torch.tensor([[0.2, 0.1, 0.3], [3.3, 3.0, 2.0], [0.5, 3.9, 5.5]]).double()
    turns = torch.linalg.qr(torch.randn(3, 3, 3, generator=generator).double())[0]
    return torch.cat([centre + shape @ turn for centre, turn in zip(centres[:n], turns)])


def parameters_of(positions):
    """Electronegativities and hardnesses that follow the bonds of whole molecules."""
    oxygen, first, second = positions.view(-1, 3, 3).unbind(1)
    bonds = torch.stack([(first - oxygen).norm(dim=1), (second - oxygen).norm(dim=1)], dim=1)
    chi = torch.stack([10.0 * bonds.sum(1), -9.0 * bonds[:, 0], -9.0 * bonds[:, 1] ** 2], dim=1)
    eta = 6.0 + torch.stack([bonds[:, 0], bonds[:, 1], bonds.prod(1)], dim=1)
    return torch.stack([chi.reshape(-1), eta.reshape(-1)], dim=1)


def structure(kind="crystal"):
    positions = molecules()
    batch = torch.zeros(len(positions), dtype=torch.long)
    return Structures(positions, CELL[None], batch, torch.tensor([PBC[kind]]))


@pytest.mark.parametrize("kind", PBC)
def test_dense_solution(kind):
    """One Lagrange multiplier for each fragment."""
    structures = structure(kind)
    chi, eta = parameters_of(structures.positions).unbind(1)
    ewald = Ewald(remove_self_interaction=False)
    sums = ChargeSums(fragment=LABELS, fragment_charge=CHARGES)
    found = equilibrate(chi, eta, structures, ewald.settings(), sums)
    columns = [ewald(unit, *structures, True)[1] for unit in torch.eye(9).double()]
    members = np.array([[label == x for x in LABELS] for label in (-1, 4, 9)], dtype=float)
    interaction = torch.stack(columns).numpy() + np.diag(eta)
    matrix = np.block([[interaction, -members.T], [members, np.zeros((3, 3))]])
    q = np.linalg.solve(matrix, [*-chi, 1.0, 0.0, -1.0])[:9]
    np.testing.assert_allclose(found.charges, q, rtol=0, atol=1e-7)
    np.testing.assert_allclose(members @ found.charges.numpy(), [1.0, 0.0, -1.0], atol=1e-12)
    free = equilibrate(chi, eta, structures, ewald.settings())
    assert (free.charges - found.charges).abs().max() > 0.1


def test_a_batch_is_each_alone():
    """Labels mean something within a structure only."""
    positions, cell, *_ = structure()
    chi, eta = parameters_of(positions).unbind(1)
    settings = Ewald().settings()
    kinds = list(PBC)
    pbc = torch.tensor([PBC[kind] for kind in kinds])
    charges = torch.cat([0.0 * CHARGES, CHARGES, 2.0 * CHARGES])
    owner = torch.arange(3).repeat_interleave(9)
    structures = Structures(positions.repeat(3, 1), cell.repeat(3, 1, 1), owner, pbc)
    sums = ChargeSums(torch.zeros(3), LABELS.repeat(3), charges)
    together = equilibrate(chi.repeat(3), eta.repeat(3), structures, settings, sums)
    for place, one in enumerate(kinds):
        atoms = slice(9 * place, 9 * place + 9)
        own = ChargeSums(fragment=LABELS + 7, fragment_charge=charges[atoms])
        alone = equilibrate(chi, eta, structure(one), settings, own)
        torch.testing.assert_close(together.charges[atoms], alone.charges, rtol=0, atol=1e-12)
        assert together.iterations[place] == alone.iterations[0]


def test_labels_of_any_size():
    batch = torch.tensor([0, 0, 0, 1, 1, 1])
    labels = torch.tensor([2**63 - 1, -(2**63), 2**63 - 1, 2**63 - 1, 5, -(2**63)])
    found = fragments_of(labels, batch, 2)
    assert found.owner.tolist() == [1, 0, 1, 4, 3, 2]
    assert found.number == 5


def test_one_fragment_is_the_structure():
    structures, total = structure(), torch.tensor([1.0])
    arguments = (*parameters_of(structures.positions).unbind(1), structures, Ewald().settings())
    plain = equilibrate(*arguments, ChargeSums(total))
    same = equilibrate(*arguments, ChargeSums(total, 0 * LABELS, 0.0 * CHARGES + 1.0))
    torch.testing.assert_close(same.charges, plain.charges, rtol=0, atol=1e-13)


@pytest.mark.parametrize("kind", ["open", "crystal"])
def test_first_and_second_derivatives(kind):
    positions, cell, _, pbc = structure(kind)
    positions, labels = positions[:6], LABELS[:6]
    batch = torch.zeros(6, dtype=torch.long)
    chi, eta = parameters_of(positions).unbind(1)
    leaves = [value.clone().requires_grad_() for value in (chi, eta, positions)]

    def results(chi, eta, positions):
        structures, sums = Structures(positions, cell, batch, pbc), ChargeSums(fragment=labels)
        settings = Ewald(dl=3.0).settings()
        found = equilibrate(chi, eta, structures, settings, sums, Convergence(1e-13))
        return found.charges[:2], found.atom_energies[0], found.atom_energies.sum()

    assert torch.autograd.gradcheck(results, leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(results, leaves, fast_mode=True)


@pytest.mark.parametrize("epsilon", [1.0, 1.8])
@pytest.mark.parametrize("kind", ["crystal", "slab"])
def test_born_effective_charges_of_a_liquid(kind, epsilon):
    """Derivatives of the dipoles of whole molecules, wherever the cell is cut."""
    tight = {"equilibration_tolerance": 1e-11}  # finite differences divide by a small step
    les = Les(LESConfig(charge_equilibration=True, epsilon_factor=epsilon, **tight)).eval()
    whole, cell, _, pbc = structure(kind)
    images = torch.tensor([[0, 0, 0], [1, 0, 0], [-1, 2, 0], [0, 0, 0], [0, 1, 0]] * 2)[:9]
    shift = images.double() @ CELL
    options = {"pbc": pbc, "fragment": LABELS, "fragment_charge": CHARGES}

    def evaluated(r, **more):
        return les(r, cell, latent_charges=parameters_of(r - shift), **options, **more)

    cut = (whole + shift).requires_grad_()
    bec = evaluated(cut, compute_bec=True)["BEC"]
    torch.testing.assert_close(bec.sum(dim=0), torch.zeros(3, 3).double(), rtol=0, atol=1e-6)
    assert (bec[0].diagonal() < -0.1).all()
    for atom, axis in ((1, 0), (3, 2)):

        def dipole(amount, atom=atom, axis=axis):
            r = cut.detach().clone()
            r[atom, axis] += amount
            return (evaluated(r)["charges"] @ (r - shift)).detach().numpy()

        np.testing.assert_allclose(bec[atom, :, axis], derivative(dipole), rtol=0, atol=1e-6)
    one = evaluated(cut, compute_bec=True, bec_output_index=1)["BEC"]
    torch.testing.assert_close(one, bec[:, 1])


def test_born_effective_charges_of_a_supercell():
    """An atom alone that moves changes the polarisation by what one of all its images does."""
    les = Les(LESConfig(charge_equilibration=True, dl=1.5)).double().eval()
    found = []
    for repeats in (1, 2):
        shift = torch.arange(repeats).repeat_interleave(9)[:, None] * CELL[0]
        positions = (molecules().repeat(repeats, 1) + shift).requires_grad_()
        cell = (CELL * torch.tensor([repeats, 1.0, 1.0])[:, None])[None]
        labels = torch.arange(3 * repeats).repeat_interleave(3)
        out = les(
            positions, cell, latent_charges=parameters_of(positions), fragment=labels,
            fragment_charge=CHARGES.repeat(repeats), compute_bec=True,
        )  # fmt: skip
        found.append(out["BEC"][:9])
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-5)


def test_training_on_born_effective_charges():
    les = Les(LESConfig(charge_equilibration=True)).double().train()
    _, cell, _, pbc = structure()
    positions = molecules().requires_grad_()
    factor = torch.ones(1).double().requires_grad_()

    def loss(factor):
        parameters = parameters_of(positions) * torch.stack([factor[0], factor[0] ** 0])
        out = les(
            positions, cell, latent_charges=parameters, pbc=pbc, fragment=LABELS, compute_bec=True
        )
        return out["BEC"].square().sum()

    gradient = torch.autograd.grad(loss(factor), factor)[0]
    expected = derivative(lambda amount: loss(factor.detach() + amount).item())
    assert gradient.item() == pytest.approx(expected, rel=1e-5)


def test_born_effective_charges_far_from_the_origin():
    """Places of fragments make no difference, to what float32 has of them."""
    les = Les(LESConfig(charge_equilibration=True, epsilon_factor=1.8)).eval()
    exact, shift = molecules(), 2.0**17 * torch.tensor([1.0, -2.0, 1.0])

    def found(positions, move=0.0):
        positions = (positions.detach() + move).requires_grad_()
        parameters = parameters_of(positions - move)
        open_axes = torch.zeros(1, 3, dtype=torch.bool)
        options = {"pbc": open_axes, "fragment": LABELS, "compute_bec": True}
        return les(positions, None, latent_charges=parameters, **options)["BEC"]

    near = (exact.float() + shift - shift).detach()  # of the same digits
    torch.testing.assert_close(found(near, shift), found(near), rtol=0, atol=2e-5)


def test_charges_that_do_not_keep_the_sums_of_fragments():
    positions, cell, batch, pbc = structure()
    positions.requires_grad_()
    charges = parameters_of(positions)[:, 0] / 10.0
    with pytest.raises(ValueError, match="`charges` of each `fragment` must keep their sum"):
        born_effective_charges(charges, positions, cell, batch, pbc, fragment=LABELS)
    means = charges.view(3, 3).mean(dim=1).repeat_interleave(3)
    born_effective_charges(charges - means, positions, cell, batch, pbc, fragment=LABELS)


def test_fragments_are_put_together():
    """In a skewed cell, a chain that is longer than half of it."""
    from les.conjugate_gradients import Groups

    cell = torch.tensor([[5.5, 0.0, 0.0], [-3.0, 11.0, 0.0], [0.0, 0.0, 9.0]]).double()[None]
    chain = torch.tensor([[1.2 * i, 1.9 * i, 0.3 * (i % 2)] for i in range(5)]).double()
    wrapped = torch.remainder(chain @ torch.linalg.inv(cell[0]), 1.0) @ cell[0]
    owner, batch = torch.zeros(5, dtype=torch.long), torch.zeros(5, dtype=torch.long)
    pbc = torch.tensor([[True] * 3])
    shifts = lattice_shifts(Structures(wrapped, cell, batch, pbc), Groups(owner, 1))
    together = wrapped + shifts
    torch.testing.assert_close(together - together[0], chain - chain[0])


def test_a_molecule_with_one_long_bond_has_an_end():
    """Its own image is 3.0 A away, where its other bond is 1.1 A."""
    from les.conjugate_gradients import Groups

    places = torch.tensor([[0.0, 0.0, 0.0], [2.1, 0.0, 0.0], [3.2, 0.0, 0.0]]).double()
    cell = torch.diag(torch.tensor([6.2, 9.0, 9.0])).double()[None]
    owner, pbc = torch.zeros(3, dtype=torch.long), torch.tensor([[True] * 3])
    moved = places - torch.tensor([[0, 0, 0], [0, 9, 0], [0, 0, -9]])
    shifts = lattice_shifts(Structures(moved, cell, owner, pbc), Groups(owner, 1))
    torch.testing.assert_close(moved + shifts, places)
    shorter = cell - torch.tensor([0.8, 0.0, 0.0]).diag()
    with pytest.raises(ValueError, match="as close to its own image"):
        lattice_shifts(Structures(moved, shorter, owner, pbc), Groups(owner, 1))


def test_a_fragment_of_many_atoms():
    """A chain that winds through the cell, in memory that grows as its number of atoms."""
    from les.conjugate_gradients import Groups

    n = 400
    turn = 0.1 * torch.arange(n).double()
    chain = torch.stack([8.0 * turn.cos(), 8.0 * turn.sin(), 0.6 * turn], dim=1)
    cell = torch.tensor([[19.0, 0.0, 0.0], [2.0, 20.0, 0.0], [0.0, 1.0, 30.0]]).double()[None]
    wrapped = torch.remainder(chain @ torch.linalg.inv(cell[0]), 1.0) @ cell[0]
    owner, pbc = torch.zeros(n, dtype=torch.long), torch.tensor([[True] * 3])
    structures = Structures(wrapped, cell, owner, pbc)
    together = wrapped + lattice_shifts(structures, Groups(owner, 1))
    torch.testing.assert_close(together - together[0], chain - chain[0])


@pytest.mark.parametrize("n", [2, 3])
def test_what_has_no_end_has_no_born_effective_charges(n):
    """A polymer: its charges flow along it, whatever its atoms are called."""
    les = Les(LESConfig(charge_equilibration=True)).double()
    positions = torch.tensor([[1.5 * i, 0.0, 0.2 * (i % 2)] for i in range(n)]).double()
    positions.requires_grad_()
    cell = torch.diag(torch.tensor([1.5 * n, 9.0, 9.0])).double()[None]
    parameters = torch.tensor([[5.0, 8.0], [-5.0, 8.0], [1.0, 8.0]])[:n].double()
    with pytest.raises(ValueError, match=r"fragment of atom 0 is as close to its own image"):
        les(positions, cell, latent_charges=parameters, fragment=0 * LABELS[:n], compute_bec=True)
    alone = les(
        positions, cell, latent_charges=parameters, fragment=torch.arange(n), compute_bec=True
    )
    assert alone["BEC"].abs().max() == 0.0  # ions without charge, which cannot get one


def test_refusals():
    positions, cell, batch, pbc = structure()
    positions.requires_grad_()
    parameters = parameters_of(positions)
    les = Les(LESConfig(charge_equilibration=True)).double()

    def run(labels=LABELS, charges=CHARGES, total=None, **options):
        return les(
            positions, cell, latent_charges=parameters, pbc=pbc, total_charge=total,
            fragment=labels, fragment_charge=charges, **options,
        )  # fmt: skip

    with pytest.raises(TypeError, match=r"`fragment` must hold whole numbers, got torch\.float64"):
        run(LABELS.double())
    with pytest.raises(ValueError, match=r"`fragment` must have shape \[n_atoms\] = \[9\]"):
        run(LABELS[:5])
    with pytest.raises(TypeError, match=r"`fragment_charge` must be a .*Tensor"):
        run(charges=[0.0] * 9)
    with pytest.raises(ValueError, match=r"`fragment_charge` must have shape .* got \[2\]"):
        run(charges=CHARGES[:2])
    with pytest.raises(ValueError, match=r"`fragment_charge` must be finite, got nan"):
        run(charges=CHARGES * torch.nan)
    with pytest.raises(ValueError, match=r"`fragment_charge` must not require gradients"):
        run(charges=CHARGES.clone().requires_grad_())
    uneven = CHARGES.clone()
    uneven[4] = 0.5
    with pytest.raises(ValueError, match=r"one number for each fragment, got .* of atom"):
        run(charges=uneven)
    with pytest.raises(
        ValueError, match=r"fragments of structure 0 must sum to its total charge, 0 e, got 1 e"
    ):
        run(charges=CHARGES.clamp(min=0.0))
    with pytest.raises(ValueError, match=r"its total charge, 2 e, got 0 e"):
        run(charges=None, total=torch.tensor([2.0]).double())
    with pytest.raises(ValueError, match=r"`fragment_charge` needs `fragment`"):
        run(labels=None)
    with pytest.raises(ValueError, match=r"have no effect with `neutrality` 'none'"):
        Les(LESConfig(neutrality="none"))(
            positions, cell, latent_charges=parameters[:, 0], fragment=LABELS
        )
    structures, sums = Structures(positions, cell, batch, pbc), ChargeSums(fragment=LABELS)
    with pytest.raises(ValueError, match=r"have no effect with `neutrality` 'none'"):
        long_range(Ewald(), LESConfig(neutrality="none"), parameters[:, 0], structures, sums)
    shifted = Les(LESConfig(neutrality="shift"))
    with pytest.raises(
        ValueError, match=r"`fragment_charge` must be 0 for 2 channels of charges, got"
    ):
        shifted(
            positions,
            cell,
            latent_charges=parameters,
            fragment=LABELS,
            fragment_charge=CHARGES,
        )
    with pytest.raises(ValueError, match=r"`edges` have no effect with `fragment`"):
        born_effective_charges(
            CHARGES, positions, cell, batch, pbc, edges=object(), fragment=LABELS
        )
    for name, value in (("method", "phase"), ("total_charge", torch.zeros(1).double())):
        with pytest.raises(ValueError, match=f"`{name}` has no effect with `fragment`"):
            born_effective_charges(
                CHARGES, positions, cell, batch, pbc, fragment=LABELS, **{name: value}
            )
    with pytest.raises(ValueError, match=r"periodic: equilibrated charges flow"):
        run(labels=None, charges=None, compute_bec=True)


def test_charges_are_shifted_in_each_fragment():
    """Their sums are those of fragments, and Born effective charges those of whole molecules."""
    positions, cell, *_ = structure()
    positions.requires_grad_()
    les = Les(LESConfig(neutrality="shift", epsilon_factor=1.7))
    raw = parameters_of(positions)[:, 0]
    out = les(
        positions, cell, latent_charges=raw, fragment=LABELS, fragment_charge=CHARGES,
        compute_bec=True,
    )  # fmt: skip
    for label in LABELS.unique():
        found = out["charges"][label == LABELS].sum().item()
        assert found == pytest.approx(float(CHARGES[label == LABELS][0]), abs=1e-12)
    mean = torch.stack([raw[label == LABELS].mean() for label in LABELS])
    share = torch.stack([(label == LABELS).double().sum() for label in LABELS])
    expected = raw - mean + CHARGES / (share * 1.7**0.5)
    torch.testing.assert_close(out["latent_charges"], expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(out["E_lr"], les.ewald(expected, positions, cell)[0])
    total = out["BEC"].sum(0)
    torch.testing.assert_close(total, torch.zeros_like(total), rtol=0, atol=1e-9)


def test_born_effective_charges_of_a_batch():
    """Structures that tell fragments are as when they are alone; periodic others are refused."""
    positions, cell, *_ = structure()
    both = torch.cat([positions, positions]).requires_grad_()
    batch = torch.arange(2).repeat_interleave(9)
    labels = torch.cat([LABELS + 1, torch.full_like(LABELS, UNTOLD)])
    settings = BornSettings(True, 1.0, False)
    charges = parameters_of(both)[:, 0]
    sums = ChargeSums(None, labels)
    one = positions.clone().requires_grad_()
    alone = born_charges_of_model(
        parameters_of(one)[:, 0],
        Structures(one, cell, 0 * batch[:9], None),
        ChargeSums(None, LABELS),
        settings,
    )
    pbc = torch.tensor([[True] * 3, [False] * 3])
    structures = Structures(both, cell.repeat(2, 1, 1), batch, pbc)
    found = born_charges_of_model(charges, structures, sums, settings)
    torch.testing.assert_close(found[:9], alone)
    with pytest.raises(ValueError, match="structure 1 of a batch is periodic and tells no fragm"):
        born_charges_of_model(charges, structures._replace(pbc=None), sums, settings)


def test_messages_name_charges_as_they_are_given():
    positions, cell, *_ = structure()
    config = LESConfig(charge_equilibration=True, epsilon_factor=4.0)
    with pytest.raises(ValueError, match="its total charge, 0 e, got 1 e"):
        Les(config)(
            positions,
            cell,
            latent_charges=parameters_of(positions),
            fragment=LABELS,
            fragment_charge=CHARGES.clamp(min=0.0),
        )


def test_total_charges_beside_fragments_have_no_gradients():
    positions, cell, *_ = structure()
    total = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    with pytest.raises(ValueError, match="`total_charge` must not require gradients beside"):
        Les(LESConfig(neutrality="shift"))(
            positions, cell, latent_charges=CHARGES, fragment=LABELS, total_charge=total
        )
