"""Old import paths of published LES, only so that existing pickled models load."""
