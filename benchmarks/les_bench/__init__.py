"""Benchmarks of short-range models with and without latent Ewald summation."""
