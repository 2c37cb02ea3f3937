"""`danetc search`: Optuna chooses the cells of a grid, one trial after the other.

========== ==================================================================
space.py   what is searched: choices and ranges
study.py   THE samplers and pruners; the trials in ``search.db``, through Optuna
loop.py    trials from being drawn to their results, as many at a time as an engine takes
results.py the trials, read back, and the front of accuracy against operations
shown.py   the trials as a table and as a figure
call.py    ``danetc.search``
========== ==================================================================
"""
