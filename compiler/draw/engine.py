"""Functions that run Graphviz, read its layouts, and return pictures as files.

By default they run the installed program. In a browser, which cannot run programs, ``use_layout`` sets
another function.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import sysconfig
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

from danetc.compiler.draw.formula import FormulaPiece
from danetc.compiler.draw.gv import MARGIN, piece_key, to_gv
from danetc.compiler.draw.pdf import FONTS, SVG, to_pdf
from danetc.compiler.draw.sheet import Sheet
from danetc.compiler.draw.theme import CSS_CLASS, Theme, dark_mode_css, palette
from danetc.compiler.draw.words import clean
from danetc.dsl.errors import UserError


class DrawError(UserError):
    """The picture cannot be drawn because Graphviz failed or because there is nothing to show."""


class GraphvizError(DrawError):
    """Graphviz is not installed, or it failed."""


_TIMEOUT = 60.0  # seconds


def run_program(texts: Sequence[str], engine: str, form: str, dpi: int | None = None) -> bytes:
    """Run Graphviz on graphs; see ``Layout``."""
    import subprocess  # here, because browsers do not have it

    resolution = [] if dpi is None else [f"-Gdpi={dpi}"]
    command = [program(), f"-K{engine}", f"-T{form}", *resolution]
    text = "\n".join(texts).encode("utf-8")
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, timeout=_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GraphvizError(f"{command[0]}: {error}") from error
    if done.returncode != 0 or not done.stdout:
        raise GraphvizError(f"{command[0]} failed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def program() -> str:
    """Return the path of ``dot``, or of the program that the package graphviz-pure installs.

    Raises GraphvizError if neither is installed.
    """
    found = shutil.which("dot") or shutil.which("graphviz-pure")
    if found is None:
        beside = [Path(sysconfig.get_path("scripts")), Path(sys.executable).parent]
        places = (shutil.which("graphviz-pure", path=str(folder)) for folder in beside)
        found = next((place for place in places if place is not None), None)
    if found is None:
        raise GraphvizError(
            "neither `dot` nor `graphviz-pure` is installed (pip install graphviz-pure)"
        )
    return found


FORMATS = ("svg", "png", "pdf", "gv")
_DPI = 144
_MOST_PIXELS = 30_000  # a side of a PNG
_SIGNS = {"svg": b"<svg", "png": b"\x89PNG", "json0": b'"bb"'}
"""Bytes that every file of a format must contain."""
_BETWEEN = re.compile(rb"^\}[\s,]*^\{", re.MULTILINE)  # two graphs in Graphviz's JSON


Layout: TypeAlias = Callable[[Sequence[str], str, str, int | None], bytes]
"""Function from graphs in Graphviz's language, a layout engine (``dot``, or ``nop2`` if all
positions are given), a format of ``_SIGNS`` and the resolution of a PNG in dots per inch to
Graphviz's output. Raises GraphvizError."""

_layout: Layout = run_program


def use_layout(function: Layout) -> None:
    """Use ``function`` instead of Graphviz's program from now on."""
    global _layout
    _layout = function


def render(sheet: Sheet, name: str, kind: str, theme: Theme = "auto") -> bytes:
    """Render a sheet as a file in one of ``FORMATS``.

    ``theme="auto"`` is light; such an SVG turns dark if its viewer prefers that.
    Raises GraphvizError if Graphviz is missing or fails, DrawError for an unknown format.
    """
    text = to_gv(sheet, palette(theme), name)
    match kind:
        case "gv":
            return text.encode()
        case "svg":
            return _finished(_run([text], "nop2", "svg"), sheet, name, theme).encode()
        case "png":
            longest = max(sheet.width, sheet.height, 1.0)
            return _run([text], "nop2", "png", min(_DPI, int(_MOST_PIXELS * 72 / longest)))
        case "pdf":
            check_engine(kind)
            svg = _finished(_run([text], "nop2", "svg"), sheet, name, "light")
            return to_pdf(svg)
    raise DrawError(f"no format {kind}: there are {', '.join(FORMATS)}")


def check_engine(kind: str) -> None:
    """Raise DrawError for an unknown format, or if what a format needs is not installed.

    A .gv file needs Graphviz only for some levels. The error is then raised by ``render``.
    """
    if kind not in FORMATS:
        raise DrawError(f"there is no format {kind or '...'}; there are {', '.join(FORMATS)}")
    if kind != "gv" and _layout is run_program:
        program()
    if kind == "pdf" and find_spec("matplotlib") is None:
        raise DrawError("a PDF needs matplotlib: pip install 'danetc[plot]'; SVG and PNG do not")


def layouts(texts: Iterable[str]) -> list[dict[str, object]]:
    """Lay out graphs by one call of ``dot``, and return Graphviz's JSON of each."""
    texts = list(texts)
    if not texts:
        return []
    output = _run(texts, "dot", "json0").strip()
    try:
        found: list[dict[str, object]] = json.loads(b"[%s]" % _BETWEEN.sub(b"},{", output))
    except ValueError as error:
        raise GraphvizError(f"Graphviz's output is not JSON: {error}") from error
    if len(found) != len(texts):
        raise GraphvizError(f"Graphviz placed {len(found)} of {len(texts)} graphs")
    return found


def _run(texts: Sequence[str], engine: str, form: str, dpi: int | None = None) -> bytes:
    """Return Graphviz's output for graphs in one of the formats of ``_SIGNS``."""
    output = _layout(texts, engine, form, dpi)
    if _SIGNS[form] not in output:
        raise GraphvizError(f"Graphviz's output is not {form.upper()}")
    return output


# -- SVG ------------------------------------------------------------------------------------------

_HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="no"?>\n'
_DROPPED = ("font-family", "{http://www.w3.org/XML/1998/namespace}space")


def _finished(svg: bytes, sheet: Sheet, name: str, theme: Theme) -> str:
    """Add tooltips for browsers, available fonts, fixed widths of formulas, and a dark theme."""
    name = clean(name, 200)
    tooltips = {box.key: box.tooltip for box in sheet.boxes}
    tooltips |= {f"wire{index}": wire.tooltip for index, wire in enumerate(sheet.wires)}
    pieces: dict[str, FormulaPiece] = {}
    for box in sheet.boxes:
        for place, piece in enumerate(box.set_pieces()):
            key = piece_key(box, place)
            pieces[key] = piece
            if box.shape == "plain":
                tooltips[key] = box.tooltip  # otherwise the box has the tooltip
    try:
        root = ET.fromstring(svg)
    except ET.ParseError as error:
        raise GraphvizError(f"Graphviz's output is not SVG: {error}") from error
    for element in root.iter():
        for attribute in _DROPPED:
            element.attrib.pop(attribute, None)
    for group in root.iter(f"{{{SVG}}}g"):
        key = group.get("id", "")
        text = name if group.get("class") == "graph" else _cleaned(tooltips.get(key, ""))
        title = group.find(f"{{{SVG}}}title")
        if title is not None and text:
            title.text = text
        elif title is not None:
            group.remove(title)
        if key in pieces:
            _set_piece(group, pieces[key], sheet)
            if not tooltips.get(key):
                group.set("pointer-events", "none")
    root.set("class", CSS_CLASS)
    root.set("role", "img")
    root.set("aria-label", f"{name}: topology")
    root.set(
        "font-family",
        ", ".join(f"'{each}'" if " " in each else each for each in FONTS) + ", sans-serif",
    )
    root.set(_DROPPED[1], "preserve")
    if theme == "auto":
        style = ET.Element(f"{{{SVG}}}style")
        style.text, style.tail = dark_mode_css(), "\n"
        root.insert(0, style)
    ET.register_namespace("", SVG)
    return f"{_HEAD}{ET.tostring(root, encoding='unicode')}\n"


def _cleaned(tooltip: str) -> str:
    return "\n".join(clean(line, 200) for line in tooltip.split("\n"))


def _set_piece(group: ET.Element, piece: FormulaPiece, sheet: Sheet) -> None:
    """Set the exact position and width of a piece, which Graphviz rounds and estimates."""
    left, base = piece.x + MARGIN, piece.y - sheet.height - MARGIN
    for bar in group.findall(f"{{{SVG}}}polygon"):
        right, above, below = left + piece.width, base - piece.size / 2, base + piece.size / 2
        corners = ((left, above), (right, above), (right, below), (left, below), (left, above))
        bar.set("points", " ".join(f"{x:.2f},{y:.2f}" for x, y in corners))
    for text in group.findall(f"{{{SVG}}}text"):
        text.set("x", f"{left:.2f}")
        text.set("y", f"{base:.2f}")
        text.set("text-anchor", "start")
        text.set("textLength", f"{piece.width:.2f}")
        text.set("lengthAdjust", "spacingAndGlyphs")
