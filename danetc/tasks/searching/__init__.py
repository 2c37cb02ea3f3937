"""``danetc search``: Optuna chooses the cells of a grid, one trial after the other."""
