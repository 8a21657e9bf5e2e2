"""What training commands share where upstream has none of its own.

``shuffle``, ``errors``, ``composition`` and ``arguments`` stand alone; ``loop`` trains a model
that has no trainer of its own.
"""
