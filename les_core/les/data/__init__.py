"""Structures and labels in files, and what they have to be."""
