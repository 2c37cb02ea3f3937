"""Files to checked programs, and what changes a program before it is lowered."""
