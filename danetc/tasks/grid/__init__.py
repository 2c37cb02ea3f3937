"""``danetc compare``: a grid of trainings, from axes to tables and figures.

=============== ==================================================================
cells.py        networks and axes, and the cells that they make
plan.py         the runs of the cells, checked against what is already trained
comparison.py   all of it, from a request to trained cells; ``danetc.compare``
run.py          a run from start to outcome; several at a time, and their progress
engines.py      the engines: processes of this machine, or a Ray cluster
process.py      the process of a run
results.py      the results: a row for each cell, read from its folder
table.py        the rows as tables
plot.py         the rows as figures
=============== ==================================================================
"""
