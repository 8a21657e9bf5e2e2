"""What is added to charges and polarisabilities of atoms for their elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from les.moment_readout import ALPHA_UNIT

if TYPE_CHECKING:
    from les.config import LESConfig

#: Usual oxidation states, by atomic number, as published LES has them. Charges that are read off
#: features are differences from these, times a factor.
# fmt: off
OXIDATION_STATES = (
    0,
    1, 0,
    1, 2, 3, 4, -3, -2, -1, 0,
    1, 2, 3, 4, 5, -2, -1, 0,
    1, 2, 3, 4, 5, 3, 2, 2, 2, 2, 1, 2, 3, 4, 5, -2, -1, 0,
    1, 2, 3, 4, 5, 6, 7, 3, 3, 2, 1, 2, 3, 2, 3, -2, -1, 0,
    1, 2, *(3,) * 6, 2, *(3,) * 6, 2, 3, 4, 5, 6, 7, 4, 3, 2, 1, 2, 1, 2, 3, 2, -1, 0,
    1, 2, 3, 4, 5, 6, 5, 4, *(3,) * 7, 2, 3, 4, 5, 6, 7, 4, 3, 2, 1, 2, 3, 2, 3, 2, -1, 0,
)
# fmt: on

#: Rows of tables of elements, by atomic number.
N_ATOMIC_NUMBERS = len(OXIDATION_STATES)

# fmt: off
#: Chemical symbols, by atomic number.
SYMBOLS = [
    "X", "H", "He", "Li", "Be", "B", "C", "N", "O", "F", "Ne", "Na", "Mg", "Al", "Si", "P", "S",
    "Cl", "Ar", "K", "Ca", "Sc", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Ga",
    "Ge", "As", "Se", "Br", "Kr", "Rb", "Sr", "Y", "Zr", "Nb", "Mo", "Tc", "Ru", "Rh", "Pd",
    "Ag", "Cd", "In", "Sn", "Sb", "Te", "I", "Xe", "Cs", "Ba", "La", "Ce", "Pr", "Nd", "Pm",
    "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Er", "Tm", "Yb", "Lu", "Hf", "Ta", "W", "Re", "Os",
    "Ir", "Pt", "Au", "Hg", "Tl", "Pb", "Bi", "Po", "At", "Rn", "Fr", "Ra", "Ac", "Th", "Pa",
    "U", "Np", "Pu", "Am", "Cm", "Bk", "Cf", "Es", "Fm", "Md", "No", "Lr", "Rf", "Db", "Sg",
    "Bh", "Hs", "Mt", "Ds", "Rg", "Cn", "Nh", "Fl", "Mc", "Lv", "Ts", "Og",
]
# fmt: on


def check_atomic_numbers(
    atomic_numbers: Tensor,
    positions: Tensor,
    values: bool = True,
    n_elements: int = N_ATOMIC_NUMBERS,
) -> None:
    """``atomic_numbers`` must be whole numbers ``[n_atoms]`` from 0 to ``n_elements - 1``.

    Args:
        atomic_numbers: what is checked.
        positions: ``[n_atoms, 3]``.
        values: whether there are values to look at; not in compiled code.
        n_elements: length of the tables, in which they are rows.

    Raises:
        ValueError: for another shape, another device, and numbers out of range.
        TypeError: for another dtype.
    """
    if atomic_numbers.dim() != 1 or atomic_numbers.shape[0] != positions.shape[0]:
        raise ValueError(
            f"`atomic_numbers` must have shape [n_atoms] = [{positions.shape[0]}], got "
            f"{list(atomic_numbers.shape)}"
        )
    if atomic_numbers.dtype != torch.long:
        raise TypeError(
            f"`atomic_numbers` must be of dtype torch.int64, got {atomic_numbers.dtype}"
        )
    if atomic_numbers.device != positions.device:
        raise ValueError(
            f"`atomic_numbers` must be on the device of `positions` ({positions.device}), got "
            f"{atomic_numbers.device}"
        )
    if atomic_numbers.numel() == 0 or not values:
        return
    first, last = int(atomic_numbers.min()), int(atomic_numbers.max())
    if first < 0 or last >= n_elements:
        raise ValueError(
            f"`atomic_numbers` must lie in 0 ... {n_elements - 1}, got {first} ... {last}"
        )


class OxidationStates(nn.Module):
    """Charges of elements that are not learned: usual oxidation states times a factor.

    Args:
        factor: the factor, which may be changed later.
    """

    def __init__(self, factor: float = 0.5) -> None:
        super().__init__()
        self.factor = factor
        self.states: Tensor
        # Whole numbers, so that casting a model leaves them alone.
        self.register_buffer("states", torch.tensor(OXIDATION_STATES), persistent=False)

    def forward(self, charges: Tensor, atomic_numbers: Tensor) -> Tensor:
        """Charges that are read, and these added to them.

        Args:
            charges: ``[n_atoms]`` or ``[n_atoms, n_channels]`` [e].
            atomic_numbers: ``[n_atoms]``.
        """
        states = self.factor * self.states[atomic_numbers].to(charges.dtype)
        return charges + states.view([-1] + [1] * (charges.dim() - 1))


class ElementPolarisabilities(nn.Module):
    """A learned polarisability for each element, positive, and 0.3 A^3 at the start."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = nn.Parameter(torch.zeros(N_ATOMIC_NUMBERS))

    def add(self, alphas: Tensor, atomic_numbers: Tensor) -> Tensor:
        """Polarisabilities ``[n_atoms]`` or ``[n_atoms, 3, 3]``, with those of the elements."""
        own = (ALPHA_UNIT * (1.0 + self.numbers[atomic_numbers]).square()).to(alphas.dtype)
        if alphas.dim() == 1:
            return alphas + own
        return alphas + torch.diag_embed(own.unsqueeze(1).expand(-1, 3))


class ElementBaselines(nn.Module):
    """Adds the charges and polarisabilities of elements in a model that knows atoms by types.

    Args:
        config: says which of them.
        atomic_numbers: that of each type.
    """

    def __init__(self, config: LESConfig, atomic_numbers: Sequence[int]) -> None:
        super().__init__()
        self.charges: OxidationStates | None = None
        if config.use_fixed_atomic_charges:
            self.charges = OxidationStates(config.fixed_atomic_charges_scaling_factor)
        self.alphas = ElementPolarisabilities() if config.use_atomic_alpha else None
        self.numbers: Tensor
        self.register_buffer("numbers", torch.tensor(list(atomic_numbers)), persistent=False)

    @classmethod
    def of(cls, config: LESConfig, symbols: Sequence[str]) -> ElementBaselines | None:
        """What ``config`` asks for, or ``None``, of types that are named by ``symbols``.

        Raises:
            ValueError: for a name that is no chemical symbol, and polarisabilities to be added to
                those of a model that has none.
        """
        if not (config.use_fixed_atomic_charges or config.use_atomic_alpha):
            return None
        for symbol in symbols:
            if symbol not in SYMBOLS[1:]:
                raise ValueError(
                    "`use_fixed_atomic_charges` and `use_atomic_alpha` need types of atoms that "
                    f"are named by their chemical symbols, got {symbol!r}"
                )
        return cls(config, [SYMBOLS.index(symbol) for symbol in symbols])

    def with_charges(self, charges: Tensor, types: Tensor) -> Tensor:
        """``charges`` ``[n_atoms]`` [e] with those of the elements of ``types`` ``[n_atoms]``."""
        if self.charges is None:
            return charges
        return self.charges(charges, self.numbers[types])

    def with_alphas(self, alphas: Tensor | None, types: Tensor) -> Tensor | None:
        """Polarisabilities ``alphas`` with those of the elements of ``types`` ``[n_atoms]``."""
        if self.alphas is None or alphas is None:
            return alphas
        return self.alphas.add(alphas, self.numbers[types])
