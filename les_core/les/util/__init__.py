"""Old import path of published LES."""

from les.util.grad import grad

__all__ = ["grad"]
