"""The names of ``les.backends`` under the path by which earlier adapters import them."""

from les.backends import *  # noqa: F403
from les.backends import __all__ as __all__
