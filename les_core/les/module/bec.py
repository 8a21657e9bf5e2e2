"""Placeholder for a module of published LES; see ``les.les.Les.__setstate__``."""

from torch import nn


class BEC(nn.Module):
    """Holds what the pickle carried; its settings are taken over when a model is loaded."""
