"""Sources of data: their names, and what lies where they point. Never imports torch."""
