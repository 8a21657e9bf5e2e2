"""Settings of the periodic sum: what accuracy asks for, what is refused, which method is taken."""

from __future__ import annotations

import math

import pytest
import torch

from les import Ewald, Les, LESConfig
from les.sums.crossover import NATIVE, TORCH, DirectCost, crossover
from les.sums.mesh import mesh_sum
from les.sums.method import Method
from les.sums.reciprocal.accuracy import (
    MESH_ACCURACY,
    Resolution,
    mesh_error,
    resolve,
)


def water_box(n=4):
    """Molecules of water at its density, displaced and turned at random."""
    generator = torch.Generator().manual_seed(0)
    places = 3.104 * torch.cartesian_prod(*[torch.arange(n)] * 3).double()
    places += 0.3 * torch.randn(n**3, 3, generator=generator).double()
    turns, _ = torch.linalg.qr(torch.randn(n**3, 3, 3, generator=generator).double())
    half = math.radians(104.5 / 2.0)
    molecule = [
        [0, 0, 0],
        [math.sin(half), 0, math.cos(half)],
        [-math.sin(half), 0, math.cos(half)],
    ]
    positions = places.unsqueeze(1) + 0.96 * torch.tensor(molecule).double() @ turns
    charges = torch.tensor([-0.8, 0.4, 0.4]).double().repeat(n**3)
    return charges, positions.flatten(0, 1), 3.104 * n * torch.eye(3).double().unsqueeze(0)


def rock_salt(n=3):
    """Thermally displaced ions of charge 1."""
    generator = torch.Generator().manual_seed(1)
    places = torch.cartesian_prod(*[torch.arange(2 * n)] * 3)
    charges = 1.0 - 2.0 * (places.sum(1) % 2).double()
    positions = 2.82 * places + 0.1 * torch.randn(places.shape, generator=generator).double()
    return charges, positions.double(), 5.64 * n * torch.eye(3).double().unsqueeze(0)


@pytest.fixture(params=["random", "water", "salt"])
def kind(request):
    return request.param


@pytest.fixture
def system(kind, random_box):
    """A box of some hundred atoms."""
    return {"random": random_box, "water": water_box, "salt": rock_salt}[kind]()


@pytest.mark.parametrize("accuracy", [1e-3, 1e-4, 1e-5, 1e-6])
def test_accuracy_is_kept_and_not_wasted(system, accuracy, forces, deviation):
    converged = forces(Ewald(dl=0.6, method="direct"), system)
    error = deviation(forces(Ewald(method="mesh", accuracy=accuracy), system), converged)
    assert accuracy / 22.0 < error < accuracy


def test_accuracy_with_a_sharp_cutoff(kind, system, forces, deviation):
    """A reflection of a crystal may be just outside of the sphere."""
    converged = forces(Ewald(dl=0.6, method="direct"), system)
    options = {"accuracy": 1e-4, "cutoff": "sharp"}
    error = deviation(forces(Ewald(method="mesh", **options), system), converged)
    assert error < (2e-4 if kind == "salt" else 1e-4)


@pytest.mark.parametrize("dl", [2.0, 1.5])
def test_mesh_without_accuracy_is_the_direct_sum(system, dl, cutoff, forces, deviation):
    mesh, direct = (Ewald(dl=dl, cutoff=cutoff, method=m) for m in ("mesh", "direct"))
    assert mesh.dl == dl
    assert deviation(forces(mesh, system), forces(direct, system)) < MESH_ACCURACY
    assert deviation(mesh(*system)[0], direct(*system)[0]) < MESH_ACCURACY


def test_settings_scale_with_sigma():
    one, two = resolve(1.0, accuracy=1e-4), resolve(2.0, accuracy=1e-4)
    assert two.dl == pytest.approx(2.0 * one.dl)
    # The orders differ, the errors do not.
    errors = [
        mesh_error(sigma, found.dl, True, found.spacing, found.order)
        for sigma, found in ((1.0, one), (2.0, two))
    ]
    assert errors[0] == pytest.approx(errors[1], rel=1e-2)
    assert resolve(1.0, accuracy=1e-5).dl < one.dl


def test_given_dl_is_kept_where_it_is_fine_enough():
    assert resolve(1.0, 1.1, accuracy=1e-4).dl == 1.1
    with pytest.raises(ValueError, match=r"`dl` must be at most 1\.\d+ A for `accuracy` = 0.0001"):
        resolve(1.0, 1.4, accuracy=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spacing": 0.5, "order": 3}, r"`order` must be one of \(4, 5, 6, 7, 8\), got 3"),
        ({"spacing": 0.5, "order": 9}, "`order` must be one of"),
        ({"spacing": 0.5, "order": True}, "`order` must be one of"),
        ({"spacing": 0.0, "order": 6}, "`spacing` must be positive and finite, got 0.0"),
        ({"spacing": math.nan, "order": 6}, "`spacing` must be positive"),
        ({"spacing": "fine", "order": 6}, "`spacing` must be positive"),
        ({"spacing": 1.0, "order": 6}, "`spacing` must be below dl / 2 = 1 A"),
        ({"spacing": 0.5}, "`spacing` and `order` must be given together, got"),
        ({"order": 6}, "`spacing` and `order` must be given together, got"),
        ({"accuracy": 0.0}, "`accuracy` must be a number between 1e-09 and 0.1, got 0.0"),
        ({"accuracy": "high"}, "`accuracy` must be a number between"),
        (
            {"accuracy": 1e-4, "spacing": 0.5, "order": 6},
            "must be left out with `accuracy`, from which",
        ),
        ({"method": "wave"}, "`method` must be one of .*'mesh'.*, got 'wave'"),
    ],
)
def test_bad_settings(options, message):
    for kind in (Ewald, LESConfig):
        with pytest.raises(ValueError, match=message):
            kind(**options)


def set_costs(monkeypatch, of_pairs):
    """Of the direct sum, on all devices."""
    for name in ("NATIVE", "TORCH", "CUDA"):
        monkeypatch.setattr(f"les.sums.crossover.{name}", DirectCost(of_pairs, 0.0))


def test_auto_takes_what_is_faster(monkeypatch, make_system, join, deviation):
    """By the number of atoms alone, so that a simulation has one method all along."""
    used = []

    def record(part, *arguments):
        used.append(len(part.system.charges))
        return mesh_sum(part, *arguments)

    monkeypatch.setattr("les.sums.plan.MESH", Method(True, record))
    set_costs(monkeypatch, 700.0)
    ewald = Ewald()
    resolution = Resolution(ewald.dl, ewald.spacing, ewald.order)
    least = crossover(resolution, cuda=False, compiled=True)
    assert 3 < least < 30
    for kind, size in (("cubic", least - 1), ("open", least)):
        ewald(*make_system(kind, size))
    assert used == []
    ewald(*make_system("triclinic", least))
    assert used == [least]
    sizes = [("cubic", least - 1), ("open", least), ("rotated", least + 1), ("cubic", least)]
    systems = [make_system(kind, size, seed=i) for i, (kind, size) in enumerate(sizes)]
    energy, potential = ewald(*join(systems), compute_potential=True)
    assert used == [least, 2 * least + 1]
    expected, expected_potential = Ewald(method="direct")(*join(systems), compute_potential=True)
    assert deviation(energy, expected) < MESH_ACCURACY
    assert deviation(potential, expected_potential) < MESH_ACCURACY


def test_crossover():
    """Where both take the same time by the cost model; the numbers are in the docs."""
    for native, cost in ((True, NATIVE), (False, TORCH)):
        for accuracy in (None, 1e-3, 1e-4, 1e-6):
            resolution = resolve(1.0, accuracy=accuracy)
            least = crossover(resolution, cuda=False, compiled=native)
            for n, faster in ((least - 1, False), (least, True)):
                direct = cost.of_pairs * n**2 / resolution.dl**3
                assert (direct >= resolution.work() * n + cost.start) is faster
    assert crossover(resolve(1.0), cuda=False, compiled=True) == 2347
    assert crossover(resolve(1.0, accuracy=1e-4), cuda=False, compiled=True) == 519


def test_torchscript_has_the_mesh(monkeypatch, make_system):
    """As all methods, and ``auto``."""
    system = make_system(n_atoms=20)
    for method in ("mesh", "auto"):
        set_costs(monkeypatch, 1e-9)
        scripted, _ = torch.jit.script(Ewald(method=method))(*system)
        expected, _ = Ewald(method=method)(*system)
        direct, _ = Ewald(method="direct")(*system)
        torch.testing.assert_close(scripted, expected, rtol=1e-13, atol=0.0)
        assert (scripted != direct).all() == (method == "mesh")


def test_settings_travel():
    config = LESConfig(method="mesh", accuracy=1e-4)
    host, other = Les(config), Les()
    other.load_state_dict(host.state_dict())
    assert other.config() == config
    assert repr(other.ewald) == repr(host.ewald)
    # What accuracy means may change; what a model was trained with may not.
    assert (config.accuracy, config.dl) == (None, other.ewald.dl)
    assert config.dl == pytest.approx(1.192, abs=1e-3)
    explicit = Les(LESConfig(spacing=0.7, order=5)).ewald
    assert (explicit.spacing, explicit.order) == (0.7, 5)


def test_pickles_without_a_mesh():
    ewald = Ewald(sigma=1.2, cutoff="sharp")
    state = {k: v for k, v in ewald.__dict__.items() if k not in ("spacing", "order")}
    old = Ewald.__new__(Ewald)
    old.__setstate__(state)
    assert repr(old) == repr(ewald)


@pytest.mark.parametrize("accuracy", [None, 1e-1])
def test_resolution_is_accepted_again(accuracy):
    """Whatever rounding does to it: it is what a model keeps."""
    for sigma in (0.9, 1.2, 1.3, 1.35, 1.4, 1.95):
        for dl in (0.7, 0.8, 1.5):
            dl_, spacing, order = resolve(sigma, dl, True, accuracy)
            assert resolve(sigma, dl_, True, None, spacing, order) == (dl_, spacing, order)
