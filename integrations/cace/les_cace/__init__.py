"""CACE with LES: the representation, models on it, their calculator and files."""

from les_cace.calculator import LESCalculator
from les_cace.checkpoint import load_model, save_model
from les_cace.convert import convert
from les_cace.model import CACE
from les_cace.representation import Representation

__all__ = ["CACE", "LESCalculator", "Representation", "convert", "load_model", "save_model"]
