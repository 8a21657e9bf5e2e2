"""What pages say that are made from the code otherwise."""

from pathlib import Path


def text(name: str) -> str:
    """The text in a file of this folder."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8")
