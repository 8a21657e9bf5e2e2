"""What follows from Born effective charges: infrared spectra, fields, phonons.

``les ir`` and ``les born`` are the commands. These modules need ASE, and some of them
``pip install "les[spectra]"``.
"""
