"""Colours. A picture names roles; a palette gives each role its colour.

No two roles of a palette share a colour, so that a light picture can be turned dark by a style
sheet that maps colour to colour. What colours say is said by line and shape as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

Role = Literal[
    "paper",  # behind everything
    "ink",  # text
    "quiet",  # less important text
    "frame",  # a stage or a block that is shown opened
    "frame_line",
    "inner",  # a frame in a frame
    "box",
    "box_line",
    "norm",  # a normalisation
    "neuron",
    "neuron_line",
    "interblock",  # a neuron between the addition and the block's end
    "join",  # an addition, a concatenation, ...
    "spike",
    "count",
    "analog",
    "none",  # transparent
]
CSS_CLASS = "danetc-topology"
Theme = Literal["auto", "light", "dark"]
Palette = Mapping[Role, str]

LIGHT: Palette = MappingProxyType(
    {
        "paper": "#ffffff",
        "ink": "#111827",
        "quiet": "#5b6472",
        "frame": "#f4f5f7",
        "frame_line": "#c3c8d0",
        "inner": "#fbfbfc",
        "box": "#fefefe",
        "box_line": "#868e9b",
        "norm": "#e2e6ec",
        "neuron": "#ffe8cf",
        "neuron_line": "#9a3412",
        "interblock": "#fdae5c",
        "join": "#fdf6c3",
        "spike": "#c2410c",
        "count": "#7e22ce",
        "analog": "#2563eb",
        "none": "transparent",
    }
)
DARK: Palette = MappingProxyType(
    {
        "paper": "#0d1117",
        "ink": "#e6edf3",
        "quiet": "#9aa4b1",
        "frame": "#161b22",
        "frame_line": "#3d444d",
        "inner": "#1b2129",
        "box": "#21262e",
        "box_line": "#7d8590",
        "norm": "#343c47",
        "neuron": "#4d2d12",
        "neuron_line": "#f0a35e",
        "interblock": "#9a4b0a",
        "join": "#4a4315",
        "spike": "#fb923c",
        "count": "#c58bff",
        "analog": "#6ea8fe",
        "none": "transparent",
    }
)


def palette(theme: Theme) -> Palette:
    """The colours that are written into a picture; ``auto`` is light until a viewer asks."""
    return DARK if theme == "dark" else LIGHT


def dark_mode_css() -> str:
    """A style sheet that turns a light picture dark where the viewer prefers that.

    It leaves alone what else there is on a page, such as a notebook, that holds the picture.
    """
    rules = []
    for role, light in LIGHT.items():
        if role == "none":
            continue
        rules.append(f'.{CSS_CLASS} [fill="{light}"]{{fill:{DARK[role]}}}')
        rules.append(f'.{CSS_CLASS} [stroke="{light}"]{{stroke:{DARK[role]}}}')
    return f"@media (prefers-color-scheme: dark){{{''.join(rules)}}}"
