"""PDF files of pictures, drawn by matplotlib (``danetc[plot]``) from their SVG."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET
from importlib import import_module

SVG = "http://www.w3.org/2000/svg"
FONTS = ("Helvetica", "Arial", "Liberation Sans", "DejaVu Sans")


def to_pdf(svg: str) -> bytes:
    """Return an SVG as Graphviz writes it, of polygons, ellipses, curves and texts, as a PDF.

    Texts stay text. A piece of a formula whose font is wider than planned is set smaller.
    """
    matplotlib = import_module("matplotlib")
    patches = import_module("matplotlib.patches")
    Curve = import_module("matplotlib.path").Path
    known = set(import_module("matplotlib.font_manager").get_font_names())
    fonts = [name for name in FONTS if name in known]
    root = ET.fromstring(svg)
    width, height = (float(each) for each in root.attrib["viewBox"].split()[2:])
    figure = import_module("matplotlib.figure").Figure(figsize=(width / 72, height / 72))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    for order, element in enumerate(root.iter()):
        has = element.attrib
        shape = None
        match element.tag.removeprefix(f"{{{SVG}}}"):
            case "polygon":
                shape = patches.Polygon(_points(has["points"]))
            case "ellipse":
                x, y, across, down = (float(has[name]) for name in ("cx", "cy", "rx", "ry"))
                shape = patches.Ellipse((x, -y), 2 * across, 2 * down)
            case "path":
                points = _points(has["d"].replace("M", " ").replace("C", " "))
                curve = [Curve.MOVETO, *[Curve.CURVE4] * (len(points) - 1)]
                shape = patches.PathPatch(Curve(points, curve))
            case "text":
                text = axes.text(
                    float(has["x"]), -float(has["y"]), element.text or "",
                    ha={"start": "left", "middle": "center", "end": "right"}[has["text-anchor"]],
                    va="baseline", color=has["fill"], family=fonts, size=float(has["font-size"]),
                    weight=has.get("font-weight"), style=has.get("font-style"),
                    parse_math=False, zorder=order,
                )  # fmt: skip
                if planned := float(has.get("textLength", 0)):
                    needed = text.get_window_extent().width
                    text.set_size(text.get_size() * min(1, planned / needed * figure.dpi / 72))
        if shape is not None:
            line = float(has.get("stroke-width", 1))
            dashes = [
                float(each) / line for each in has.get("stroke-dasharray", "").split(",") if each
            ]
            shape.set(
                facecolor=_colour(has["fill"]), edgecolor=_colour(has["stroke"]), linewidth=line,
                linestyle=(0, dashes or None), zorder=order,
            )  # fmt: skip
            axes.add_patch(shape)
    stream = io.BytesIO()
    with matplotlib.rc_context({"pdf.fonttype": 42}):
        figure.savefig(stream, format="pdf", metadata={"CreationDate": None})
    return stream.getvalue()


def _points(text: str) -> list[tuple[float, float]]:
    pairs = (pair.split(",") for pair in text.split())
    return [(float(x), -float(y)) for x, y in pairs]


def _colour(name: str) -> str:
    return "none" if name == "transparent" else name
