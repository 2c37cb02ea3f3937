"""The canonical style, as edits of the lines that differ."""

from __future__ import annotations

from difflib import SequenceMatcher

from danetc.dsl.diagnostics.diagnostic import Reporter, SpecError
from danetc.dsl.diagnostics.fixes import Edit
from danetc.dsl.syntax.parser import parse
from danetc.dsl.syntax.printer import format_source
from danetc.dsl.syntax.source import Span
from danetc.editor.analysis import Analysis


def format_edits(analysis: Analysis) -> tuple[Edit, ...]:
    """The edits that ``danetc fmt`` makes; none where it makes none because of an error."""
    reporter = Reporter()
    program = parse(analysis.source, reporter)
    try:
        reporter.raise_if_errors()
        new = format_source(program).splitlines(keepends=True)
    except SpecError:
        return ()
    old = analysis.text.splitlines(keepends=True)
    starts = [0]
    for line in old:
        starts.append(starts[-1] + len(line))
    return tuple(
        Edit(Span(analysis.source, starts[a], starts[b]), "".join(new[c:d]))
        for tag, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
        if tag != "equal"
    )
