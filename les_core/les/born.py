"""An earlier import path, which packages of NequIP and Allegro models name."""

from les.response.phase import phase_evaluation

__all__ = ["phase_evaluation"]
