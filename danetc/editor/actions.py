"""Code actions: what the hints of errors and warnings say to do, done."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from danetc.dsl.diagnostics.diagnostic import Diagnostic
from danetc.dsl.diagnostics.fixes import Edit
from danetc.dsl.loading import is_library
from danetc.dsl.syntax.source import Span
from danetc.editor.analysis import Analysis
from danetc.editor.problems import problems


@dataclass(frozen=True)
class CodeFix:
    """Edits that an editor offers for an error or a warning. The ``preferred`` one of an error is
    surely meant, or the nearest of several names."""

    title: str
    edits: tuple[Edit, ...]
    problem: Diagnostic
    preferred: bool = False


def code_fixes(analysis: Analysis, start: int, end: int) -> tuple[CodeFix, ...]:
    """What can be done about the problems that touch a range of offsets."""
    return tuple(
        fix
        for problem in problems(analysis)
        if problem.span.start <= end and start <= problem.span.end
        for fix in _of(analysis, problem)
    )


def _of(analysis: Analysis, problem: Diagnostic) -> Iterator[CodeFix]:
    first = True
    for fix in problem.fixes:
        if fix.edits and not any(is_library(edit.span.source) for edit in fix.edits):
            preferred = first and problem.severity == "error"
            yield CodeFix(fix.title, fix.edits, problem, preferred)
            first = False
    if problem.severity == "warning" and problem.span.source is analysis.source:
        yield _allow(analysis, problem)


def _allow(analysis: Analysis, problem: Diagnostic) -> CodeFix:
    """The comment that allows a warning, at the end of its line."""
    line, _ = analysis.source.position(problem.span.start)
    text = analysis.source.line(line).rstrip()
    at = problem.span.start - (problem.span.column - 1) + len(text)
    comment = next((item for item in analysis.program.comments if item.span.line == line), None)
    if comment is None:
        said = f"  # allow {problem.code}"
    elif comment.text.lstrip("# ").startswith("allow W"):
        said = f", {problem.code}"
    else:  # another comment: a line of its own above
        at = problem.span.start - (problem.span.column - 1)
        indent = text[: len(text) - len(text.lstrip())]
        said = f"{indent}# allow {problem.code}\n"
    edit = Edit(Span(analysis.source, at, at), said)
    return CodeFix(f"allow {problem.code} here", (edit,), problem)
