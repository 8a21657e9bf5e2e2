"""What the values of a configuration may be, alone and together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from les.keys import refuse_unused
from les.neutrality import NEUTRALITIES
from les.ranges import RANGES, check_number
from les.sums.reciprocal.accuracy import CUTOFFS, METHODS

#: What is known of the common sign of all charges.
SIGNS = ("open", "trained")

#: Fields without effect where charges are not equilibrated.
OF_EQUILIBRATION = ("equilibration_tolerance", "equilibration_iterations")

#: Fields of models that pass multipoles and responses to ``les.Les``.
OF_MULTIPOLES = (
    "use_dipole",
    "use_quadrupole",
    "use_induced_charge",
    "use_induced_dipole",
    "use_anisotropic_polarizability",
    "self_consistent",
)

#: Fields of models that are given the external field of a structure.
OF_FIELDS = ("external_field",)

#: Fields of what is added for each element; models say whether they know the elements of atoms.
OF_ELEMENTS = (
    "use_fixed_atomic_charges",
    "fixed_atomic_charges_scaling_factor",
    "use_atomic_alpha",
)


def check_values(values: Mapping[str, Any]) -> None:
    """Check numbers that have a range, and names that are one of several.

    Args:
        values: the values of all fields of ``les.LESConfig``.

    Raises:
        ValueError: for another value; the message names it.
    """
    for name in RANGES:
        if name in values:
            check_number(name, values[name])
    for name, choices in (
        ("method", METHODS),
        ("cutoff", CUTOFFS),
        ("sign", SIGNS),
        ("neutrality", NEUTRALITIES),
    ):
        if values[name] not in choices:
            raise ValueError(f"`{name}` must be one of {choices}, got {values[name]!r}")


def check_agreement(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Check switches and counts, and that no field contradicts another or is without effect.

    Args:
        values: the values of all fields of ``les.LESConfig``.
        defaults: what they are unless they are given.

    Raises:
        ValueError: for the first that is wrong; the message names it.
    """
    for name in (
        "remove_self_interaction",
        "remove_mean",
        "use_atomwise",
        "add_linear_nn",
        "element_charges",
        "charge_equilibration",
        "embed_total_charge",
        "embed_spin",
        "use_fixed_atomic_charges",
        "use_atomic_alpha",
        *OF_MULTIPOLES,
        *OF_FIELDS,
    ):
        if not isinstance(values[name], bool):
            raise ValueError(f"`{name}` must be true or false, got {values[name]!r}")
    if not values["charge_equilibration"]:
        refuse_unused(values, defaults, OF_EQUILIBRATION)
    if values["charge_equilibration"]:
        for name in (*OF_MULTIPOLES, "use_fixed_atomic_charges", "use_atomic_alpha"):
            if values[name]:
                raise ValueError(f"`{name}` must be false with `charge_equilibration`, got True")
    if values["use_anisotropic_polarizability"] and not values["use_induced_dipole"]:
        raise ValueError(
            "`use_anisotropic_polarizability` needs `use_induced_dipole`, without which there are "
            "no polarisabilities, got True"
        )
    published = values["use_induced_charge"] and not values["self_consistent"]
    if published and values["neutrality"] == "shift":
        raise ValueError(
            "`use_induced_charge` needs `self_consistent` with `neutrality` 'shift': induced "
            "charges of the published formulas do not sum to zero, got False"
        )
    if values["use_fixed_atomic_charges"] and values["n_channels"] != 1:
        raise ValueError(
            f"`n_channels` must be 1 with `use_fixed_atomic_charges`, got {values['n_channels']}"
        )
    if not values["use_fixed_atomic_charges"]:
        refuse_unused(values, defaults, ("fixed_atomic_charges_scaling_factor",))
    if values["self_consistent"] and not (
        values["use_induced_charge"] or values["use_induced_dipole"]
    ):
        raise ValueError(
            "`self_consistent` needs `use_induced_charge` or `use_induced_dipole`, without which "
            "it has no effect, got True"
        )
    if values["neutrality"] == "shift" and not values["remove_mean"]:
        raise ValueError(
            "`remove_mean` must be true with `neutrality` 'shift', the default, which takes "
            "the mean off all charges, got False; they keep it with `neutrality: none`"
        )
    if values["embed_total_charge"] and values["neutrality"] != "shift":
        raise ValueError(
            "`embed_total_charge` needs charges that sum to the total charge, `neutrality` "
            f"'shift', got {values['neutrality']!r}"
        )
    if values["embed_total_charge"] and values["n_channels"] != 1:
        raise ValueError(
            "`embed_total_charge` needs one charge on each atom: nothing says how a total "
            f"charge is divided among `n_channels` = {values['n_channels']}"
        )
    if values["external_field"]:
        _check_field(values)
    hidden = values["n_hidden"] if isinstance(values["n_hidden"], tuple) else (values["n_hidden"],)
    if values["charge_equilibration"]:
        _check_equilibration(values)
    widths = [("n_channels", values["n_channels"]), ("n_layers", values["n_layers"])]
    widths += [("equilibration_iterations", values["equilibration_iterations"])]
    widths += [("n_hidden", width) for width in hidden]
    if values["n_features"] is not None:
        widths.append(("n_features", values["n_features"]))
    for name, width in widths:
        if isinstance(width, bool) or not isinstance(width, int) or width < 1:
            raise ValueError(f"`{name}` must be a positive integer, got {width!r}")
    if values["use_atomwise"] and values["n_features"] is None:
        raise ValueError(
            "`n_features` must be given with `use_atomwise`: the charge readout is built "
            "at construction, so that optimisers see its parameters"
        )
    if values["n_channels"] > 1 and not values["use_atomwise"]:
        raise ValueError(
            "`n_channels` is of the charge readout, `use_atomwise`; latent charges that the "
            "host model passes have their own number of channels"
        )
    if values["element_charges"] and not values["use_atomwise"]:
        raise ValueError(
            "`element_charges` is of the charge readout, `use_atomwise`; it has no effect on "
            "latent charges that the host model passes, and must be false"
        )


def _check_equilibration(values: Mapping[str, Any]) -> None:
    if values["neutrality"] != "shift":
        raise ValueError(
            "`neutrality` must be 'shift' with `charge_equilibration`, whose charges sum to "
            f"the total charge, got {values['neutrality']!r}"
        )
    if values["n_channels"] != 1:
        raise ValueError(
            "`n_channels` must be 1 with `charge_equilibration`, whose charges are physical, "
            f"got {values['n_channels']}"
        )


def _check_field(values: Mapping[str, Any]) -> None:
    if values["neutrality"] != "shift":
        raise ValueError(
            "`neutrality` must be 'shift' with `external_field`: the energy of a neutral structure "
            f"in a field would depend on the origin, got {values['neutrality']!r}"
        )
    if values["n_channels"] != 1:
        raise ValueError(
            "`n_channels` must be 1 with `external_field`, which acts on physical charges, got "
            f"{values['n_channels']}"
        )
    induced = values["use_induced_charge"] or values["use_induced_dipole"]
    if induced and not values["self_consistent"]:
        raise ValueError(
            "`self_consistent` must be true with `external_field` and induced moments: those of "
            "the published formulas have no energy in a field, got False"
        )


def refuse_without_effect(values: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` for what is said about charge equilibration and has no effect."""
    wanted = values.get("charge_equilibration", False)
    if wanted is True and values.get("remove_self_interaction", False):
        raise ValueError(
            "`remove_self_interaction` must be false with `charge_equilibration`, or left out: "
            "without the interaction of charges with themselves their energy has no minimum"
        )
