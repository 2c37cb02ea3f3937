"""``danetc train``: a network trained by a recipe, and what is kept of it.

The loop over epochs and steps is in ``danetc.runtime.training``.
"""
