"""What follows from charges: dipoles, Born effective charges, and the sign of it all."""
