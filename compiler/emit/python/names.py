"""Names in generated Python: no name of a spec gets into code but through here."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Callable

_PLAIN = re.compile(r"(?!__)[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
TAKEN = frozenset({"self", "torch", "nn", "json", "math", "Tensor", "Callable", "annotations"})
TAKEN |= frozenset(dir(builtins)) | frozenset(keyword.kwlist)


def is_plain(name: str) -> bool:
    """Whether ``self.NAME`` reads the module that is registered under ``name``.

    Not so for two leading underscores, which a class mangles, and for letters beyond ASCII, which
    Python normalises.
    """
    return _PLAIN.fullmatch(name) is not None and not keyword.iskeyword(name)


def words(text: str) -> str:
    """A name for a docstring: printable ASCII that cannot end the string."""
    kept = "".join(ch if " " <= ch <= "~" and ch not in "\\\"'" else "?" for ch in text)
    return kept if len(kept) <= 60 else kept[:57] + "..."


def variable(name: str) -> str:
    """A name of the spec as a Python identifier; it may still be taken."""
    safe = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return safe if safe[:1].isalpha() else f"v{safe}"


def camel(name: str) -> str:
    """``dense_layer`` as ``DenseLayer``; what has capitals already keeps them."""
    parts = [part for part in re.split(r"[^A-Za-z0-9]+", name) if part]
    text = "".join(part[0].upper() + part[1:] for part in parts)
    return text if text[:1].isalpha() else f"N{text}"


def singular(name: str) -> str:
    """``blocks`` as ``block``."""
    return name[:-1] if name.endswith("s") and len(name) > 1 else name


def free(base: str, taken: Callable[[str], bool]) -> str:
    """``base``, or the first of ``base2``, ``base3``, ... that is neither taken nor Python's."""
    number, name = 1, base
    while name in TAKEN or taken(name):
        number += 1
        name = f"{base}{number}" if not base[-1].isdigit() else f"{base}_{number}"
    return name
