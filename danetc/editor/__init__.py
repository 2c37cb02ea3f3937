"""Language services for editors, as functions of a text. They need neither torch nor a server.

``analyse`` returns the ``Analysis`` of a text, which each service takes. Places are ``Span``s: offsets
in characters (code points) from 0, with an exclusive end. ``protocol.TextLines`` converts them to
lines and columns of the Language Server Protocol, which ``danetc.editor.server`` serves.
"""

from danetc.editor.analysis import Analysis, analyse

__all__ = ["Analysis", "analyse"]
