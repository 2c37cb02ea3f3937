"""All slips of the pen in a short text: which error each gives, where, what it offers, what is kept.

``slips.txt`` has a line for each slip, with a cell for each word of TEXT that it is made before (or
that it takes away): the last digits of the code, the characters from the slip to the mark, those that
are marked, and the ``+ - =`` of a fix that inserts, removes or replaces, with ``!`` if errors are left
after it; then how many nodes of the tree are kept, and names that are lost. ``.`` is a right text.
``python -m tests.dsl.test_slips`` writes the file anew after an intended change.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from danetc.dsl.diagnostics.diagnostic import Diagnostic, Reporter
from danetc.dsl.syntax.parser import parse
from danetc.dsl.syntax.source import SourceFile
from danetc.dsl.syntax.tokens import scan
from danetc.dsl.syntax.tree import Program, walk
from danetc.editor.navigation import edited

FILE = Path(__file__).with_name("slips.txt")
TEXT = """use std (A)
rule n(t = 2) {
  state u = 0; v[i - 1] = f(u, 3) * (x) if not v > 1 else w
}
network a = b(c) {
  s = a via b by r with (d = 1)
  e = sum(out[0 .. j] for j in 1 .. i if j < 3); t = 4

  phase full { x = "lib" -> y }
}
"""
SLIPS = (
    *("gone", "twice", "(", ")", "[", "{", "}", ",", ";", "=", "==", "->", "if", "else", "for"),
    *("use", "w", "1", ".", "network"),
)


def read(text: str) -> tuple[Program, list[Diagnostic]]:
    reporter = Reporter()
    return parse(SourceFile("t", text), reporter), reporter.diagnostics


def cell(text: str, at: int) -> str:
    program, errors = read(text)
    shown = []
    for error in errors:
        spans = (error.span, *(label.span for label in error.labels))
        shown.append(error.code[3:] + "_".join(f"{it.start - at}:{len(it.text)}" for it in spans))
        for fix in error.fixes:
            kinds = "".join("=+-"[(not e.span.text) + 2 * (not e.text)] for e in fix.edits)
            left = "!" * bool(read(edited(text, fix.edits))[1])
            shown[-1] += f"_{kinds}{fix.edits[0].span.start - at}{left}"
    kept = "~".join([str(len([*walk(program)])), *(lost.name for lost in program.lost)])
    return f"{'&'.join(shown)}/{kept}" if errors else "."


def cells(slip: str) -> dict[str, str]:
    """The cell of each text with a slip."""
    texts = {}
    for token in scan(SourceFile("t", TEXT)).tokens[:-1]:
        new = {"gone": "", "twice": f"{token.text} {token.text}"}.get(slip, f"{slip} {token.text}")
        texts[TEXT[: token.start] + new + TEXT[token.end :]] = token.start
    return {text: cell(text, at) for text, at in texts.items()}


@pytest.mark.parametrize("part", range(4))  # of one test, which would take two seconds
def test_slips_are_found_and_mended_as_before(part: int) -> None:
    rows = {line.split()[0]: line.split()[1:] for line in FILE.read_text("utf-8").splitlines()}
    for slip in SLIPS[part::4]:
        for (text, found), before in zip(cells(slip).items(), rows[slip], strict=True):
            assert found == before, text


if __name__ == "__main__":
    lines = (f"{slip} {' '.join(cells(slip).values())}\n" for slip in SLIPS)
    FILE.write_text("".join(lines), "utf-8")
