"""LES for models of an installed ``cace``: a module for their ``output_modules``."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from les import Les, LESConfig
from les.backends import BackendError

#: What only the package of the potentials has.
SYMBOL = ("cace.models.atomistic", "NeuralNetworkPotential")


def require_upstream() -> Any:
    """Upstream's ``NeuralNetworkPotential``.

    Raises:
        BackendError: if the package is not installed, or is the program of the same name.
    """
    module_name, name = SYMBOL
    try:
        return getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        if isinstance(error, ModuleNotFoundError) and not f"{error.name}.".startswith("cace."):
            raise BackendError(f"cace is installed, but its import needs {error.name!r}") from error
        try:
            importlib.import_module("cace")
        except ImportError:
            raise BackendError(
                "cace is not installed; it is on no index: install it from its repository"
            ) from error
        raise BackendError(
            f"the installed `cace` is another program (it has no {module_name}.{name}): the "
            "potentials are on no index, the name there belongs to a tool for circuits"
        ) from error


class LESModule(nn.Module):
    """Charges and their energy, in upstream's dictionary of data.

    Put it into ``NeuralNetworkPotential(output_modules=[...])`` after the readout of the
    short-range energy, add ``energy_key`` to what is summed, and take the forces of the sum.
    All its weights exist from construction, so that an optimiser made at any time has them.

    Args:
        n_features: number of features of an atom, all axes of ``feature_key`` together.
        les_arguments: a ``LESConfig``, or a dictionary of its fields.
        periodic: boundary condition of structures where the data do not hold ``pbc``; upstream
            gives molecules in a box another, large cell.
        feature_key, charge_key, energy_key, total_charge_key: names in the data.

    Raises:
        ValueError: for bad ``les_arguments``.
    """

    def __init__(
        self,
        n_features: int,
        les_arguments: LESConfig | Mapping[str, Any] | None = None,
        *,
        periodic: bool | None = None,
        feature_key: str = "node_feats",
        charge_key: str = "LES_charge",
        energy_key: str = "ewald_potential",
        total_charge_key: str = "total_charge",
    ) -> None:
        super().__init__()
        config = LESConfig.for_features(les_arguments, n_features, several_channels=True)
        self.les = Les(config)
        self.periodic = periodic
        self.feature_key, self.charge_key, self.energy_key = feature_key, charge_key, energy_key
        self.total_charge_key = total_charge_key
        self.model_outputs = [charge_key, energy_key]
        self.required_derivatives = ["positions"]

    def forward(
        self, data: dict[str, Tensor], training: bool = False, **_: Any
    ) -> dict[str, Tensor]:
        """Add charges [e] and energies [eV].

        With ``neutrality`` ``"shift"`` charges sum to ``total_charge_key`` ``[n_structures]`` [e],
        zero where the data do not hold it.

        ``charge_key`` is ``[n_atoms]``, with several channels ``[n_atoms, n_channels]``, and
        ``energy_key`` ``[n_structures]``. With ``element_charges``, the default of a dictionary,
        ``atomic_numbers`` are read from the data, where upstream has them.

        Raises:
            ValueError: for data without ``atomic_numbers`` where they are needed, without ``pbc``
                if ``periodic`` does not say what they are, and as ``les.Les``.
        """
        positions, cell = data["positions"], data["cell"].view(-1, 3, 3)
        if "pbc" in data:
            pbc = data["pbc"].view(-1, 3).bool()
        elif self.periodic is not None:
            pbc = torch.full((len(cell), 3), self.periodic, device=cell.device)
        else:
            raise ValueError(
                "the data hold no `pbc`: put it there, or construct LESModule with `periodic`, "
                "true for crystals and false for molecules"
            )
        total_charge = None
        if self.les.neutrality != "none" and self.total_charge_key in data:
            total_charge = data[self.total_charge_key].view(-1)
        numbers = data.get("atomic_numbers")
        assert self.les.atomwise is not None
        if numbers is None and self.les.atomwise.of_elements is not None:
            raise ValueError(
                "the data hold no `atomic_numbers`, which `element_charges` needs: put them there, "
                "or construct LESModule with `element_charges` false"
            )
        out = self.les(
            positions,
            cell,
            desc=data[self.feature_key].flatten(1),
            atomic_numbers=numbers,
            batch=data["batch"],
            pbc=pbc,
            total_charge=total_charge,
        )
        charges, energy = out["latent_charges"], out["E_lr"]
        assert charges is not None and energy is not None
        data[self.charge_key] = charges.squeeze(-1)
        data[self.energy_key] = energy
        return data
