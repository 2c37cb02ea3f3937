"""Output for people: text, tables, plots and progress."""
