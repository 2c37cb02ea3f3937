"""Errors and warnings at their places in a file, with related places."""

from __future__ import annotations

import os
from dataclasses import replace

from danetc.dsl.diagnostics.diagnostic import Diagnostic, Label
from danetc.dsl.syntax.source import SourceFile, Span
from danetc.editor.analysis import Analysis


def problems(analysis: Analysis) -> tuple[Diagnostic, ...]:
    """All errors of a file, or its warnings where there is none; ``span`` is in this file.

    What is wrong in a file that it uses stands at the `use`, with the place there as a label.
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
    """The `use` that brings a file, or brings one that does."""
    uses = [use for use in analysis.program.uses if use.is_path]
    folder = os.path.dirname(analysis.source.name)
    for use in uses:
        if os.path.normpath(os.path.join(folder, use.module)) == source.name:
            return use.span
    return uses[0].span if uses else Span(analysis.source, 0, 0)
