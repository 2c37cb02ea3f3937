"""One page a code: what it means, a spec that gives the error or warning, and that spec mended."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_PAGE = re.compile(r"([EW]\d{4})\.md")
_EXAMPLE = re.compile(r"^## (Wrong|Mended)\n+```danet\n(.*?)^```", re.MULTILINE | re.DOTALL)


@cache
def codes() -> tuple[str, ...]:
    """All codes that have a page, in order."""
    names = (entry.name for entry in files(__name__).iterdir())
    return tuple(sorted(match.group(1) for name in names if (match := _PAGE.fullmatch(name))))


def page(code: str) -> str:
    """The page of a code as Markdown. Raises KeyError where there is none."""
    if code not in codes():
        raise KeyError(code)
    return files(__name__).joinpath(f"{code}.md").read_text("utf-8")


@dataclass(frozen=True, slots=True)
class Examples:
    """The specs of a page. The wrong one gives the page's error first, or its warning alone; the
    mended one gives neither errors nor warnings."""

    wrong: str
    mended: str


def examples(code: str) -> Examples:
    """The two specs on the page of a code."""
    found = dict(_EXAMPLE.findall(page(code)))
    return Examples(found["Wrong"], found["Mended"])
