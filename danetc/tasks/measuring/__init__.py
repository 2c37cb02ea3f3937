"""``danetc measure`` and ``danetc.measure``: firing rates, gradients and energy of a model."""
