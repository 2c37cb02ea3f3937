"""``danetc compare``: a grid of trainings, from axes to tables and figures.

=============== ==================================================================
cells.py        specs, axes and the cells that their values make
plan.py         what each cell will be, checked against what is already trained
run.py          the cells' trainings, so many at a time
attempt.py      one of them under way, and what an engine is
engines.py      the engines: local.py (this machine), ray_cluster.py (a cluster)
process.py      one of them, in a process of its own
show.py         the progress of the grid
comparison.py   all of it, from the command's arguments to trained cells
results.py      the results: a row for each cell, read from its folder
table.py        the rows as tables
plot.py         the rows as figures
=============== ==================================================================
"""
