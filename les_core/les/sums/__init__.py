"""How the electrostatic sum is evaluated: methods, what they share, and who chooses them."""
