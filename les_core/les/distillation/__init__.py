"""Light students of slow teachers: configurations, labels, training and evaluation by one command.

A teacher is anything that gives energies and forces of structures: a foundation model, a
semiempirical method, a trained model. A student is a model of one of the backends, with or without
LES, which learns the labels of the teacher. Everything between them is a file of structures.
"""
