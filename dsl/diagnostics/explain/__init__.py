"""One page a code: what it means, a spec that gives the error or warning, and that spec fixed.

A file holds the page without its heading, which is the title in the registry of codes.
"""

from __future__ import annotations

import re
from pathlib import Path

from danetc.dsl.diagnostics.codes import CODES
from danetc.dsl.record import record

_EXAMPLE = re.compile(r"^## (Wrong|Fixed)\n+```danet\n(.*?)^```", re.MULTILINE | re.DOTALL)


def page(code: str) -> str:
    """The page of a code as Markdown. Raises KeyError where there is none."""
    title = CODES[code].title
    return f"# {code}: {title}\n\n" + Path(__file__).with_name(f"{code}.md").read_text("utf-8")


@record
class Examples:
    """The specs of a page. The wrong one gives the page's error first, or its warning alone; the
    fixed one gives neither errors nor warnings."""

    wrong: str
    fixed: str


def examples(code: str) -> Examples:
    """The two specs on the page of a code."""
    found = dict(_EXAMPLE.findall(page(code)))
    return Examples(found["Wrong"], found["Fixed"])
