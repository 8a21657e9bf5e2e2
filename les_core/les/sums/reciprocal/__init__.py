"""What k-points are weighted with: the lattice, the cutoff, Green's functions, accuracy."""
