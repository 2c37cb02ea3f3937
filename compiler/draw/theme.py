"""Colours and widths of text.

A picture names roles, and a palette gives each role its colour. No two roles of a palette share a
colour, so that a style sheet that maps colour to colour turns a light picture dark. Line styles and
shapes say the same as colours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Role = Literal[
    "paper",  # the background
    "ink",  # the text
    "quiet",  # text that is less important
    "frame",  # the background of a stage or block
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

LIGHT: Palette = {
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
DARK: Palette = {
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


def palette(theme: Theme) -> Palette:
    """Return the palette of a picture; ``auto`` starts light."""
    return DARK if theme == "dark" else LIGHT


def dark_mode_css() -> str:
    """Return a style sheet that turns a light picture dark if the viewer prefers that.

    It does not affect the page around the picture, as in a notebook.
    """
    rules = []
    for role, light in LIGHT.items():
        if role == "none":
            continue
        rules.append(f'.{CSS_CLASS} [fill="{light}"]{{fill:{DARK[role]}}}')
        rules.append(f'.{CSS_CLASS} [stroke="{light}"]{{stroke:{DARK[role]}}}')
    return f"@media (prefers-color-scheme: dark){{{''.join(rules)}}}"


# Text sizes are those of DejaVu Sans, the widest of the usual fonts (Arial, Helvetica, Liberation
# and Nimbus Sans are narrower), so that text stays inside of its box in any of them.
# Advance widths of the characters from space to ~ in thousandths of the font's size:
_REGULAR = """
318 401 460 838 636 950 780 275 390 390 500 838 318 361 318 337 636 636 636 636 636 636 636
636 636 636 337 337 838 838 838 531 1000 684 686 698 770 632 575 775 752 295 295 656 557 863
748 787 603 787 695 635 611 732 684 989 685 611 685 390 337 390 838 500 500 613 635 550 635
615 352 635 634 278 278 579 278 974 634 612 635 635 411 521 392 634 592 818 592 592 525 636
337 636 838
"""
_BOLD = """
348 456 521 838 696 1002 872 306 457 457 523 838 380 415 380 365 696 696 696 696 696 696 696
696 696 696 400 400 838 838 838 580 1000 774 762 734 830 683 683 821 837 372 372 775 637 995
837 850 733 850 770 720 682 812 774 1103 771 724 725 457 365 457 838 500 500 675 716 593 716
678 435 716 712 343 343 665 343 1042 712 687 716 716 493 595 478 712 652 924 645 652 582 712
365 712 838
"""
_OTHER = {"·": 380, "–": 500, "−": 838, "×": 838, "→": 838, "∂": 544, "′": 264, "√": 667}
_OTHER |= dict.fromkeys("≤≥≠¬", 838) | dict.fromkeys("∧∨", 812)
_GREEK = """
687 716 681 687 557 591 712 687 390 710 633 736 681 591 687 791 716 716 779 638 675 782 645 794 869
"""
_OTHER |= {chr(code): int(width) for code, width in enumerate(_GREEK.split(), ord("α"))}
_WIDEST = 1042  # used for all other characters


def _table(text: str) -> dict[str, int]:
    return {chr(code): int(width) for code, width in enumerate(text.split(), ord(" "))} | _OTHER


_TABLES = {False: _table(_REGULAR), True: _table(_BOLD)}


def text_width(text: str, size: float, bold: bool = False) -> float:
    """Return the width of a line of text in points."""
    table = _TABLES[bold]
    return sum(table.get(ch, _WIDEST) for ch in text) * size / 1000


def line_height(size: float) -> float:
    """Return the height of a line of text in points."""
    return 1.25 * size
