"""The `danetc` package."""
