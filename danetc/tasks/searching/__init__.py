"""``danetc search``: Optuna chooses the cells of a grid."""
