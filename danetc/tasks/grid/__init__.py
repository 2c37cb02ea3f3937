"""``danetc compare``: a grid of trainings, from axes to tables and figures."""
