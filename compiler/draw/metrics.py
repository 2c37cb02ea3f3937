"""How wide a text may become.

The engine estimates widths by Helvetica's, but who looks at a picture sees the font that is there.
Boxes are sized for DejaVu Sans, the widest of the usual ones (Arial, Helvetica, Liberation and
Nimbus Sans are narrower), so that text stays inside under any of them.
"""

from __future__ import annotations

# Advance widths of the characters from space to ~ in thousandths of the font's size.
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
_WIDEST = 1042  # what is known of no other character


def _table(text: str) -> dict[str, int]:
    return {chr(code): int(width) for code, width in enumerate(text.split(), ord(" "))} | _OTHER


_TABLES = {False: _table(_REGULAR), True: _table(_BOLD)}


def text_width(text: str, size: float, bold: bool = False) -> float:
    """The width of a line of text in points at a font size in points."""
    table = _TABLES[bold]
    return sum(table.get(ch, _WIDEST) for ch in text) * size / 1000


def line_height(size: float) -> float:
    """The height of a line of text in points."""
    return 1.25 * size
