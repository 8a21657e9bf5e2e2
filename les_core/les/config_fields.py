"""Groups of the fields of ``les.LESConfig``, by what reads them."""

from les.config_checks import OF_ELEMENTS, OF_FIELDS, OF_MULTIPOLES

#: Fields that ``les.Ewald`` is built from.
SUM_FIELDS = (
    "sigma",
    "dl",
    "method",
    "cutoff",
    "remove_self_interaction",
    "norm_factor",
    "accuracy",
    "spacing",
    "order",
)

#: Fields that follow from the model where charges are read from its features.
FROM_THE_MODEL = ("use_atomwise", "n_features")

#: Fields that ``les.ChargeReadout`` alone reads: without effect on models whose charges come from
#: elsewhere.
OF_THE_READOUT = (
    "n_features",
    "n_channels",
    "n_layers",
    "n_hidden",
    "add_linear_nn",
    "element_charges",
    "output_scaling_factor",
)

#: Fields that have no effect on a model, unless it says otherwise.
UNUSED = (*OF_MULTIPOLES, *OF_ELEMENTS, *OF_FIELDS)
