"""Numbers per atom, such as latent charges, from atomic features."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from les.electronegativity import electronegativity_and_hardness

if TYPE_CHECKING:
    from les.config import LESConfig


class AtomReadout(nn.Module):
    """Multi-layer perceptron, plus a linear map, from features to a few numbers per atom.

    All layers exist from construction, so that optimisers and distributed training see
    them. Biases start at zero.

    Args:
        n_features: number of features per atom.
        n_channels: number of numbers per atom.
        n_layers: number of linear layers of the perceptron, the output layer included.
        n_hidden: widths of its hidden layers, one number for all or one each.
        add_linear_nn: add a linear map of the same features.
        output_scaling_factor: scale of the output.

    Raises:
        ValueError: if a number is not positive or the widths do not fit ``n_layers``.
    """

    def __init__(
        self,
        n_features: int,
        n_channels: int = 1,
        n_layers: int = 3,
        n_hidden: int | tuple[int, ...] = (32, 16),
        add_linear_nn: bool = True,
        output_scaling_factor: float = 1.0,
    ) -> None:
        super().__init__()
        for name, value in (
            ("n_features", n_features),
            ("n_channels", n_channels),
            ("n_layers", n_layers),
        ):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"`{name}` must be a whole number of at least 1, got {value!r}")
        hidden = (n_hidden,) * (n_layers - 1) if isinstance(n_hidden, int) else tuple(n_hidden)
        if len(hidden) != n_layers - 1:
            raise ValueError(
                f"`n_hidden` must give {n_layers - 1} widths for `n_layers` = {n_layers}, "
                f"got {list(hidden)}"
            )
        self.n_features = n_features
        self.output_scaling_factor = output_scaling_factor
        widths = [n_features, *hidden]
        layers: list[nn.Module] = []
        for width, next_width in itertools.pairwise(widths):
            layers += [nn.Linear(width, next_width), nn.SiLU()]
        self.network = nn.Sequential(*layers, nn.Linear(widths[-1], n_channels))
        self.linear = nn.Linear(n_features, n_channels, bias=False) if add_linear_nn else None
        for name, parameter in self.network.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, features: Tensor) -> Tensor:
        """Numbers ``[n_atoms, n_channels]`` of ``features`` ``[n_atoms, n_features]``."""
        return self._read(features)

    def _read(self, features: Tensor) -> Tensor:
        if features.dim() != 2 or features.shape[1] != self.n_features:
            raise ValueError(
                f"`desc` must have shape [n_atoms, {self.n_features}], got {features.shape}"
            )
        output = self.network(features)
        if self.linear is not None:
            output = output + self.linear(features)
        return self.output_scaling_factor * output

    def scale_weights(self, factor: float) -> None:
        """Multiply the last layers' weights, and so the output, as long as biases are zero."""
        with torch.no_grad():
            for layer in (self.network[-1], self.linear):
                if isinstance(layer, nn.Linear):
                    layer.weight.mul_(factor)

    def negate(self, n_numbers: int | None = None) -> None:
        """Change the sign of the first ``n_numbers`` outputs, by that of the last weights."""
        last = self.network[-1]
        with torch.no_grad():
            for layer in (last, self.linear):
                if layer is not None:
                    for parameter in layer.parameters():
                        parameter[:n_numbers].neg_()


class ElementCharges(nn.Module):
    """A learned charge for each element, the same on all its atoms; zero at the start.

    Args:
        n_elements: number of elements, or of types of atoms.
        n_channels: number of charges of an atom.
    """

    def __init__(self, n_elements: int, n_channels: int = 1) -> None:
        super().__init__()
        self.charges = nn.Parameter(torch.zeros(n_elements, n_channels))

    def forward(self, elements: Tensor) -> Tensor:
        """Charges ``[n_atoms, n_channels]`` [e] of ``elements``, indices ``[n_atoms]``."""
        return self.charges[elements]


class ChargeReadout(AtomReadout):
    """:class:`AtomReadout` for latent charges, plus a learned charge for each element.

    Random weights times ``initial_charge_scale`` and ``output_scaling_factor`` start the charges
    small, but not at zero, where the energy has no gradient because it is quadratic in them. Biases
    start at zero, because the same charge on every atom has a large energy and no information.

    The element determines most of a charge. Features may distinguish elements only through their
    environments; with a charge for each element, this part is learned in the first epochs.

    With ``charge_equilibration`` the readout predicts two numbers, which become an
    electronegativity and a hardness (``les.electronegativity``) and determine the charges.

    Args:
        n_features, n_channels, n_layers, n_hidden, add_linear_nn: as for :class:`AtomReadout`;
            ``n_channels`` is the number of charge channels.
        output_scaling_factor: scale of the charges that are read from features, and of their
            training steps.
        initial_charge_scale: scale of the last layers' weights that training starts from.
        n_elements: number of elements that have a charge of their own, or ``None`` for none.
        charge_equilibration: predict electronegativities and hardnesses; ``n_channels`` is 2 then.
    """

    def __init__(
        self,
        n_features: int,
        n_channels: int = 1,
        n_layers: int = 3,
        n_hidden: int | tuple[int, ...] = (32, 16),
        add_linear_nn: bool = True,
        output_scaling_factor: float = 0.1,
        initial_charge_scale: float = 1.0,
        n_elements: int | None = None,
        charge_equilibration: bool = False,
    ) -> None:
        super().__init__(
            n_features, n_channels, n_layers, n_hidden, add_linear_nn, output_scaling_factor
        )
        if charge_equilibration and n_channels != 2:
            raise ValueError(
                f"`n_channels` must be 2 with `charge_equilibration`, got {n_channels}"
            )
        self.charge_equilibration = charge_equilibration
        self.scale_weights(initial_charge_scale)
        self.of_elements = None if n_elements is None else ElementCharges(n_elements, n_channels)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Unpickle, also what earlier releases wrote, which had no charges of elements."""
        super().__setstate__({"charge_equilibration": False, **state})
        if "of_elements" not in self._modules:
            self.of_elements = None

    @classmethod
    def of(cls, config: LESConfig, n_elements: int) -> ChargeReadout:
        """The readout that ``config`` describes, whose ``n_features`` must be given.

        Args:
            config: the configuration.
            n_elements: number of elements of the model, for ``config.element_charges``.
        """
        assert config.n_features is not None
        return cls(
            config.n_features,
            n_channels=2 if config.charge_equilibration else config.n_channels,
            n_layers=config.n_layers,
            n_hidden=config.n_hidden,
            add_linear_nn=config.add_linear_nn,
            output_scaling_factor=config.output_scaling_factor,
            initial_charge_scale=config.initial_charge_scale,
            n_elements=n_elements if config.element_charges else None,
            charge_equilibration=config.charge_equilibration,
        )

    def forward(self, features: Tensor, elements: Tensor | None = None) -> Tensor:
        """Charges ``[n_atoms, n_channels]`` [e]; with ``charge_equilibration`` ``[n_atoms, 2]``.

        Args:
            features: ``[n_atoms, n_features]``.
            elements: index of the element of each atom ``[n_atoms]``, needed with ``n_elements``.

        Raises:
            ValueError: for features of another shape, and without elements where they are needed.
        """
        charges = self._read(features)
        if self.of_elements is not None:
            if elements is None:
                raise ValueError("`element_charges` needs the elements of the atoms, got none")
            charges = charges + self.of_elements(elements)
        return electronegativity_and_hardness(charges) if self.charge_equilibration else charges

    @torch.jit.unused
    def negate(self, n_numbers: int | None = None) -> None:
        """Change the sign of all charges, or of all electronegativities."""
        n_numbers = 1 if self.charge_equilibration else n_numbers
        super().negate(n_numbers)
        if self.of_elements is not None:
            with torch.no_grad():
                self.of_elements.charges[:, :n_numbers].neg_()
