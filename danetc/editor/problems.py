"""Errors and warnings of a file, the edits that fix them, and the edits of the formatter."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace

from danetc.dsl.diagnostics.diagnostic import Diagnostic, Label, Reporter, SpecError
from danetc.dsl.diagnostics.fixes import Edit
from danetc.dsl.loading import is_library
from danetc.dsl.syntax.parser import parse
from danetc.dsl.syntax.printer import format_source
from danetc.dsl.syntax.source import SourceFile, Span
from danetc.editor.analysis import Analysis


def problems(analysis: Analysis) -> tuple[Diagnostic, ...]:
    """Return the errors of a file, or its warnings if there are none, with spans in this file.

    An error in another file is reported at the `use`, with a label at the actual place.
    """
    return tuple(
        item if item.span.source is analysis.source else _elsewhere(analysis, item)
        for item in analysis.diagnostics
    )


def _elsewhere(analysis: Analysis, item: Diagnostic) -> Diagnostic:
    labels = (Label(item.span, item.label or item.message), *item.labels)
    message = f"in {os.path.basename(item.span.source.name)}: {item.message}"
    span = _use_of(analysis, item.span.source)
    return replace(item, span=span, message=message, label="", labels=labels)


def _use_of(analysis: Analysis, source: SourceFile) -> Span:
    """Return the `use` that imports a file, directly or indirectly."""
    uses = [use for use in analysis.program.uses if use.is_path]
    folder = os.path.dirname(analysis.source.name)
    for use in uses:
        if os.path.normpath(os.path.join(folder, use.module)) == source.name:
            return use.span
    return uses[0].span if uses else Span(analysis.source, 0, 0)


@dataclass(frozen=True)
class CodeFix:
    """Edits for an error or a warning; ``preferred`` for the most likely fix of an error."""

    title: str
    edits: tuple[Edit, ...]
    problem: Diagnostic
    preferred: bool = False


def code_fixes(analysis: Analysis, start: int, end: int) -> tuple[CodeFix, ...]:
    """Return the fixes of the problems that touch a range of offsets."""
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
    """Return the fix that adds a comment which allows a warning, above its line."""
    line = problem.span.line
    start = problem.span.start - (problem.span.column - 1)
    text = analysis.source.line(line)
    comment = f"{text[: len(text) - len(text.lstrip())]}# allow {problem.code}\n"
    edit = Edit(Span(analysis.source, start, start), comment)
    return CodeFix(f"allow {problem.code} here", (edit,), problem)


def format_edits(analysis: Analysis) -> tuple[Edit, ...]:
    """Return the edit that formats the file. It is empty if the file has errors or is formatted."""
    reporter = Reporter()
    program = parse(analysis.source, reporter)
    try:
        reporter.raise_if_errors()
        text = format_source(program)
    except SpecError:
        return ()
    whole = Span(analysis.source, 0, len(analysis.text))
    return () if text == analysis.text else (Edit(whole, text),)
