"""The standard library, imported by ``use std``."""
