"""The name under which packages of NequIP and Allegro models from earlier releases look for this."""

from les.response.phase import phase_evaluation

__all__ = ["phase_evaluation"]
