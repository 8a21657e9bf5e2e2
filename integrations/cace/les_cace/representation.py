"""Cartesian atomic cluster expansion: invariant features of the surroundings of atoms.

B. Cheng, npj Comput. Mater. 10, 157 (2024), arXiv:2402.07472. The sum over neighbours of radial
function times monomial times element channels is evaluated factor by factor, as products of
small matrices per atom; no tensor has an edge axis and all other axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from les import Carried
from les_cace.angular import Monomials, degree_sizes
from les_cace.checks import at_least, check_elements, check_messages, check_positive
from les_cace.message import FeatureWeights, Memory, RadialMessage
from les_cace.radial import BesselBasis, PolynomialCutoff
from les_cace.symmetrize import Symmetrizer

#: Radius within which atoms see each other, unless given [A].
DEFAULT_CUTOFF = 4.5


#: Methods that :meth:`Representation.compile` compiles on their own.
COMPILED = ("_start", "_update")


class Surroundings(NamedTuple):
    """Of each atom, functions of the places of its neighbours."""

    distances: Tensor  # [n_atoms, width] [A]
    radial: Tensor  # [n_atoms, n_rbf, width]
    angular: Tensor  # [n_atoms, n_monomials, width]


class Layer(nn.Module):
    """Messages of one layer; ``None`` for the kinds that it has not."""

    memory: Memory | None
    radial: RadialMessage | None
    weights: FeatureWeights | None

    def __init__(
        self, memory: Memory | None, radial: RadialMessage | None, weights: FeatureWeights | None
    ) -> None:
        super().__init__()
        self.memory, self.radial, self.weights = memory, radial, weights


class Representation(nn.Module):
    """Features of atoms that no rotation, reflection or permutation changes.

    Args:
        zs: atomic numbers of the elements.
        n_atom_basis: size of the embedding of elements; edges have its square of channels.
        cutoff: radius [A].
        n_rbf: number of radial functions.
        n_radial_basis: number of mixtures of them; ``None`` for the same number.
        max_l: highest degree of the monomials.
        max_nu: highest body order of the features, 1 to 4.
        num_message_passing: number of layers of messages.
        message_types: some of :data:`les_cace.checks.MESSAGES`.
        avg_num_neighbors: messages are divided by its square root.
        cutoff_exponent: exponent of the polynomial cutoff.
        trainable_radial_basis: train the frequencies of the radial functions.
        embed_receiver_nodes: use different embeddings of elements as receivers and as senders.
        shared_channels, shared_degrees, message_hidden: settings of the messages ``"Bchi"``, see
            ``les_cace.message.FeatureWeights``.

    Raises:
        ValueError: for numbers out of range and unknown kinds of messages.
    """

    def __init__(
        self,
        zs: Sequence[int],
        n_atom_basis: int = 4,
        cutoff: float = DEFAULT_CUTOFF,
        n_rbf: int = 6,
        n_radial_basis: int | None = 12,
        max_l: int = 3,
        max_nu: int = 3,
        num_message_passing: int = 1,
        message_types: Sequence[str] = ("Bchi",),
        avg_num_neighbors: float = 10.0,
        cutoff_exponent: int = 6,
        trainable_radial_basis: bool = True,
        embed_receiver_nodes: bool = True,
        shared_channels: bool = False,
        shared_degrees: bool = False,
        message_hidden: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.zs = check_elements(zs)
        check_messages(message_types, num_message_passing, message_hidden)
        mixtures = 1 if n_radial_basis is None else n_radial_basis
        at_least(1, n_atom_basis=n_atom_basis, n_rbf=n_rbf, n_radial_basis=mixtures)
        at_least(2, cutoff_exponent=cutoff_exponent)
        at_least(0, max_l=max_l, num_message_passing=num_message_passing)
        self.cutoff = check_positive("cutoff", cutoff)
        check_positive("avg_num_neighbors", avg_num_neighbors)
        self.n_atom_basis, self.n_rbf = n_atom_basis, n_rbf
        self.n_mixtures = n_rbf if n_radial_basis is None else n_radial_basis
        self.n_channels = n_atom_basis**2
        self.degree_sizes = degree_sizes(max_l)
        self.message_scale = float(avg_num_neighbors) ** -0.5

        n_elements = len(self.zs)
        self.sender_embedding = nn.Parameter(torch.empty(n_elements, n_atom_basis))
        nn.init.xavier_uniform_(self.sender_embedding)
        self.receiver_embedding: nn.Parameter | None = None
        if embed_receiver_nodes:
            self.receiver_embedding = nn.Parameter(self.sender_embedding.detach().clone())
        self.cutoff_function = PolynomialCutoff(cutoff, cutoff_exponent)
        self.radial_basis = BesselBasis(cutoff, n_rbf, trainable_radial_basis)
        self.monomials = Monomials(max_l)
        shape = (n_rbf, self.n_mixtures, self.n_channels)
        self.mixing = nn.ParameterList(nn.Parameter(torch.rand(shape)) for _ in self.degree_sizes)
        self.symmetrizer = Symmetrizer(max_l, max_nu)

        n_features = self.n_mixtures * self.symmetrizer.n_features * self.n_channels
        basis = (max_l, self.n_mixtures, self.n_channels)
        self.layers = nn.ModuleList(
            Layer(
                Memory(*basis) if "M" in message_types else None,
                RadialMessage(self.cutoff_function, *basis) if "Ar" in message_types else None,
                FeatureWeights(
                    n_features,
                    max_l,
                    self.n_channels,
                    shared_channels,
                    shared_degrees,
                    message_hidden,
                )
                if "Bchi" in message_types
                else None,
            )
            for _ in range(num_message_passing)
        )
        #: Number of features of an atom.
        self.n_features = n_features * (num_message_passing + 1)
        # All numbers above those of `zs` share the last place.
        classes = torch.full((max(self.zs) + 2,), -1)
        classes[self.zs] = torch.arange(n_elements)
        self.register_buffer("classes", classes, persistent=False)

    def elements(self, numbers: Tensor) -> Tensor:
        """Indices of atomic ``numbers`` ``[n_atoms]`` in ``zs``.

        Raises:
            ValueError: for numbers that are not in ``zs``.
        """
        classes = self.get_buffer("classes")
        places = classes[numbers.clamp(0, len(classes) - 1)]
        unknown = places < 0
        if bool(unknown.any()):
            got = sorted(set(numbers[unknown].tolist()))
            raise ValueError(f"`numbers` must be of `zs` = {self.zs}, got {got}")
        return places

    def forward(
        self,
        vectors: Tensor,
        sender: Tensor,
        element: Tensor,
        state: Tensor | None = None,
        carried: list[Carried] | None = None,
    ) -> Tensor:
        """Features ``[n_atoms, n_mixtures, n_invariants, n_channels, n_layers + 1]``.

        Args:
            vectors: vectors from the neighbours to each atom, row by row ``[n_atoms * width, 3]``
                [A]; vectors longer than the cutoff do not count.
            sender: indices of the neighbours ``[n_atoms, width]``.
            element: index of the element of each atom ``[n_atoms]``, as :meth:`elements` gives
                it.
            state: terms that are added to the embeddings of the elements, for each atom
                ``[n_atoms, n_atom_basis]``.
            carried: a list to which every place is added where features go from neighbours to
                atoms, see :meth:`recorded`.
        """

        def carry(features: Tensor) -> Tensor:
            taken = features[sender.flatten()]
            if carried is not None:
                carried.append(Carried(taken, vectors))
            return taken.view(*sender.shape, *features.shape[1:])

        senders = self.sender_embedding[element]
        receiver_embedding = self.receiver_embedding
        receivers = senders if receiver_embedding is None else receiver_embedding[element]
        if state is not None:
            senders, receivers = senders + state, receivers + state
        surroundings, basis = self._start(vectors, sender, senders, receivers)
        features = [self.symmetrizer(basis)]
        for layer in self._layers():
            weights, parts = None, []
            if layer.weights is not None:
                weights = carry(self._weights(layer.weights, features[-1], senders))
            if layer.radial is not None:
                parts = [carry(x) for x in basis.split(self.degree_sizes, dim=1)]
            basis = self._update(layer, basis, weights, parts, surroundings, receivers)
            features.append(self.symmetrizer(basis))
        return torch.stack([self._ordered(x) for x in features], dim=-1)

    def recorded(
        self, vectors: Tensor, sender: Tensor, element: Tensor, state: Tensor | None = None
    ) -> tuple[Tensor, list[Carried]]:
        """The result of :meth:`forward`, and every place where features go to another atom."""
        carried: list[Carried] = []
        # Not by a call, which may be compiled as a whole: then such places have no derivatives.
        return self.forward(vectors, sender, element, state, carried), carried

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile a call, and for :meth:`recorded` what there is between features that are carried.

        Arguments are those of ``torch.compile``.
        """
        super().compile(*args, **kwargs)
        for name in COMPILED:
            setattr(self, name, torch.compile(getattr(self, name), *args, **kwargs))

    def __getstate__(self) -> dict[str, Any]:
        """A copy is not compiled, as with all modules."""
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name not in COMPILED}

    def _layers(self) -> list[Layer]:
        return [layer for layer in self.layers if isinstance(layer, Layer)]

    def _start(
        self, vectors: Tensor, sender: Tensor, senders: Tensor, receivers: Tensor
    ) -> tuple[Surroundings, Tensor]:
        """The surroundings, and the first basis as from :meth:`_mixed`.

        Args:
            vectors, sender: as for :meth:`forward`.
            senders, receivers: factors of the channels ``[n_atoms, n_atom_basis]``.
        """
        vectors = vectors.t().reshape(3, *sender.shape)
        distances = torch.linalg.vector_norm(vectors, dim=0)
        radial = self.radial_basis(distances) * self.cutoff_function(distances).unsqueeze(1)
        angular = self.monomials(vectors, distances)
        neighbours = senders.t()[:, sender].transpose(0, 1)  # [n_atoms, n_atom_basis, width]
        sums = angular @ _outer(radial, neighbours).transpose(1, 2)
        basis = self._mixed(sums.view(*sums.shape[:2], self.n_rbf, -1, 1), receivers)
        return Surroundings(distances, radial, angular), basis

    def _weights(self, network: FeatureWeights, features: Tensor, senders: Tensor) -> Tensor:
        """Weights of each atom as a neighbour ``[n_atoms, n_degrees * n_channels]``.

        The element's factor of the channels is included.
        """
        weights: Tensor = network(self._flat(features))
        weights = weights * senders.repeat_interleave(self.n_atom_basis, 1).unsqueeze(1)
        return weights.flatten(1)

    def _update(
        self,
        layer: Layer,
        basis: Tensor,
        weights: Tensor | None,
        parts: list[Tensor],
        surroundings: Surroundings,
        receivers: Tensor,
    ) -> Tensor:
        """The basis of the next layer.

        Args:
            layer: its messages.
            basis: of each atom, as from :meth:`_mixed`.
            weights: of the neighbours ``[n_atoms, width, n_degrees * n_channels]``.
            parts: of the neighbours' basis, as for ``RadialMessage``.
            surroundings: of each atom.
            receivers: factors of the channels ``[n_atoms, n_atom_basis]``.
        """
        update = torch.zeros_like(basis)
        if weights is not None:
            update = update + self._mixed(self._sum_weighted(surroundings, weights), receivers)
        if layer.radial is not None:
            update = update + layer.radial(parts, surroundings.distances)
        update = self.message_scale * update
        return update if layer.memory is None else update + layer.memory(basis)

    def _ordered(self, features: Tensor) -> Tensor:
        """``[n_atoms, n_invariants, n_mixtures * n_channels]`` with the axes of :meth:`forward`."""
        shape = (features.shape[0], features.shape[1], self.n_mixtures, self.n_channels)
        return features.view(shape).transpose(1, 2)

    def _flat(self, features: Tensor) -> Tensor:
        return self._ordered(features).reshape(features.shape[0], -1)

    def _sum_weighted(self, surroundings: Surroundings, weights: Tensor) -> Tensor:
        """Sums over neighbours with weights, as for :meth:`_mixed`."""
        functions = _outer(surroundings.angular, surroundings.radial)
        of_degrees = functions.split([n * self.n_rbf for n in self.degree_sizes], 1)
        weighted = weights.split(self.n_channels, 2)
        sums = torch.cat([left @ right for left, right in zip(of_degrees, weighted)], dim=1)
        return sums.view(len(sums), -1, self.n_rbf, self.n_atom_basis, self.n_atom_basis)

    def _mixed(self, sums: Tensor, receivers: Tensor) -> Tensor:
        """Mixtures of the radial functions ``[n_atoms, n_monomials, n_mixtures * n_channels]``.

        Args:
            sums: over neighbours ``[n_atoms, n_monomials, n_rbf, n_atom_basis, 1]``, or with
                all channels ``[n_atoms, n_monomials, n_rbf, n_atom_basis, n_atom_basis]``.
            receivers: their factor of the channels, the same in all terms of a sum
                ``[n_atoms, n_atom_basis]``.
        """
        sums = (sums * receivers[:, None, None, None]).flatten(3)
        parts = [
            torch.einsum("nlkc,kmc->nlmc", part, mixing)
            for part, mixing in zip(sums.split(self.degree_sizes, dim=1), self.mixing)
        ]
        return torch.cat(parts, dim=1).flatten(2)


def _outer(left: Tensor, right: Tensor) -> Tensor:
    """``[n_atoms, n_left * n_right, width]``, for each neighbour."""
    return (left.unsqueeze(2) * right.unsqueeze(1)).flatten(1, 2)
