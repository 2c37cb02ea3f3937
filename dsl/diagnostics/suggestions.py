"""Suggestions: known names that are similar to an unknown one.

Names are compared by optimal string alignment (Damerau, 1964), ignoring case, ``_``, ``-`` and
``.``: inserting, deleting, replacing a letter and swapping two neighbours are one edit each. Few
edits are allowed, so ``mean`` does not suggest ``learn``. A package for this would have to be
compiled, and ``check`` should not need one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice

from danetc.dsl.work import current

MAX_NAME = 64  # maximum length of a name that gets suggestions
MAX_CANDIDATES = 1_000  # maximum number of candidates per pool
MAX_TIES = 3

_NO_LETTER = re.compile(r"[\W_]+")


def nearest(
    name: str, likely: Iterable[str], others: Iterable[str] = (), *, words: bool = False
) -> tuple[str, ...]:
    """Return the candidate nearest to a name, several if they are equally near, or none.

    ``likely`` contains the names that are allowed here. If none of them is near, ``others`` is
    searched with at most one edit. With ``words``, a name also matches a candidate if the words of
    one include those of the other: ``kernel_size`` matches ``kernel``.

    At most MAX_CANDIDATES of each pool are compared, within the work limit of a check.
    """
    if len(name) > MAX_NAME:
        return ()
    first = _pool(name, likely)
    found = _by_edits(name, first, most=3) or (_by_words(name, first) if words else ())
    return found or _by_edits(name, _pool(name, others), most=1)


def edits(a: str, b: str, limit: int) -> int:
    """Return the number of edits between two texts, or ``limit + 1`` if there are more."""
    if abs(len(a) - len(b)) > limit:
        return limit + 1
    two_before, before = list[int](), list(range(len(b) + 1))
    for i, letter in enumerate(a, 1):
        row = [i]
        for j, other in enumerate(b, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == b[j - 2] and a[i - 2] == other:
                cost = min(cost, two_before[j - 2] + 1)
            row.append(cost)
        two_before, before = before, row
    return min(before[-1], limit + 1)


def _pool(name: str, candidates: Iterable[str]) -> list[str]:
    """Return the names to compare with another one; none beyond the work limit of a check."""
    unique = islice(dict.fromkeys(candidates), MAX_CANDIDATES)
    pool = [item for item in unique if item != name and len(item) <= MAX_NAME]
    return pool if current().compare(name, len(pool)) else []


def _by_edits(name: str, candidates: Sequence[str], most: int) -> tuple[str, ...]:
    """Return the candidates with the fewest edits; those with the same letters come first."""
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
        return ()  # too many distant candidates
    found.sort()
    kept = [item for item in found if item[0] == found[0][0]]  # swaps before replacements
    return tuple(candidates[number] for *_, number in kept[:MAX_TIES])


def _allowed(a: str, b: str) -> int:
    """Return the maximum number of edits between two similar names."""
    if min(len(a), len(b)) < 2:
        return int(a == 2 * b or b == 2 * a)  # a doubled letter
    longer = max(len(a), len(b))
    return 1 if longer < 7 else 2 if longer < 12 else 3


def _by_words(name: str, candidates: Sequence[str]) -> tuple[str, ...]:
    """Return the candidates whose words include, or are included in, those of a name."""
    words, found = _words(name), list[str]()
    for candidate in candidates:
        others = _words(candidate)
        shared = words & others
        if shared in (words, others) and sum(map(len, shared)) > 3:
            found.append(candidate)
    return tuple(found) if len(found) <= MAX_TIES else ()


def _words(name: str) -> set[str]:
    return set(_NO_LETTER.split(name.casefold())) - {""}
