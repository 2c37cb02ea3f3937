"""`danetc import`: models and graphs of other libraries as specs, with their weights."""
