"""A network as a standalone ``model.py``: readable, needing torch alone."""

from danetc.compiler.emit.python.module import emit_python

__all__ = ["emit_python"]
