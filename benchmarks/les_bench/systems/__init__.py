"""The systems that models are compared on, and where their data come from."""
