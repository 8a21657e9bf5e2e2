"""How ``les.Les`` is built from a configuration, and built again from files and pickles."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from les.config import LESConfig
from les.config_checks import OF_MULTIPOLES
from les.element_baselines import N_ATOMIC_NUMBERS, ElementPolarisabilities, OxidationStates
from les.ewald import Ewald
from les.legacy import settings_of_pickle
from les.neutrality import UNSAID_NEUTRALITY
from les.readout import ChargeReadout
from les.settings_buffer import SETTINGS, check_same_readout, decode, encode

logger = logging.getLogger("les")


class Configured(nn.Module):
    """The part of ``les.Les`` that holds its configuration, and what is built from it.

    Attributes:
        atomwise: the charge readout, if there is one.
        ewald: the sum.
    """

    def __init__(
        self,
        les_arguments: LESConfig | Mapping[str, Any] | str | Path | None = None,
        *,
        host_embeds: bool = False,
    ) -> None:
        super().__init__()
        config = LESConfig.resolve(les_arguments)
        if config.embedded and not host_embeds:
            raise ValueError(
                f"`embed_{config.embedded[0]}` has no effect: this model embeds nothing in its "
                "features, leave it out"
            )
        self._build(config)

    def _build(self, config: LESConfig) -> None:
        self.atomwise: ChargeReadout | None = None
        if config.use_atomwise:
            self.atomwise = ChargeReadout.of(config, N_ATOMIC_NUMBERS)
        self.atomic_alpha: ElementPolarisabilities | None = None
        if config.use_atomic_alpha:
            self.atomic_alpha = ElementPolarisabilities()
        self._apply_settings(config)

    def _apply_settings(self, config: LESConfig) -> None:
        """Take over all that is not a parameter."""
        self.remove_mean = config.remove_mean
        self.epsilon_factor = float(config.epsilon_factor)
        self.neutrality = config.neutrality
        self.charge_equilibration = config.charge_equilibration
        self.external_field = config.external_field
        moments = (*OF_MULTIPOLES, "use_atomic_alpha")
        self.multipoles = any(getattr(config, name) for name in moments)
        present = self._buffers.get(SETTINGS)
        device = None if present is None else present.device
        states: OxidationStates | None = getattr(self, "fixed_charges", None)
        if not config.use_fixed_atomic_charges:
            states = None
        elif states is None:
            states = OxidationStates().to(device)
        if states is not None:
            states.factor = float(config.fixed_atomic_charges_scaling_factor)
        self.fixed_charges: OxidationStates | None = states
        self.ewald = Ewald(**config.sum_settings())
        if self.atomwise is not None:
            self.atomwise.output_scaling_factor = config.output_scaling_factor
        self.register_buffer(SETTINGS, encode(config).to(device))

    @torch.jit.unused
    def config(self) -> LESConfig:
        """The configuration this module was built from, or was loaded with."""
        return decode(self.get_buffer(SETTINGS))

    @torch.jit.unused
    def set_trained_sign(self) -> None:
        """Say that the charges have the sign of what the model is trained on."""
        self._apply_settings(dataclasses.replace(self.config(), sign="trained"))

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        key = prefix + SETTINGS
        if key in state_dict:
            loaded, own = decode(state_dict[key]), self.config()
            check_same_readout(loaded, own)
            if loaded != own:
                logger.info("settings of the loaded state replace those given: %s", loaded)
            self._apply_settings(loaded)
        state_dict[key] = self.get_buffer(SETTINGS)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def __setstate__(self, state: dict[str, Any]) -> None:
        if SETTINGS in state["_buffers"]:
            # Pickles of earlier releases have none of these attributes and modules.
            unsaid: dict[str, Any] = {
                "neutrality": UNSAID_NEUTRALITY,
                "charge_equilibration": False,
                "multipoles": False,
                "external_field": False,
            }
            for name in ("fixed_charges", "atomic_alpha"):
                if name not in state["_modules"]:
                    unsaid[name] = None
            super().__setstate__({**unsaid, **state})
            return
        # A pickle of published LES: its flags stay as they are, its modules become ours.
        settings = settings_of_pickle(state)
        nn.Module.__init__(self)
        self.training = state["training"]
        self._build(LESConfig(**settings))
