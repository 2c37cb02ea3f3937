"""``danetc train``: a network trained by a recipe, and what is kept of it.

================== ===============================================================
request.py         the checked plan of a training, as data
plan.py            a request made into a checked plan: network, recipe, data, seeds
trials.py          the plan executed: trials, their phases, how a run is resumed
directory.py       the directory of a run: opened, locked, compared, written
provenance.py      the facts of a run that run.json notes
tensorboard.py     the curves for TensorBoard
progress.py        the progress of a training
printing.py        its results, as tables
train.py           `danetc.train`, from Python
callbacks.py       what it calls between steps and epochs
repeat.py          a run repeated from its run.json
dry_run.py         the plan of a training and its time, with nothing written
================== ===============================================================

The loop over epochs and steps is ``danetc.runtime.training``.
"""
