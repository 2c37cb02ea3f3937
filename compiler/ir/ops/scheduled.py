"""Numbers of operations that a recipe may change while a network trains: ``scheduled(1.0)``.

As an attribute such a number is text with its start, as what weights start from is.
"""

from __future__ import annotations

from danetc.compiler.ir.graph import Attribute

_WORD = "scheduled"


def scheduled(start: float) -> str:
    """The attribute of one that starts at a number."""
    return f"{_WORD} {start!r}"


def is_scheduled(value: Attribute) -> bool:
    """Whether an attribute is one."""
    return isinstance(value, str) and value.startswith(f"{_WORD} ")


def at_start(value: Attribute) -> float:
    """The number, or what it starts at."""
    number = value.partition(" ")[2] if isinstance(value, str) else value
    assert number is not None
    return float(number)
