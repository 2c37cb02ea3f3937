"""Draw every figure and write every table of results/README.md anew from the JSON beside it.

::

    python -m results.make           # `make results`
    python -m results.make --check   # status 1 where the page is not what the files say

A table stands in the page between ``<!-- table: NAME -->`` and ``<!-- end -->``; NAME is one of
``results.tables.TABLES``, and each of these stands there once. All other text is written by hand.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from results.data import HERE, Cell, read_cells
from results.overview import OVERVIEW
from results.tables import TABLES

PAGE = HERE / "README.md"
BEGIN, END = "<!-- table: ", "<!-- end -->"
ALL = {**TABLES, **OVERVIEW}


def page(text: str, cells: Sequence[Cell]) -> str:
    """The page with its tables made anew. Raises ValueError where one is unknown, twice or missing."""
    parts = text.split(BEGIN)
    made, seen = [parts[0]], []
    for part in parts[1:]:
        name, arrow, rest = part.partition(" -->\n")
        _, end, after = rest.partition(END)
        if not arrow or not end or name not in ALL:
            raise ValueError(f"no table of the page: {name.splitlines()[0]}")
        seen.append(name)
        made.append(f"{BEGIN}{name} -->\n{ALL[name](cells)}\n{END}{after}")
    if sorted(seen) != sorted(ALL):
        twice = {name for name in seen if seen.count(name) > 1}
        raise ValueError(f"not once in the page: {', '.join(sorted(twice | ALL.keys() ^ {*seen}))}")
    return "".join(made)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    asked = parser.parse_args()
    cells = read_cells()
    text = PAGE.read_text(encoding="utf-8")
    made = page(text, cells)
    if asked.check:
        return int(made != text)
    from results.drawing import draw

    PAGE.write_text(made, encoding="utf-8")
    for path in draw(cells, HERE / "figures"):
        print(path.relative_to(HERE.parent))
    return 0


if __name__ == "__main__":
    sys.exit(main())
