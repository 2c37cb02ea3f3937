"""Files, locks, processes and random numbers, with the same behaviour on every operating system."""
