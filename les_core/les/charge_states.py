r"""The total charge and the spin of a structure as a part of the features of its atoms.

Charges that sum to the total charge Q (``les.neutrality``) let the electrostatic energy know Q.
What Q does to bonds is another matter: of two charge states of one geometry a model sees the same
atoms. An embedding of Q, and of the spin multiplicity m, is added to the features that atoms start
with, before the model looks at their surroundings,

.. math:: f_i + W_2 \left[\sigma(W_1 x + b) - \sigma(b)\right], \quad x = (Q, m - 1).

It is a smooth function, so that Q may be a fraction. It vanishes for a neutral singlet, whatever
the weights, and for all states as long as :math:`W_2` is zero, where training starts: a trained
model that gets an embedding is unchanged.

All atoms of a structure get the same, however far apart they are and however many: that a charge
sits on one of two distant molecules is for the model to learn, and what it learns of Q in one cell
is not what it would give for a supercell with twice the charge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from les.sums.checks import check_finite, is_compiling

if TYPE_CHECKING:
    from les.config import LESConfig

#: Number of functions of the state that the embedding is made of.
N_HIDDEN = 16


class ChargeStateEmbedding(nn.Module):
    """Embeds the total charge and the spin multiplicity of the structure of each atom.

    Args:
        n_features: number of features of an atom that the embedding is added to.
        total_charge: whether the total charge is embedded.
        spin: whether the spin multiplicity is embedded.

    Raises:
        ValueError: if there is nothing to embed.
    """

    def __init__(self, n_features: int, total_charge: bool = True, spin: bool = False) -> None:
        super().__init__()
        if not (total_charge or spin):
            raise ValueError("one of `total_charge` and `spin` must be true, got neither")
        self.of_total_charge, self.of_spin = total_charge, spin
        self.hidden = nn.Linear(int(total_charge) + int(spin), N_HIDDEN)
        self.output = nn.Linear(N_HIDDEN, n_features, bias=False)
        nn.init.zeros_(self.output.weight)

    @classmethod
    def of(cls, config: LESConfig | None, n_features: int) -> ChargeStateEmbedding | None:
        """The embedding that ``config`` asks for, ``None`` if it asks for none.

        Args:
            config: the configuration; ``None`` for a model without charges.
            n_features: as for the class.
        """
        if config is None or not config.embedded:
            return None
        return cls(n_features, config.embed_total_charge, config.embed_spin)

    def forward(
        self,
        batch: Tensor,
        total_charge: Tensor | None = None,
        spin: Tensor | None = None,
        check_values: bool = True,
    ) -> Tensor:
        """What is added to the features of the atoms ``[n_atoms, n_features]``.

        Args:
            batch: structure of each atom ``[n_atoms]``.
            total_charge: ``[n_structures]`` [e]; one that is not embedded is not looked at.
            spin: multiplicities 2 S + 1 ``[n_structures]``; likewise.
            check_values: look at the values of the inputs, which a graph that is captured does not
                have.

        Raises:
            ValueError: if an input that is embedded is missing, or not one finite number for each
                structure, or if a multiplicity is less than 1.
        """
        check_values = check_values and not is_compiling()
        inputs: list[Tensor] = []
        if self.of_total_charge:
            inputs.append(_of_structures("total_charge", total_charge, batch, check_values))
        if self.of_spin:
            multiplicity = _of_structures("spin", spin, batch, check_values)
            if check_values and bool((multiplicity < 1.0).any()):
                raise ValueError(
                    "`spin` must hold multiplicities, of at least 1, got "
                    + str(float(multiplicity.min()))
                )
            inputs.append(multiplicity - 1.0)
        state = torch.stack(inputs, dim=1).to(self.hidden.weight.dtype)
        functions = nn.functional.silu(self.hidden(state)) - nn.functional.silu(self.hidden.bias)
        embedding: Tensor = self.output(functions)
        return embedding[batch]


def _of_structures(name: str, value: Tensor | None, batch: Tensor, check_values: bool) -> Tensor:
    """``value`` ``[n_structures]``, which the model cannot do without."""
    if value is None:
        raise ValueError("`" + name + "` must be given: the model embeds it in its features")
    if value.dim() != 1:
        raise ValueError("`" + name + "` must have shape [n_structures], got " + str(value.shape))
    if check_values:
        n_structures = int(batch.max()) + 1 if len(batch) else value.shape[0]
        if value.shape[0] != n_structures:
            raise ValueError(
                "`"
                + name
                + "` must have shape ["
                + str(n_structures)
                + "], one number for each structure, got "
                + str(value.shape)
            )
        check_finite(name, value)
    return value
