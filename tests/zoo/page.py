"""The table of docs/zoo.md: ``python -m tests.zoo.page`` updates it and keeps the rest of the page.

A file of the zoo opens with a comment: the paper in the first line, then a sentence on what differs.
The table shows both.
"""

from itertools import takewhile
from pathlib import Path

from danetc.compiler.analysis.summary import summarise
from tests.zoo.authors import cell
from tests.zoo.harness import NAMES, file_of, graph, published

HEAD = "| file | paper | what differs | authors' code | lines (of the file) | parameters (as published) | T |\n"
PAGE = Path(__file__).parents[2] / "docs" / "zoo.md"
OPENS, CLOSES = "<!-- table: python -m tests.zoo.page -->\n", "<!-- end of the table -->\n"


def entry_of(name: str) -> tuple[str, str]:
    """The paper and what differs, from the comment at the head of a file."""
    lines = file_of(name).read_text("utf-8").splitlines()
    paper, *rest = (line.strip("# ") for line in takewhile(lambda each: each[:1] == "#", lines))
    return paper.rstrip("."), " ".join(rest).partition(". ")[0].rstrip(".")


def own_lines(text: str) -> int:
    lines = (line.strip() for line in text.splitlines())
    return sum(bool(line) and not line.startswith("#") for line in lines)


def table() -> str:
    rows = [HEAD, "|---|---|---|---|--:|--:|--:|\n"]
    for name in NAMES:
        full, text = graph(name, {}), file_of(name).read_text("utf-8")
        parameters = f"{summarise(full).parameters:,}"
        said = ", ".join(number for number, settings in published(name).items() if not settings)
        cells = (
            f"[`{name}`](../specs/zoo/{name}.danet)",
            *entry_of(name),
            cell(name),
            f"{own_lines(text)} ({len(text.splitlines())})",
            f"{parameters} ({said})" if said else parameters,
            str(full.steps),
        )
        rows.append(f"| {' | '.join(cells)} |\n")
    return "".join(rows)


def write_table(text: str) -> str:
    before, opens, rest = text.partition(OPENS)
    _, closes, after = rest.partition(CLOSES)
    assert "" not in (opens, closes), "the page has lost a mark of its table"
    return f"{before}{opens}\n{table()}\n{closes}{after}"


if __name__ == "__main__":
    PAGE.write_text(write_table(PAGE.read_text("utf-8")), "utf-8")
