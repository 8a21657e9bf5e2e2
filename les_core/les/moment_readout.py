r"""Dipoles, quadrupoles and responses of atoms, read from equivariant features of a model.

With features of an atom that are scalars s, vectors :math:`\mathbf v_c` and symmetric traceless
tensors :math:`T_c`, and perceptrons w, b and a of the scalars,

.. math::
    \mathbf u = \sum_c w_c(s)\,\mathbf v_c,\quad Q = \sum_c w'_c(s)\,T_c,\quad
    \kappa = \kappa_0 (1 + b(s))^2,\quad \alpha = \alpha_0 (1 + a(s) + A)^2,
    \quad A = \sum_c w''_c(s)\,T_c,

without A where polarisabilities are isotropic. So moments turn with the structure, quadrupoles are
traceless, and responses are not negative whatever is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from les.readout import AtomReadout

if TYPE_CHECKING:
    from les.config import LESConfig

#: Why there are no programs of such models.
IN_GRAPHS = (
    "a model with dipoles, quadrupoles or induced moments can be neither compiled nor exported: "
    "their sum has no operator"
)

#: Response of a charge [e^2/eV], and polarisability [e^2 A^2/eV], where nothing is read; the last
#: one is 0.3 A^3.
KAPPA_UNIT = 0.02
ALPHA_UNIT = 0.02

#: Scale of all that is read, and of what a step of training changes in it, as that of charges.
OUTPUT_SCALE = 0.1

#: Width of the hidden layer of a perceptron.
WIDTH = 16


class Features(NamedTuple):
    """Equivariant features of atoms.

    Attributes:
        scalars: ``[n_atoms, n_scalars]``, which neither rotations nor reflections change.
        vectors: ``[n_atoms, n_vectors, 3]``, which turn and are reflected like positions (1o).
        tensors: ``[n_atoms, n_tensors, 5]``, which turn like products of positions (2e): components
            along :func:`traceless_basis`.
    """

    scalars: Tensor
    vectors: Tensor
    tensors: Tensor


class FeatureCounts(NamedTuple):
    """How many :class:`Features` of each kind an atom has."""

    scalars: int
    vectors: int
    tensors: int


class ReadMoments(NamedTuple):
    """What is read of each atom; ``None`` for what the configuration does not ask for.

    Attributes:
        dipoles: ``[n_atoms, 3]`` [e A].
        quadrupoles: ``[n_atoms, 3, 3]`` [e A^2], symmetric and traceless.
        kappas: ``[n_atoms]`` [e^2/eV].
        alphas: ``[n_atoms]`` or ``[n_atoms, 3, 3]`` [e^2 A^2/eV].
    """

    dipoles: Tensor | None = None
    quadrupoles: Tensor | None = None
    kappas: Tensor | None = None
    alphas: Tensor | None = None

    def in_order(self, order: Tensor) -> ReadMoments:
        """The same of atoms in the order of the indices ``order`` ``[n_atoms]``."""
        return ReadMoments(*(None if x is None else x[order] for x in self))

    def in_precision(self, dtype: torch.dtype) -> ReadMoments:
        """The same in the floating-point type ``dtype``.

        Quadrupoles and polarisabilities are symmetric, and quadrupoles traceless, to what that has
        of digits.
        """
        dipoles, quadrupoles, kappas, alphas = (None if x is None else x.to(dtype) for x in self)
        if quadrupoles is not None:
            quadrupoles = _symmetric(quadrupoles)
            trace = quadrupoles.diagonal(dim1=-2, dim2=-1).sum(dim=-1)[..., None, None]
            unit = torch.eye(3, dtype=dtype, device=quadrupoles.device)
            quadrupoles = quadrupoles - trace / 3.0 * unit
        if alphas is not None and alphas.dim() > 1:
            alphas = _symmetric(alphas)
        return ReadMoments(dipoles, quadrupoles, kappas, alphas)


def _symmetric(matrices: Tensor) -> Tensor:
    return 0.5 * (matrices + matrices.transpose(-2, -1))


class MomentReadout(nn.Module):
    """Reads dipoles, quadrupoles, responses of charges and polarisabilities.

    Args:
        config: says which of them; ``initial_charge_scale`` scales what is read at first.
        counts: how many features of each kind an atom has.

    Raises:
        ValueError: for what is asked for and needs features that the model does not have.
    """

    def __init__(self, config: LESConfig, counts: FeatureCounts) -> None:
        super().__init__()
        anisotropic = config.use_anisotropic_polarizability
        for name, asked, n, kind in (
            ("use_dipole", config.use_dipole, counts.vectors, "vectors (1o)"),
            ("use_quadrupole", config.use_quadrupole, counts.tensors, "tensors (2e)"),
            ("use_anisotropic_polarizability", anisotropic, counts.tensors, "tensors (2e)"),
        ):
            if asked and n == 0:
                raise ValueError(
                    f"`{name}` needs features of atoms that are {kind}, and this model has none: "
                    f"its features are {counts.scalars} scalars (0e), {counts.vectors} vectors "
                    f"(1o) and {counts.tensors} tensors (2e)"
                )

        def weights(asked: bool, n: int) -> AtomReadout | None:
            if not asked:
                return None
            readout = AtomReadout(counts.scalars, n, 2, WIDTH, True, OUTPUT_SCALE)
            readout.scale_weights(config.initial_charge_scale)
            return readout

        self.dipoles = weights(config.use_dipole, counts.vectors)
        self.quadrupoles = weights(config.use_quadrupole, counts.tensors)
        self.kappas = weights(config.use_induced_charge, 1)
        self.alphas = weights(config.use_induced_dipole, 1)
        self.anisotropy = weights(anisotropic, counts.tensors)

    @classmethod
    def of(cls, config: LESConfig, counts: FeatureCounts) -> MomentReadout | None:
        """The readout that ``config`` asks for, or ``None`` if it asks for charges alone.

        Raises:
            ValueError: as the class, and for polarisabilities of elements that are added to none.
        """
        if config.use_atomic_alpha and not config.use_induced_dipole:
            raise ValueError(
                "`use_atomic_alpha` needs `use_induced_dipole`, without which this model has no "
                "polarisabilities to add to"
            )
        return cls(config, counts) if config.reads_moments else None

    def forward(self, features: Features) -> ReadMoments:
        """What is read of each atom."""
        scalars, vectors, tensors = features
        dipoles: Tensor | None = None
        if self.dipoles is not None:
            dipoles = torch.einsum("nc,nca->na", self.dipoles(scalars), vectors)
        quadrupoles: Tensor | None = None
        if self.quadrupoles is not None:
            quadrupoles = _traceless(self.quadrupoles(scalars), tensors)
        kappas: Tensor | None = None
        if self.kappas is not None:
            kappas = KAPPA_UNIT * (1.0 + self.kappas(scalars).squeeze(1)).square()
        alphas: Tensor | None = None
        if self.alphas is not None:
            alphas = 1.0 + self.alphas(scalars).squeeze(1)
            if self.anisotropy is None:
                alphas = ALPHA_UNIT * alphas.square()
            else:
                unit = torch.eye(3, dtype=alphas.dtype, device=alphas.device)
                root = alphas.view(-1, 1, 1) * unit + _traceless(self.anisotropy(scalars), tensors)
                alphas = ALPHA_UNIT * root @ root
        return ReadMoments(dipoles, quadrupoles, kappas, alphas)

    def negate(self) -> None:
        """Change the sign of dipoles and quadrupoles, as that of charges is changed."""
        for readout in (self.dipoles, self.quadrupoles):
            if readout is not None:
                readout.negate()

    def __prepare_scriptable__(self) -> Any:
        raise ValueError(IN_GRAPHS)


def traceless_basis(like: Tensor) -> Tensor:
    """Orthonormal symmetric traceless matrices ``[5, 3, 3]``, of the type and device of ``like``.

    They are in the order of e3nn: ``xz``, ``xy``, ``2 yy - xx - zz``, ``yz``, ``zz - xx``.
    """
    basis = torch.zeros(5, 3, 3, dtype=like.dtype, device=like.device)
    for number, (a, b) in ((0, (0, 2)), (1, (0, 1)), (3, (1, 2))):
        basis[number, a, b] = basis[number, b, a] = 0.5**0.5
    basis[2] = torch.diag(basis.new_tensor([-1.0, 2.0, -1.0])) / 6.0**0.5
    basis[4] = torch.diag(basis.new_tensor([-1.0, 0.0, 1.0])) * 0.5**0.5
    return basis


def _traceless(weights: Tensor, tensors: Tensor) -> Tensor:
    """Weighted sums of tensors as matrices ``[n_atoms, 3, 3]``."""
    components = torch.einsum("nc,ncm->nm", weights, tensors)
    return torch.einsum("nm,mab->nab", components, traceless_basis(components))
