"""Every text that a highlighter must read: shipped specs, the library, the fixed examples of pages."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FIXED = re.compile(r"## Fixed\n\n```danet\n(.+?\n)```", re.DOTALL)


def texts() -> dict[str, str]:
    found = {
        path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
        for folder in ("specs", "dsl/std")
        for path in sorted((ROOT / folder).rglob("*.danet"))
    }
    for page in sorted((ROOT / "dsl/diagnostics/explain").glob("*.md")):
        for number, example in enumerate(_FIXED.findall(page.read_text("utf-8"))):
            found[f"{page.stem}-{number}.danet"] = example
    return found


TEXTS = texts()
