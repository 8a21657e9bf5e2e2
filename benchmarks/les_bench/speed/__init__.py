"""What sums and responses cost, beside plain evaluations and other packages."""
