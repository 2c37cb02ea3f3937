"""Files to checked programs, and changes to a program before lowering."""
