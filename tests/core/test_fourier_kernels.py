"""Transforms of meshes by compiled kernels against those of torch."""

from __future__ import annotations

import pytest
import torch

from les.sums.bases.fourier import analyse, synthesise
from les.sums.cpu.fourier import CompiledFourier
from les.sums.cpu.library import library

pytestmark = pytest.mark.cpu_only("kernels")

#: Mesh points with all factors, fewer and more rows than are done at a time, and how many
#: components are kept.
SHAPES = [((2, 4, 6), (0, 1, 2)), ((14, 30, 20), (6, 11, 7)), ((36, 2, 42), (17, 0, 20))]


@pytest.fixture(params=[torch.float32, torch.float64])
def fourier(request):
    compiled = library(torch.device("cpu"), request.param)
    if compiled is None:
        pytest.skip("no compiler")
    return CompiledFourier(compiled), request.param


def difference(found, expected):
    """Largest difference, in units of the largest number."""
    return float((found.to(expected.dtype) - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("work", [1, 2**40])
@pytest.mark.parametrize(("sizes", "extent"), SHAPES)
def test_transforms(fourier, sizes, extent, work, monkeypatch):
    """With several threads, and with one."""
    monkeypatch.setattr("les.sums.cpu.threads.WORK_OF_A_THREAD", work)
    compiled, dtype = fourier
    rounding = 4.0 * torch.finfo(dtype).eps
    generator = torch.Generator().manual_seed(0)
    mesh = torch.randn(3, *sizes, generator=generator, dtype=dtype)
    found = compiled.analyse(mesh, extent)
    assert found.dtype == dtype.to_complex()
    assert difference(found, analyse(mesh.double(), extent)) < rounding
    components = torch.randn(found.shape, generator=generator, dtype=found.dtype)
    for given in (components, components.conj()):
        back = compiled.synthesise(given, sizes)
        assert back.dtype == dtype
        expected = synthesise(given.to(torch.complex128), sizes)
        assert difference(back, expected) < rounding


def test_large_pages_hold_the_same(fourier, monkeypatch):
    """Memory is what it was, whether the system gives large pages or not."""
    compiled, dtype = fourier
    mesh = torch.randn(1, 8, 6, 4, generator=torch.Generator().manual_seed(0), dtype=dtype)
    expected = compiled.analyse(mesh, (3, 2, 1))
    monkeypatch.setattr("les.sums.cpu.memory.LARGE", 0)
    torch.testing.assert_close(compiled.analyse(mesh, (3, 2, 1)), expected, rtol=0.0, atol=0.0)
