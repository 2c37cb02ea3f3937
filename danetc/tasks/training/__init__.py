"""``danetc train``: training of a network by a recipe, and the records of the run.

The loop over epochs and steps is in ``danetc.runtime.training``.
"""
