"""Arguments, what they may be, and checks of those of the Python interface, as click checks those of the
command line."""

from __future__ import annotations

from collections.abc import Collection

from danetc.errors import SaidElsewhere, UserError

BACKENDS = ("eager", "fused", "spikingjelly")
PRECISIONS = ("float32", "mixed", "bf16")
MOST_STEPS = 10_000
"""Time steps that a network is run for."""


def check_choice(name: str, value: str | None, choices: Collection[str]) -> None:
    """Raise UserError unless ``value`` is one of ``choices``, or None."""
    if value is not None and value not in choices:
        raise UserError(f"{name} is one of {', '.join(choices)}, not {value!r}")


def check_whole(name: str, value: int | None, least: int, most: int | None = None) -> None:
    """Raise UserError unless ``value`` is a whole number of this range, or None."""
    if value is None:
        return
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):
        limit = f" to {most}" if most is not None else " or more"
        raise UserError(f"{name} is a whole number, {least}{limit}, not {value!r}")


def look_at_data(text: str, hint: str = "") -> None:
    """Raise UserError where there are no such data."""
    from danetc.runtime.sources.table import look_at
    from danetc.runtime.system.errors import DataError
    from danetc.runtime.system.torchrun import local_rank

    try:
        look_at(text)
    except DataError as error:
        kind = SaidElsewhere if local_rank() else UserError
        raise kind(f"{error}{hint}") from error
