"""Settings of a network from outside of its spec: ``--set NAME=VALUE``, and ``set=`` in Python."""

from __future__ import annotations

import re
from typing import TypeAlias

Setting: TypeAlias = int | float | bool | str
"""The value of a setting. A ``str`` is the text of an expression, such as ``LIF(tau = 4.0)``."""

_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
_INTEGER = re.compile(r"-?\d{1,18}", re.ASCII)
_REAL = re.compile(r"-?\d{1,40}(\.\d{1,40})?([eE][+-]?\d{1,4})?", re.ASCII)


def parse_setting(text: str) -> tuple[str, Setting]:
    """``steps=2`` as ``("steps", 2)``.

    The value is a number or a truth value where it reads as one, else the text of an expression.
    Raises ValueError where there is no name or no value.
    """
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not value or not _NAME.fullmatch(name):
        raise ValueError(f"`{text}` is not NAME=VALUE, as in steps=2 or neuron='LIF(tau = 4.0)'")
    if value in ("true", "false"):
        return name, value == "true"
    if _INTEGER.fullmatch(value):
        return name, int(value)
    if _REAL.fullmatch(value):
        return name, float(value)
    return name, value
