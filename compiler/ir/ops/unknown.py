"""Sizes that are not known yet, while a loop over time is read for the first time.

What a loop's ``delay`` gives has the shape of what comes out behind it. The first reading takes
these in its place: arithmetic with one gives one, a comparison takes it for what fits, and where it
meets a size that is known it is that one. The next reading has the sizes found, and checks them.
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
    """A size that is not known. Only ``UNKNOWN``."""

    __add__ = __radd__ = __sub__ = __rsub__ = _stays
    __mul__ = __rmul__ = __floordiv__ = __rfloordiv__ = _stays
    __neg__ = __pow__ = _stays  # type: ignore[assignment]
    __eq__ = __le__ = __ge__ = _fits
    __ne__ = __lt__ = __gt__ = _differs

    def __mod__(self, other: object) -> int:  # groups divide it
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
    """A shape of which nothing is known: that of a map, until it meets another."""

    def __new__(cls, *args: Any) -> Self:
        return super().__new__(cls, (UNKNOWN, UNKNOWN, UNKNOWN))


ANY_SHAPE = AnyShape()


def is_known(shape: tuple[int, ...]) -> bool:
    """Whether all sizes of a shape are known."""
    return not any(isinstance(extent, Unknown) for extent in shape)


def met(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """Two shapes that must be one: each size as the one or the other knows it."""
    if isinstance(a, AnyShape):
        return b
    if isinstance(b, AnyShape):
        return a
    return tuple(y if isinstance(x, Unknown) else x for x, y in zip(a, b, strict=True))
