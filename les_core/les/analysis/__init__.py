"""Looking at the charges of a model: the command ``les analyse``."""

from les.analysis.charges import ChargeAnalysis, analyse_charges
from les.analysis.environments import environments

__all__ = ["ChargeAnalysis", "analyse_charges", "environments"]
