"""Why there is no picture."""

from __future__ import annotations


class DrawError(RuntimeError):
    """A picture cannot be drawn: Graphviz is missing or failed, or a level shows nothing."""


class GraphvizError(DrawError):
    """Graphviz is missing, or fails."""
