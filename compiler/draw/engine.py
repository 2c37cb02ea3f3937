"""Graphviz: which program there is, what it can write, and its pictures finished for browsers."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from html import escape
from pathlib import Path

from danetc.compiler.draw.gv import to_gv
from danetc.compiler.draw.sheet import Sheet
from danetc.compiler.draw.theme import CSS_CLASS, Theme, dark_mode_css, palette
from danetc.compiler.draw.words import clean, tooltip_lines

FORMATS = ("svg", "png", "pdf", "gv")
_TIMEOUT = 60.0  # seconds
_DPI = 144
_MOST_PIXELS = 30_000  # a side of a PNG
_SIGNS = {"svg": b"<svg", "png": b"\x89PNG", "pdf": b"%PDF", "json0": b'"bb"'}
"""What a file of each of Graphviz's formats holds for certain."""
_FONTS = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"


class DrawError(RuntimeError):
    """A picture cannot be drawn: Graphviz is missing or failed, or a level shows nothing."""


class GraphvizError(DrawError):
    """Graphviz is missing, or fails."""


def render(sheet: Sheet, name: str, kind: str, theme: Theme = "auto") -> bytes:
    """A sheet as a file of one of ``FORMATS``.

    ``theme="auto"`` is light; an SVG then turns dark where its viewer prefers that.
    Raises GraphvizError where Graphviz is missing or fails, DrawError for an unknown format.
    """
    colours = palette(theme)
    match kind:
        case "gv":
            return to_gv(sheet, colours, name).encode()
        case "svg":
            text = _text(_run(["-Knop2"], to_gv(sheet, colours, name, tooltips=False), "svg"))
            return _finished(text, sheet, name, theme).encode()
        case "png":
            longest = max(sheet.width, sheet.height, 1.0)
            dpi = min(_DPI, int(_MOST_PIXELS * 72 / longest))
            return _run(["-Knop2", f"-Gdpi={dpi}"], to_gv(sheet, colours, name), "png")
        case "pdf":
            return _run(["-Knop2"], to_gv(sheet, colours, name), "pdf")
        case _:
            raise DrawError(f"no format {kind}: there are {', '.join(FORMATS)}")


def check_engine(kind: str) -> None:
    """Raise GraphvizError where the program that a format of ``FORMATS`` needs is missing.

    A picture as .gv needs one on some levels alone, to place boxes: that is seen when it is drawn.
    """
    if kind != "gv":
        program(system=kind == "pdf")


def layouts(texts: Iterable[str]) -> list[dict[str, object]]:
    """Graphs in Graphviz's language, placed by ``dot``, as Graphviz's JSON. One call for all."""
    texts = list(texts)
    if not texts:
        return []
    output = _text(_run(["-Kdot"], "\n".join(texts), "json0"))
    decoder = json.JSONDecoder()
    found: list[dict[str, object]] = []
    at = 0
    while at < len(output.rstrip()):
        try:
            value, at = decoder.raw_decode(output, at)
        except ValueError as error:
            raise GraphvizError(f"what Graphviz gives is no JSON: {error}") from error
        found.append(value)
        while at < len(output) and output[at] in " \r\n,":
            at += 1
    if len(found) != len(texts):
        raise GraphvizError(f"Graphviz placed {len(found)} of {len(texts)} graphs")
    return found


def _run(options: list[str], text: str, form: str) -> bytes:
    """What the program gives for ``text`` in one of the formats of ``_SIGNS``."""
    command = [program(system=form == "pdf"), options[0], f"-T{form}", *options[1:]]
    try:
        done = subprocess.run(
            command, input=text.encode("utf-8"), capture_output=True, timeout=_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GraphvizError(f"{command[0]}: {error}") from error
    if done.returncode != 0 or not done.stdout:
        raise GraphvizError(f"{command[0]} failed: {done.stderr.decode(errors='replace').strip()}")
    if _SIGNS[form] not in done.stdout:
        raise GraphvizError(f"{command[0]} gives something else than {form}")
    return done.stdout


def _text(output: bytes) -> str:
    try:
        return output.decode("utf-8")
    except UnicodeDecodeError as error:
        raise GraphvizError(f"what Graphviz gives is no text: {error}") from error


def program(*, system: bool = False) -> str:
    """``dot`` where there is one, else the program that the package graphviz-pure installs.

    ``system`` asks for ``dot`` itself, which alone writes PDF. Raises GraphvizError.
    """
    found = shutil.which("dot")
    if found is None and system:
        raise GraphvizError(
            "PDF needs Graphviz's `dot` on the PATH (Debian: apt install graphviz); "
            "SVG, PNG and .gv do not"
        )
    found = found or shutil.which("graphviz-pure")
    if found is None:
        beside = [Path(sysconfig.get_path("scripts")), Path(sys.executable).parent]
        places = (shutil.which("graphviz-pure", path=str(folder)) for folder in beside)
        found = next((place for place in places if place is not None), None)
    if found is None:
        raise GraphvizError(
            "neither `dot` nor `graphviz-pure` is installed (pip install graphviz-pure)"
        )
    return found


# -- SVG ------------------------------------------------------------------------------------------

_TITLE = re.compile(r'(<g id="([^"]*)" class="(node|edge|graph)"[^>]*>\s*)<title>[^<]*</title>')


def _finished(svg: str, sheet: Sheet, name: str, theme: Theme) -> str:
    """The engine's SVG with tooltips that browsers show, fonts that are there, and a dark form."""
    name = clean(name, 200)
    boxes = {escape(box.key): box.tooltip for box in sheet.boxes}
    wires = {f"wire{index}": wire.tooltip for index, wire in enumerate(sheet.wires)}

    def title(match: re.Match[str]) -> str:
        start, id, what = match.groups()
        tooltips = {"edge": wires, "node": boxes}
        text = name if what == "graph" else tooltips[what].get(id.replace("&#45;", "-"), "")
        return f"{start}<title>{escape(tooltip_lines(text))}</title>" if text else start

    svg = _TITLE.sub(title, svg)
    svg = re.sub(r"<!--.*?-->\n?", "", svg, flags=re.DOTALL)
    svg = re.sub(r' (?:font-family="[^"]*"|xml:space="preserve")', "", svg)
    label = f'class="{CSS_CLASS}" role="img" aria-label="{escape(name)}: topology" font-family="{_FONTS}" xml:space="preserve"'
    style = f"<style>{dark_mode_css()}</style>\n" if theme == "auto" else ""
    before, sign, after = svg.partition("<svg")
    attributes, end, rest = after.partition(">")
    return f"{before}{sign} {label}{attributes}{end}\n{style}{rest.lstrip()}"
