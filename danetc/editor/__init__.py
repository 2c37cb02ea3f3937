"""Language services for editors: functions of a text. No torch, no server, no editor needed.

``analyse`` reads a text once; each service takes what it gives. Places are ``Span``s: offsets into the
text, counted in characters (code points) from 0, the end exclusive. ``positions.TextLines`` converts
them to the lines and columns of the Language Server Protocol. ``danetc.editor.server`` is that server.
"""

from danetc.editor.analysis import Analysis, analyse

__all__ = ["Analysis", "analyse"]
