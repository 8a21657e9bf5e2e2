"""Architectures that LES is added to: their interface, and what their adapters share."""

from les.backends.interface import Backend, BackendError
from les.backends.job import EpochRecord, TrainingJob
from les.backends.models import backend_of, model_path, shipped_models
from les.backends.registry import (
    ENTRY_POINT_GROUP,
    backend_names,
    config_path,
    get_backend,
    lazy_attribute,
)

__all__ = [
    "ENTRY_POINT_GROUP",
    "Backend",
    "BackendError",
    "EpochRecord",
    "TrainingJob",
    "backend_names",
    "backend_of",
    "config_path",
    "get_backend",
    "lazy_attribute",
    "model_path",
    "shipped_models",
]
