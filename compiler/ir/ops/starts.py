"""What operations give where their input is one number everywhere: rules of the table."""

from __future__ import annotations

from danetc.compiler.ir.ops.kinds import Attrs


def unchanged(attrs: Attrs, x: float) -> float:
    return x


def zero(attrs: Attrs, x: float) -> float | None:
    """0 of 0; of other numbers it depends on the place, or on data."""
    return 0.0 if x == 0.0 else None
