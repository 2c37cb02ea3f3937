"""Figures of matplotlib (``danetc[plot]``), which is imported when one is drawn. No torch is imported."""

from __future__ import annotations

import io
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from danetc.dsl.diagnostics.visible import visible
from danetc.dsl.errors import UserError
from danetc.runtime.system.files import replace_file

WITHOUT = "drawing needs matplotlib: pip install 'danetc[plot]'"

STYLES = (
    ("#000000", "-", "o"),
    ("#d55e00", "--", "s"),
    ("#0072b2", "-.", "^"),
    ("#8a8a8a", ":", "D"),
    ("#009e73", (0, (5, 1, 1, 1, 1, 1)), "v"),
    ("#cc79a7", (0, (1, 1)), "P"),
)
"""Colour, dash and marker of lines. The colours are safe for colour-blind readers (Okabe and Ito) and
differ in grey value."""


def can_plot() -> bool:
    """True if matplotlib is installed."""
    return find_spec("matplotlib") is not None


def in_figure(name: str) -> str:
    """Return a name that matplotlib shows as it is.

    Hidden characters are written out, a ``$`` begins no formula, and a leading underscore does not
    keep a line out of the legend.
    """
    text = visible(name).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def new_figure(width: float, height: float) -> Any:
    """Return an empty figure of a size in inches, without a window. Raises UserError without matplotlib."""
    if not can_plot():
        raise UserError(WITHOUT)
    return import_module("matplotlib.figure").Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Any, path: Path, *, follow: bool = False) -> None:
    """Write a figure in the format of the file's ending. ``follow``: see ``replace_file``."""
    data = figure_bytes(figure, path.suffix.lower().removeprefix("."))
    replace_file(path, data, follow=follow)


def figure_bytes(figure: Any, kind: str) -> bytes:
    """Return a figure as a file without a date, so that equal figures give equal files.

    Text in SVG and PDF files is text, in a font that a program for drawing can change.
    """
    matplotlib = import_module("matplotlib")
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    stream = io.BytesIO()
    fonts = {"svg.fonttype": "none", "pdf.fonttype": 42}
    with matplotlib.rc_context({"svg.hashsalt": "danetc", **fonts}):
        figure.savefig(stream, format=kind, dpi=150, metadata=metadata)
    return stream.getvalue()
