"""Functions that charges are expanded in: plane waves, and the splines of a mesh."""
