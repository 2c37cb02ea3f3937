"""Safe display of untrusted text.

Names of files, folders and outputs may contain escape sequences, bidirectional overrides, line
breaks and invisible characters. These are written out: ``\\x1b``, ``<U+202E>``.
"""

from __future__ import annotations

import re

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}

# The categories Cc, Cf, Cs, Zl and Zp of Unicode, and the property Default_Ignorable_Code_Point.
_HIDDEN = (
    "\x00-\x1f\x7f-\x9f\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160"
    "\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ud800-\udfff"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
HIDDEN = re.compile(f"[{_HIDDEN}]")
"""An invisible or control character, including line ends and tabs."""


def visible(text: str, keep: str = "") -> str:
    """Write out the hidden characters of a text, except those in ``keep``.

    A byte of a file name that is not UTF-8 (a surrogate in Python) becomes ``\\xff``.
    """

    def shown(match: re.Match[str]) -> str:
        character = match.group()
        number = ord(character)
        if character in keep:
            return character
        if number < 0xA0:
            return _SHORT.get(character, f"\\x{number:02x}")
        if 0xDC80 <= number <= 0xDCFF:
            return f"\\x{number - 0xDC00:02x}"
        return f"<U+{number:04X}>"

    return HIDDEN.sub(shown, text)


def visible_lines(text: str) -> str:
    """Escape all hidden characters except line breaks and tabs."""
    return visible(text, keep="\n\t")
