"""Import paths of published LES, for code and pickled models that refer to them."""

from les.ewald import Ewald
from les.module.bec import BEC

__all__ = ["BEC", "Ewald"]
