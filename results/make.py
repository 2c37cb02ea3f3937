"""Draw every figure and write every table of results/README.md, docs/paper.md and README.md from JSON.

::

    python -m results.make           # `make results`
    python -m results.make --check   # status 1 if a page differs from the files

The tables are between ``<!-- table: NAME -->`` and ``<!-- end -->``, and each table in ``PAGES`` occurs
once in its page. All other text is written by hand.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from results.beyond import BEYOND
from results.data import HERE, Cell, read_cells
from results.experiments import TABLES as EXPERIMENTS
from results.older import OLDER_TABLES
from results.overview import claims, items
from results.readme import depth, effect, outcome
from results.tables import TABLES
from results.untrained import UNTRAINED

BEGIN, END = "<!-- table: ", "<!-- end -->"
Tables = Mapping[str, Callable[[Sequence[Cell]], str]]
PAGES: Mapping[Path, Tables] = {
    HERE / "README.md": {**TABLES, **UNTRAINED, **OLDER_TABLES, **BEYOND, "claims": claims},
    HERE / "experiments" / "README.md": EXPERIMENTS,
    HERE.parent / "docs" / "paper.md": {"items": items},
    HERE.parent / "README.md": {"effect": effect, "outcome": outcome, "depth": depth},
}
"""Each page with its tables, which occur exactly once."""


def page(text: str, tables: Tables, cells: Sequence[Cell]) -> str:
    """Return a page with updated tables. Raises ValueError if one is unknown, repeated or missing."""
    parts = text.split(BEGIN)
    made, seen = [parts[0]], []
    for part in parts[1:]:
        name, arrow, rest = part.partition(" -->\n")
        _, end, after = rest.partition(END)
        if not arrow or not end or name not in tables:
            raise ValueError(f"no table of the page: {name.splitlines()[0]}")
        seen.append(name)
        made.append(f"{BEGIN}{name} -->\n{tables[name](cells)}\n{END}{after}")
    if sorted(seen) != sorted(tables):
        twice = {name for name in seen if seen.count(name) > 1}
        raise ValueError(
            f"not once in the page: {', '.join(sorted(twice | tables.keys() ^ {*seen}))}"
        )
    return "".join(made)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    asked = parser.parse_args()
    cells = read_cells()
    texts = {path: path.read_text(encoding="utf-8") for path in PAGES}
    made = {path: page(texts[path], tables, cells) for path, tables in PAGES.items()}
    if asked.check:
        return int(made != texts)
    from results import drawing

    for path, text in made.items():
        path.write_text(text, encoding="utf-8")
    figures = drawing.draw(cells, HERE / "figures")
    figures += drawing.draw(cells, HERE / "experiments" / "figures", drawing.EXPERIMENTS)
    for path in [*made, *figures]:
        print(path.relative_to(HERE.parent))
    return 0


if __name__ == "__main__":
    sys.exit(main())
