"""Paired trainings with and without LES, and what is measured of their models."""
