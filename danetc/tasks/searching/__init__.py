"""``danetc search``: Optuna chooses the cells of a grid, one trial after the other.

========== ==================================================================
space.py   the dimensions: choices and ranges
study.py   the samplers, the pruners and the storage of Optuna
search.py  trials from being drawn to their results; ``danetc.search``
results.py the trials, read back, as a table and as a figure
========== ==================================================================
"""
