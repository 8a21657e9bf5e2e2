"""Test classes that every adapter passes, with ASE calculators as the only interface.

An adapter's test module subclasses :class:`AdapterTests` under a name that pytest collects
and defines the fixtures of :class:`Adapter`::

    class TestMACE(AdapterTests):
        @pytest.fixture
        def calculator(self):
            return make_calculator

This package needs pytest and ASE (``pip install "les[test]"``); ``import les`` does not
load it.
"""

from __future__ import annotations

import pytest

# Before the modules are imported, so that a failing assert shows its values.
for _name in (
    "bad_input",
    "batches",
    "charge_start",
    "charge_state_training",
    "charge_states",
    "charged_training",
    "charges_first",
    "derivatives",
    "external_field",
    "external_field_training",
    "features",
    "field",
    "free_charges",
    "missing",
    "moments",
    "neighbours",
    "other_sign",
    "response",
    "response_training",
    "results",
    "settled_energies",
    "short_range",
    "slabs",
    "symmetry",
    "total_charge",
    "training",
    "training_log",
    "unused_settings",
):
    pytest.register_assert_rewrite(f"{__name__}.{_name}")

from les.testing.adapter import Adapter  # noqa: E402
from les.testing.bad_input import BadInputTests  # noqa: E402
from les.testing.batches import BatchTests  # noqa: E402
from les.testing.charge_start import ChargeStartTests  # noqa: E402
from les.testing.charge_state_training import ChargeStateTrainingTests  # noqa: E402
from les.testing.charge_states import ChargeStateTests  # noqa: E402
from les.testing.charged_training import ChargedTrainingTests  # noqa: E402
from les.testing.charges_first import ChargesFirstTests  # noqa: E402
from les.testing.derivatives import DerivativeTests  # noqa: E402
from les.testing.equilibration import EquilibrationTests  # noqa: E402
from les.testing.external_field import ExternalFieldTests  # noqa: E402
from les.testing.external_field_training import (  # noqa: E402
    FieldTrainingTests,
    NoFieldTrainingTests,
)
from les.testing.features import FeatureTests  # noqa: E402
from les.testing.field import FieldTests  # noqa: E402
from les.testing.free_charges import FreeChargesTests  # noqa: E402
from les.testing.missing import MissingUpstreamTests  # noqa: E402
from les.testing.moments import MomentTests  # noqa: E402
from les.testing.neighbours import NeighbourTests  # noqa: E402
from les.testing.other_sign import OtherSignTests  # noqa: E402
from les.testing.response import ResponseTests  # noqa: E402
from les.testing.response_training import ResponseTrainingTests  # noqa: E402
from les.testing.results import ResultTests  # noqa: E402
from les.testing.settled_energies import SettledEnergiesTests  # noqa: E402
from les.testing.short_range import ShortRangeTests  # noqa: E402
from les.testing.slabs import SlabTests  # noqa: E402
from les.testing.symmetry import SymmetryTests  # noqa: E402
from les.testing.total_charge import TotalChargeTests  # noqa: E402
from les.testing.training import TrainingTests  # noqa: E402
from les.testing.training_log import TrainingLogTests  # noqa: E402
from les.testing.unused_settings import UnusedSettingsTests  # noqa: E402

__all__ = [
    "Adapter",
    "AdapterTests",
    "BadInputTests",
    "BatchTests",
    "ChargeStartTests",
    "ChargeStateTests",
    "ChargeStateTrainingTests",
    "ChargedTrainingTests",
    "ChargesFirstTests",
    "DerivativeTests",
    "EquilibrationTests",
    "ExternalFieldTests",
    "FeatureTests",
    "FieldTests",
    "FieldTrainingTests",
    "FreeChargesTests",
    "MissingUpstreamTests",
    "MomentTests",
    "NeighbourTests",
    "NoFieldTrainingTests",
    "OtherSignTests",
    "ResponseTests",
    "ResponseTrainingTests",
    "ResultTests",
    "SettledEnergiesTests",
    "ShortRangeTests",
    "SlabTests",
    "SymmetryTests",
    "TotalChargeTests",
    "TrainingLogTests",
    "TrainingTests",
    "UnusedSettingsTests",
]


class AdapterTests(
    SymmetryTests,
    DerivativeTests,
    ResponseTests,
    FieldTests,
    ResultTests,
    ShortRangeTests,
    BatchTests,
    NeighbourTests,
    BadInputTests,
):
    """All shared tests except :class:`SlabTests`, which are for adapters that support slabs."""
