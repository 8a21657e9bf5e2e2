"""Tutorials with models of MACE and CACE: this environment has what both need, and LAMMPS."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "pages",
    [
        ("train-and-compare", "charges-and-dipoles", "dynamics-in-ase", "slab"),
        ("phonons", "lammps-on-two-ranks"),
        ("infrared-of-water", "distillation"),
    ],
    ids=lambda pages: pages[0],
)
def test_pages(pages, run_tutorials):
    """Each goes on where the one before it has ended."""
    run_tutorials(*pages)
