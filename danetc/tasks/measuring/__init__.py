"""``danetc measure`` and ``danetc.measure``: firing rates, gradients and energy of a model.

=========== ======================================================================
measure.py  what of a graph is measured, and the measuring of a model
data.py     what the command measures on: a run or a file, and batches of a data set
tables.py   measures as tables
=========== ======================================================================

The measures themselves are ``danetc.runtime.measure``.
"""
