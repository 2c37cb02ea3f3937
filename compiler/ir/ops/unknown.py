"""Unknown sizes, for the first pass over a loop over time.

The output of a loop's ``delay`` has the shape of a later value. In the first pass its sizes are
unknown: arithmetic with one results in one, comparisons hold, and a known size replaces it. The
second pass uses and checks the sizes found.
"""

from __future__ import annotations

from typing import Any, Self


def _stays(self: Unknown, *others: object) -> Unknown:
    return self


def _fits(self: Unknown, other: object) -> bool:
    return True


def _differs(self: Unknown, other: object) -> bool:
    return False


class Unknown(int):
    """An unknown size. The only instance is ``UNKNOWN``."""

    __add__ = __radd__ = __sub__ = __rsub__ = _stays
    __mul__ = __rmul__ = __floordiv__ = __rfloordiv__ = _stays
    __neg__ = __pow__ = _stays  # type: ignore[assignment]
    __eq__ = __le__ = __ge__ = _fits
    __ne__ = __lt__ = __gt__ = _differs

    def __mod__(self, other: object) -> int:
        return 0

    def __hash__(self) -> int:
        return hash("an unknown size")

    def __str__(self) -> str:
        return "?"

    __repr__ = __str__

    def __format__(self, form: str) -> str:
        return "?"


UNKNOWN = Unknown(1)


class AnyShape(tuple[int, ...]):
    """An unknown shape, treated as that of a map until it meets a known one."""

    def __new__(cls, *args: Any) -> Self:
        return super().__new__(cls, (UNKNOWN, UNKNOWN, UNKNOWN))


ANY_SHAPE = AnyShape()


def is_known(shape: tuple[int, ...]) -> bool:
    """Return True if all sizes of a shape are known."""
    return not any(isinstance(extent, Unknown) for extent in shape)


def met(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """Return the common shape of two, with each size that either knows."""
    if isinstance(a, AnyShape):
        return b
    if isinstance(b, AnyShape):
        return a
    return tuple(y if isinstance(x, Unknown) else x for x, y in zip(a, b, strict=True))
