"""Files, locks, processes and random numbers, the same on every operating system."""
