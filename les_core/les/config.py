"""Configuration of the long-range part: one frozen dataclass, from YAML or older dicts."""

# No postponed annotations: dataclasses look those up in sys.modules, where a copy of this module
# in a torch.package is not.

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from les.config_checks import check_agreement, check_values, refuse_without_effect
from les.config_fields import FROM_THE_MODEL, OF_THE_READOUT, SUM_FIELDS, UNUSED
from les.config_files import read_yaml
from les.conjugate_gradients import DEFAULT_CONVERGENCE
from les.keys import refuse_unknown, refuse_unused
from les.legacy import own_settings, stored_settings
from les.neutrality import DEFAULT_NEUTRALITY
from les.sums.reciprocal.accuracy import DEFAULT_DL, resolve
from les.units import NORM_FACTOR


@dataclass(frozen=True)
class LESConfig:
    """How latent charges become an energy, and how features become latent charges.

    Raises:
        ValueError: at construction, if a value is out of range; the message names it.
    """

    #: Width of the Gaussian charges [A].
    sigma: float = 1.0
    #: Resolution of the periodic sum, ``k_max = 2 pi / dl`` [A]; ``accuracy`` determines it.
    dl: float = DEFAULT_DL
    #: Method of the periodic sum, see ``les.Ewald``.
    method: str = "auto"
    #: ``"smooth"`` or ``"sharp"`` end of the periodic sum, see ``les.Ewald``.
    cutoff: str = "smooth"
    #: Largest relative error of forces due to the periodic sum, see ``les.Ewald``. It sets
    #: ``dl``, ``spacing`` and ``order``, and is then ``None``.
    accuracy: float | None = None
    #: Spacing of the mesh [A], in place of ``accuracy``, see ``les.Ewald``.
    spacing: float | None = None
    #: Order of its splines, together with ``spacing``.
    order: int | None = None
    #: Leave out the interaction of each charge with itself. With ``charge_equilibration`` it is
    #: false, because this interaction is part of the energy that charges minimise.
    remove_self_interaction: bool = True
    #: Subtract the mean charge of a structure before taking dipoles and BEC.
    remove_mean: bool = True
    #: ``"shift"``: before they are used, the charges of a structure are shifted evenly, so that
    #: they sum to its total charge (``les.neutrality``); ``"none"``: they are the output of the
    #: readout, and a total charge has no effect.
    neutrality: str = DEFAULT_NEUTRALITY
    #: Embed the total charge of a structure in the features of its atoms, so that the short-range
    #: part knows it, too (``les.charge_states``); needs charges that sum to it.
    embed_total_charge: bool = False
    #: Embed the spin multiplicity 2 S + 1 of a structure in the features of its atoms.
    embed_spin: bool = False
    #: High-frequency dielectric constant; dipoles and BEC are scaled by its square root.
    epsilon_factor: float = 1.0
    #: ``"open"``: energies and forces leave the sign of all charges open, and results choose it by
    #: chemistry (``les.ChargeSign``); ``"trained"``: the model was trained on dipoles or Born
    #: effective charges, and has their sign. With ``use_fixed_atomic_charges`` it is ``"trained"``
    #: from the start, because oxidation states have a sign.
    sign: str = "open"
    #: ``2 pi k_e`` [eV A / e^2]; only checkpoints of older releases need another value.
    norm_factor: float = NORM_FACTOR
    #: Read charges from atomic features with ``les.ChargeReadout``; otherwise the host
    #: model passes latent charges.
    use_atomwise: bool = False
    #: Number of atomic features; required with ``use_atomwise``.
    n_features: int | None = None
    #: Number of charges per atom, each of which interacts with those of its own channel. More
    #: than one describe no physical charge: dipoles and Born effective charges need one.
    n_channels: int = 1
    #: Number of linear layers of the charge readout, the output layer included.
    n_layers: int = 3
    #: Widths of its hidden layers, one number for all or one each.
    n_hidden: int | tuple[int, ...] = (32, 16)
    #: Add a linear readout of the same features.
    add_linear_nn: bool = True
    #: Add a learned charge for each element to the charges that are read from features. This is
    #: the default in trainings of models that read charges themselves, see :meth:`for_features`.
    element_charges: bool = False
    #: Scale of the random weights of the charge readout's last layers, from which training starts.
    initial_charge_scale: float = 1.0
    #: Factor on the output of the readout. It scales each training step of the charges, too,
    #: because the steps of Adam do not depend on the size of gradients.
    output_scaling_factor: float = 0.1
    #: Predict an electronegativity and a hardness of each atom instead of a charge; the charges
    #: minimise the energy and sum to the total charge (``les.equilibration``).
    charge_equilibration: bool = False
    #: Largest residual of equilibrated charges, relative to that of charges spread evenly.
    equilibration_tolerance: float = DEFAULT_CONVERGENCE.tolerance
    #: Largest number of iterations of charge equilibration; more are an error.
    equilibration_iterations: int = DEFAULT_CONVERGENCE.iterations

    #: Atoms have dipoles, too (``les.multipoles``), which the model predicts from features that
    #: are vectors; a model without such features is an error.
    use_dipole: bool = False
    #: Atoms have traceless quadrupoles, which are predicted from features that are tensors.
    use_quadrupole: bool = False
    #: Charges are induced by potentials (``les.induced``).
    use_induced_charge: bool = False
    #: Dipoles are induced by fields: atoms have polarisabilities.
    use_induced_dipole: bool = False
    #: Polarisabilities are symmetric matrices, predicted from features that are tensors.
    use_anisotropic_polarizability: bool = False
    #: Induced moments act on one another and minimise the energy (``les.self_consistent``); in
    #: the published formulas they do not.
    self_consistent: bool = False

    #: Structures may be in a homogeneous external field, which is an input: energies and forces are
    #: those in it (``les.in_field``).
    external_field: bool = False

    #: Add the usual oxidation state of its element, times ``fixed_atomic_charges_scaling_factor``,
    #: to the charge of each atom (``les.element_baselines``).
    use_fixed_atomic_charges: bool = False
    #: Factor by which oxidation states are multiplied.
    fixed_atomic_charges_scaling_factor: float = 0.5
    #: Add a learned polarisability of its element to that of each atom.
    use_atomic_alpha: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.n_hidden, Sequence) and not isinstance(self.n_hidden, str):
            object.__setattr__(self, "n_hidden", tuple(self.n_hidden))
        check_values(vars(self))
        smooth = self.cutoff == "smooth"
        found = resolve(self.sigma, self.dl, smooth, self.accuracy, self.spacing, self.order)
        if self.accuracy is not None:
            # Written down as what it means now: a model keeps the kernel that it was trained with.
            object.__setattr__(self, "accuracy", None)
            for name, value in found._asdict().items():
                object.__setattr__(self, name, value)
        check_agreement(vars(self), {field.name: field.default for field in fields(self)})
        if self.charge_equilibration:
            object.__setattr__(self, "remove_self_interaction", False)
        if self.use_fixed_atomic_charges:
            object.__setattr__(self, "sign", "trained")

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Unpickle, also what earlier releases wrote."""
        self.__dict__.update(stored_settings(state))

    @property
    def uses_total_charge(self) -> bool:
        """Whether charges sum to the total charge of a structure, which then is an input."""
        return self.neutrality == "shift"

    @property
    def embedded(self) -> tuple[str, ...]:
        """The states that features of atoms embed: ``"total_charge"``, ``"spin"``, or nothing.

        Every structure has to state them, because the model needs them.
        """
        asked_for = {"total_charge": self.embed_total_charge, "spin": self.embed_spin}
        return tuple(name for name, asked in asked_for.items() if asked)

    @property
    def reads_moments(self) -> bool:
        """Whether the model predicts dipoles, quadrupoles or responses of atoms, too."""
        return (
            self.use_dipole
            or self.use_quadrupole
            or self.use_induced_charge
            or self.use_induced_dipole
        )

    @property
    def moments_without_mean(self) -> bool:
        """Whether dipoles and quadrupoles are computed from the charges less their mean.

        If the charges have the right sum, their mean is kept.
        """
        return self.remove_mean and not self.uses_total_charge

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "LESConfig":
        """Make a configuration from a dictionary with the field names of this class.

        Raises:
            ValueError: for an unknown key; the message names the closest one.
        """
        known = {field.name for field in fields(cls)}
        refuse_unknown(values, known)
        refuse_without_effect(values)
        return cls(**values)

    @classmethod
    def from_stored(cls, values: Mapping[str, Any]) -> "LESConfig":
        """Make a configuration from the settings that a model file stores.

        Models of earlier releases lack newer settings. These take the values that reproduce the
        earlier behaviour, which may differ from the defaults of new models (``les.versions``).

        Raises:
            ValueError: as :meth:`from_dict`, and for settings of a newer release.
        """
        return cls.from_dict(stored_settings(values))

    @classmethod
    def from_legacy(cls, values: Mapping[str, Any]) -> "LESConfig":
        """Make a configuration from the dictionary that published LES and its host models use.

        Missing keys take their published meaning, so ``cutoff`` is ``"sharp"`` and ``neutrality``
        is ``"none"`` unless given. Keys that belong to the host model are ignored.

        Raises:
            ValueError: for an unknown key (the message names the closest one), and for a
                feature of published LES that is not supported yet.
        """
        own = own_settings(values, {field.name: field.default for field in fields(cls)})
        refuse_without_effect(own)
        return cls(**{"cutoff": "sharp", **stored_settings(own)})

    @classmethod
    def from_yaml(cls, path: str | Path) -> "LESConfig":
        """Make a configuration from a YAML file with the field names of this class.

        Raises:
            ValueError: if the file holds no mapping, or as :meth:`from_dict`; the message
                names the file.
        """
        try:
            return cls.from_dict(read_yaml(path))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @classmethod
    def for_features(
        cls,
        settings: "LESConfig | Mapping[str, Any] | None",
        n_features: int,
        also: Collection[str] = (),
        several_channels: bool = False,
        unused: Collection[str] = UNUSED,
    ) -> "LESConfig":
        """Make the configuration of a model that reads charges from ``n_features`` features.

        Args:
            settings: a configuration, or a dictionary of fields except those that follow from the
                model; ``element_charges`` is true unless given.
            n_features: number of features that charges are read from.
            also: further keys that ``settings`` may hold, and that are ignored.
            several_channels: whether the model supports more than one charge per atom.
            unused: fields that have no effect on the model.

        Raises:
            ValueError: for unknown keys, those that follow from the model, values that are out
                of range, and more channels than the model supports.
            TypeError: for ``settings`` of another type.
        """
        if isinstance(settings, LESConfig):
            settings = settings.settings()
        settings = {} if settings is None else settings
        if not isinstance(settings, Mapping):
            raise TypeError(
                "the settings of LES must be a LESConfig, a mapping or None, got "
                f"{type(settings).__name__}"
            )
        for name in FROM_THE_MODEL:
            if name in settings:
                raise ValueError(f"`{name}` follows from the model and cannot be set")
        known = {field.name for field in fields(cls)} - set(FROM_THE_MODEL)
        refuse_unknown(settings, known | set(also))
        own = {name: value for name, value in settings.items() if name in known}
        refuse_unused(own, cls().to_dict(), unused)
        if not several_channels:
            refuse_unused(own, cls().to_dict(), ("n_channels",))
        refuse_without_effect(own)
        own = {"element_charges": True, **own}
        return cls(**own, use_atomwise=True, n_features=n_features)

    @classmethod
    def for_charges(
        cls,
        settings: "LESConfig | Mapping[str, Any] | str | Path | None",
        unused: Collection[str] = UNUSED,
    ) -> "LESConfig":
        """Make the configuration of a model that predicts charges itself and passes them.

        Args:
            settings: as for :meth:`resolve`; fields that only ``les.ChargeReadout`` uses must
                have their defaults.
            unused: further fields that have no effect on the model.

        Raises:
            ValueError: for fields without effect that differ from their defaults, and as
                :meth:`from_legacy`.
            TypeError: for ``settings`` of another type.
        """
        if isinstance(settings, (str, Path)):
            settings = cls.resolve(settings)
        given = settings.to_dict() if isinstance(settings, LESConfig) else settings
        if isinstance(given, Mapping):
            refuse_unused(given, cls().to_dict(), (*OF_THE_READOUT, *unused))
        return cls.resolve(settings)

    @classmethod
    def resolve(cls, config: "LESConfig | Mapping[str, Any] | str | Path | None") -> "LESConfig":
        """Make a configuration from any argument of ``les.Les``; dicts as :meth:`from_legacy`."""
        if config is None:
            return cls()
        if isinstance(config, LESConfig):
            return config
        if isinstance(config, (str, Path)):
            try:
                return cls.from_legacy(read_yaml(config))
            except ValueError as error:
                raise ValueError(f"{config}: {error}") from error
        if not isinstance(config, Mapping):
            raise TypeError(
                "the configuration must be a LESConfig, a mapping, the path of a YAML file or "
                f"None, got {type(config).__name__}"
            )
        return cls.from_legacy(config)

    def to_dict(self) -> dict[str, Any]:
        """Plain values that :meth:`from_dict` and YAML read back."""
        values = asdict(self)
        if isinstance(self.n_hidden, tuple):
            values["n_hidden"] = list(self.n_hidden)
        return values

    def sum_settings(self) -> dict[str, Any]:
        """Arguments of ``les.Ewald``."""
        return {name: getattr(self, name) for name in SUM_FIELDS}

    def settings(self) -> dict[str, Any]:
        """Plain values that :meth:`for_features` reads back."""
        values = self.to_dict()
        return {name: value for name, value in values.items() if name not in FROM_THE_MODEL}

    def settings_for_charges(self) -> dict[str, Any]:
        """Plain values that :meth:`for_charges` reads back."""
        values = self.settings()
        return {name: value for name, value in values.items() if name not in OF_THE_READOUT}
