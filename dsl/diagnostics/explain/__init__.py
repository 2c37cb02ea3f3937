"""Pages of the codes: an explanation, a wrong spec and the corrected one.

A file contains a page without its heading, which is the title in the registry of codes.
"""

from __future__ import annotations

import re
from pathlib import Path

from danetc.dsl.diagnostics.codes import CODES

_EXAMPLE = re.compile(r"^## (Wrong|Fixed)\n+```danet\n(.*?)^```", re.MULTILINE | re.DOTALL)


def page(code: str) -> str:
    """Return the page of a code as Markdown. Raises KeyError if there is none."""
    return f"# {code}: {CODES[code]}\n\n" + Path(__file__).with_name(f"{code}.md").read_text(
        "utf-8"
    )


def examples(code: str) -> tuple[str, str]:
    """Return the wrong and the fixed spec on the page of a code.

    The first error of the wrong spec, or its only warning, has the code of the page. There are no
    errors or warnings in the fixed spec.
    """
    found = dict(_EXAMPLE.findall(page(code)))
    return found["Wrong"], found["Fixed"]
