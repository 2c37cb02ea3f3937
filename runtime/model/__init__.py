"""The built model: its modules, its signature, its weights on disk."""
