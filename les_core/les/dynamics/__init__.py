"""Molecular dynamics on ASE that goes on after whatever ends it.

``les md`` is the command; ``les ir run`` moves atoms by the same functions. These modules need ASE.
"""
