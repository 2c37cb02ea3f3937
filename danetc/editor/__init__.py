"""Language services for editors. They are functions of a text and do not import torch.

``analyse`` returns the ``Analysis`` of a text, which is the argument of each service. A place is a
``Span``: a half-open range of character offsets. ``positions.TextLines`` converts offsets to the lines and
columns of the Language Server Protocol, which is implemented in ``danetc.editor.server``.
"""

from danetc.editor.analysis import Analysis, analyse

__all__ = ["Analysis", "analyse"]
