"""What training commands share where upstream has none of its own.

``backend`` is the interface of such backends, with the options of ``arguments`` and the results
in ``files``. ``loaders`` makes batches of the data, ``composition`` fits reference energies,
``errors`` and ``history`` keep what came out, and ``loop`` trains a model that has no trainer of
its own.
"""
