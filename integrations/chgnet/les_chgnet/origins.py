"""Where models with charges come from, and how they are stored: the outset of ``CHGNetLES``."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from chgnet.model import CHGNet
from chgnet.utils import determine_device

from les import Les, LESConfig
from les.legacy import stored_settings
from les.versions import mark, read_mark
from les_chgnet.atomic_energies import AtomicEnergies
from les_chgnet.model_arguments import plain_dict
from les_chgnet.stored import FORMAT, KIND, has_charges, read_checkpoint, restored
from les_chgnet.weights import load_pretrained, load_weights

if TYPE_CHECKING:
    from typing_extensions import Self


class StoredCHGNet(CHGNet):
    """The part of ``CHGNetLES`` that makes models of others, of files and of dictionaries.

    Attributes:
        les: the long-range part.
        composition_model: reference energies, if there are any.
    """

    les: Les
    composition_model: AtomicEnergies | None

    @classmethod
    def from_short_range(
        cls, model: CHGNet, les_arguments: LESConfig | Mapping[str, Any] | None = None
    ) -> Self:
        """A trained ``CHGNet`` with charges added, which start small and random.

        Raises:
            TypeError: if ``model`` is not a ``CHGNet``, or has charges already.
            ValueError: as the constructor.
        """
        if not isinstance(model, CHGNet) or isinstance(model, cls):
            raise TypeError(f"`model` must be a short-range CHGNet, got {type(model).__name__}")
        parameter = next(model.parameters())
        # Upstream's constructor changes a module among its arguments.
        longer = cls(les_arguments=les_arguments, **copy.deepcopy(model.model_args))
        longer.to(parameter.device, parameter.dtype)
        longer.composition_model = AtomicEnergies.like(model.composition_model)
        longer.load_state_dict({**longer.state_dict(), **model.state_dict()})
        return longer

    @classmethod
    def from_pretrained(
        cls,
        name: str = "0.3.0",
        les_arguments: LESConfig | Mapping[str, Any] | None = None,
        *,
        device: str = "cpu",
    ) -> Self:
        """One of upstream's pretrained models, with charges added.

        Args:
            name: one of :data:`les_chgnet.weights.PRETRAINED`.
            les_arguments: as for the class.
            device: where the model is put.

        Raises:
            ValueError: for an unknown ``name``, and as the constructor.
        """
        return cls.from_short_range(load_pretrained(name, device), les_arguments)

    @classmethod
    def load(
        cls,
        *,
        model_name: str = "0.3.0",
        les_arguments: LESConfig | Mapping[str, Any] | None = None,
        use_device: str | None = None,
        **_: Any,
    ) -> Self:
        """As upstream's: :meth:`from_pretrained`, on upstream's choice of device."""
        device = determine_device(use_device)
        return cls.from_pretrained(model_name, les_arguments, device=device)

    @classmethod
    def from_file(
        cls, path: str, *, allow_pickle: bool = False, device: str | torch.device = "cpu"
    ) -> Self:
        """From a file with charges; arguments as for ``les_chgnet.load_model``.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: as ``load_model``, and for a model without charges.
        """
        content = read_checkpoint(path, allow_pickle=allow_pickle)
        if not has_charges(content):
            raise ValueError(f"{path} holds a model without charges; see `from_short_range`")
        return restored(cls.from_dict, content, path).to(device)

    @classmethod
    def from_dict(cls, dct: dict[str, Any], **kwargs: Any) -> Self:
        """From :meth:`as_dict`, in the precision of the weights."""
        arguments = dict(dct["model_args"])
        if arguments.get("les_arguments") is not None:
            _, version = read_mark(dct.get("format", f"{FORMAT}/1"), (FORMAT,), "the file", KIND)
            arguments["les_arguments"] = stored_settings(arguments["les_arguments"], version)
        return load_weights(cls(**arguments, **kwargs), dct["state_dict"])

    def todict(self) -> dict[str, Any]:
        """Name and arguments, for the trajectory files of ASE."""
        return {"model_name": type(self).__name__, "model_args": self.as_dict()["model_args"]}

    def as_dict(self) -> dict[str, Any]:
        """Weights and arguments, plain values that ``from_dict`` takes."""
        content = plain_dict(super().as_dict())
        content["model_args"]["les_arguments"] = self.les.config().settings()
        return {"format": mark(FORMAT), **content}
