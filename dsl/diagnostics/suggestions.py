"""Which known names are near a name that is not known.

Names are compared without regard to case and to ``_``, ``-`` and ``.``, by optimal string
alignment: a letter too many, a letter too few, another letter and two neighbours swapped are one
edit each (Damerau, 1964; no part is edited twice). Few edits are allowed, so that nothing is suggested where nothing is near:
``mean`` is not ``learn``. This is our own, so that ``check`` needs nothing compiled.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice

from danetc.dsl.work import current

MAX_NAME = 64  # longer names are compared with none
MAX_CANDIDATES = 1_000  # of one pool; the rest is not looked at
MAX_TIES = 3

_NO_LETTER = re.compile(r"[\W_]+")


def nearest(
    name: str, likely: Iterable[str], others: Iterable[str] = (), *, words: bool = False
) -> tuple[str, ...]:
    """The candidates that were probably meant by a name: one, several that are equally near, or none.

    ``likely`` are the names that may stand where this one stands; ``others`` are asked where none
    of these is near, and only for a single edit. With ``words``, a name also means a candidate
    that has all of its words or whose words it has all: ``kernel_size`` means ``kernel``.

    The cost is bounded: at most MAX_CANDIDATES of each pool are compared, and in one check no more
    than ``work`` allows; then nothing is suggested.
    """
    if len(name) > MAX_NAME:
        return ()
    first = _pool(name, likely)
    if not current().compare(name, len(first)):
        return ()
    found = _by_edits(name, first, most=3)
    if not found and words:
        found = _by_words(name, first)
    if found:
        return found
    second = _pool(name, others)
    return _by_edits(name, second, most=1) if current().compare(name, len(second)) else ()


def edits(a: str, b: str, limit: int) -> int:
    """The fewest edits from one text to the other; ``limit + 1`` where there are more."""
    if abs(len(a) - len(b)) > limit:
        return limit + 1
    start = _shared(a, b)
    end = _shared(a[start:][::-1], b[start:][::-1])
    a, b = a[start : len(a) - end], b[start : len(b) - end]
    far = limit + 1
    two_before, before = list[int](), [min(j, far) for j in range(len(b) + 1)]
    for i, letter in enumerate(a, 1):
        row = [far] * (len(b) + 1)
        row[0] = min(i, far)
        low, high = max(1, i - limit), min(len(b), i + limit)
        for j in range(low, high + 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != b[j - 1]))
            if i > 1 and j > 1 and letter == b[j - 2] and a[i - 2] == b[j - 1]:
                cost = min(cost, two_before[j - 2] + 1)
            row[j] = min(cost, far)
        if (
            min(row[low - 1 : high + 1], default=far) == far
        ):  # a swap reaches back two rows and still passes through this one
            return far
        two_before, before = before, row
    return before[-1]


def _shared(a: str, b: str) -> int:
    """How many letters two texts begin with alike."""
    return next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )


def _pool(name: str, candidates: Iterable[str]) -> list[str]:
    unique = islice(dict.fromkeys(candidates), MAX_CANDIDATES)
    return [item for item in unique if item != name and len(item) <= MAX_NAME]


def _by_edits(name: str, candidates: Sequence[str], most: int) -> tuple[str, ...]:
    """The candidates with the fewest edits: those with the same letters, else those first that have
    a letter more, of which one was left out."""
    name = name.casefold()
    plain, letters = _NO_LETTER.sub("", name), Counter(name)
    best, found = most, list[tuple[bool, bool, bool, int]]()
    for number, candidate in enumerate(candidates):
        other = candidate.casefold()
        allowed = min(best, _allowed(name, other))
        cost = 0 if _NO_LETTER.sub("", other) == plain else edits(name, other, allowed)
        if cost > allowed:
            continue
        if cost < best:
            best, found = cost, []
        swapped, shorter = Counter(other) == letters, len(other) <= len(name)
        found.append((not swapped, shorter, other[:1] != name[:1], number))
    if not found or (best > 1 and len(found) > MAX_TIES):
        return ()  # far from it, and so many alike that none was meant
    found.sort()
    kept = [item for item in found if item[0] == found[0][0]]  # a swap before another letter
    return tuple(candidates[number] for *_, number in kept[:MAX_TIES])


def _allowed(a: str, b: str) -> int:
    """How many edits still mean the same name."""
    if min(len(a), len(b)) < 2:
        return int(a == 2 * b or b == 2 * a)  # one letter, doubled
    longer = max(len(a), len(b))
    return 1 if longer < 7 else 2 if longer < 12 else 3


def _by_words(name: str, candidates: Sequence[str]) -> tuple[str, ...]:
    """The candidates that say the same in fewer or in more words, if they are few."""
    words = set(_NO_LETTER.split(name.casefold())) - {""}
    found = []
    for candidate in candidates:
        others = set(_NO_LETTER.split(candidate.casefold())) - {""}
        shared = words & others
        if shared and sum(map(len, shared)) > 3 and (words <= others or others <= words):
            found.append(candidate)
    return tuple(found) if len(found) <= MAX_TIES else ()
