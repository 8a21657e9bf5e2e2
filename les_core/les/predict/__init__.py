"""Evaluating calculators on files of structures: the command ``les predict``."""

from les.predict.evaluate import Prediction, predict

__all__ = ["Prediction", "predict"]
