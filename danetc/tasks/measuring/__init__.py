"""``danetc measure`` and ``danetc.measure``: firing rates, gradients and energy of a model.

=============== ==================================================================
measure.py      a network measured on a data set, for Python and the command line
measurement.py  the result, with tables of pandas and figures
layout.py       what of a graph is measured
data.py         the network of a run or a file, and batches of a data set
tables.py       measures as tables, and measures.json
=============== ==================================================================

The measures themselves are ``danetc.runtime.measure``.
"""
