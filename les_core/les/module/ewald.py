"""Old path of :class:`les.ewald.Ewald`."""

from les.ewald import Ewald

__all__ = ["Ewald"]
