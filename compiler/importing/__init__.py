"""A graph back to a spec: the inverse of lowering, by the names of std where they mean the same."""
