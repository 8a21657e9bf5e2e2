"""The command ``les``."""

from les.cli.command import main

__all__ = ["main"]
