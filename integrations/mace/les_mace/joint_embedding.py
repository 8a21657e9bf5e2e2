"""The embedding of total charge and spin in the place of upstream's own embeddings.

Upstream's ``embedding_specs`` add an embedding of inputs to the features of atoms, too. That of the
core, which is the same for all models, takes its place: it begins without an effect, also on a
trained model, and has none on neutral singlets.
"""

from __future__ import annotations

from torch import Tensor, nn

from les.charge_states import ChargeStateEmbedding
from les.config import LESConfig
from les_mace.keys import STATE_KEYS


class JointEmbedding(nn.Module):
    """What upstream's models call with the inputs that their ``embedding_specs`` name.

    Args:
        charge_states: the embedding.
    """

    def __init__(self, charge_states: ChargeStateEmbedding) -> None:
        super().__init__()
        self.charge_states = charge_states

    def forward(self, batch: Tensor, features: dict[str, Tensor]) -> Tensor:
        """What is added to the features of the atoms ``[n_atoms, n_features]``.

        Args:
            batch: structure of each atom ``[n_atoms]``.
            features: inputs by upstream's names, each ``[n_structures]``.

        Raises:
            ValueError: as ``les.charge_states.ChargeStateEmbedding``.
        """
        total_charge: Tensor | None = None
        spin: Tensor | None = None
        if "total_charge" in features:
            total_charge = features["total_charge"].view(-1)
        if "total_spin" in features:
            spin = features["total_spin"].view(-1)
        embedding: Tensor = self.charge_states(batch, total_charge, spin)
        return embedding


def embedding_specs(config: LESConfig) -> dict[str, str]:
    """Upstream's ``embedding_specs`` of what ``config`` embeds: names of inputs of the model."""
    return {STATE_KEYS[name]: "les" for name in config.embedded}
