"""Tutorials with models of CACE: an environment with MACE has all that it needs, and LAMMPS."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "pages",
    [
        ("train-and-compare", "charges-and-dipoles", "dynamics-in-ase", "slab"),
        ("phonons", "lammps-on-two-ranks"),
    ],
    ids=lambda pages: pages[0],
)
def test_pages(pages, run_tutorials):
    """Each goes on where the one before it has ended."""
    run_tutorials(*pages)
