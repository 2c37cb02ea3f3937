"""A network as a standalone ``model.py``: readable, and dependent only on torch."""

from danetc.compiler.emit.python.module import emit_python

__all__ = ["emit_python"]
