"""Kernels in C for a CPU, compiled where they are first needed and kept for later processes.

They do in one pass over the atoms what takes many operations of torch, and give the same results
but for rounding. Without a C compiler, or with the environment variable ``LES_NATIVE=0``, torch
does it all.
"""
