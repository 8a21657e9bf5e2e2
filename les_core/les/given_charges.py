"""Latent charges that a host model passes, or features to read them from."""

from __future__ import annotations

from torch import Tensor

from les.configured import Configured


class GivenCharges(Configured):
    """The part of ``les.Les`` that takes charges; arguments and errors are those of its forward."""

    def _charges(
        self, latent_charges: Tensor | None, desc: Tensor | None, atomic_numbers: Tensor | None
    ) -> Tensor:
        """Latent charges with those of elements, where the model adds them."""
        charges = self._read_charges(latent_charges, desc, atomic_numbers)
        fixed = self.fixed_charges
        if fixed is not None:
            if atomic_numbers is None:
                raise ValueError(
                    "`use_fixed_atomic_charges` needs `atomic_numbers`, which the model does not "
                    "pass"
                )
            charges = fixed(charges, atomic_numbers)
        return charges

    def _read_charges(
        self, latent_charges: Tensor | None, desc: Tensor | None, atomic_numbers: Tensor | None
    ) -> Tensor:
        if latent_charges is not None:
            return latent_charges
        if desc is None:
            raise ValueError("one of `latent_charges` and `desc` must be given, got neither")
        if self.atomwise is None:
            raise ValueError(
                "`desc` needs a charge readout: configure `use_atomwise` and `n_features`, "
                "or pass `latent_charges`"
            )
        return self.atomwise(desc, atomic_numbers)
