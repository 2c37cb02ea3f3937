"""``danetc search``: Optuna selects the cells of a grid one after the other."""
