"""Hover texts in Markdown: the documentation of a name, and its value in the network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.source import Span, shorten
from danetc.editor.analysis import Analysis
from danetc.editor.documentation import (
    declared_text,
    entry_for,
    markdown,
    parameter_of,
    parameter_text,
)
from danetc.editor.hints import MOST, PlaceValues, Reached, shown
from danetc.editor.meanings import Meaning

LISTED = 6
"""Maximum number of different values to list."""


@dataclass(frozen=True)
class HoverText:
    """Markdown to show for a span."""

    span: Span
    markdown: str


def hover(analysis: Analysis, offset: int, others: Sequence[Analysis] = ()) -> HoverText | None:
    """Return the text for the name and the value at an offset, or None."""
    found = analysis.meanings.at(offset)
    parts = [] if found is None else list(_meaning(analysis, found.meaning))
    place = found.span if found is not None else None
    if found is None and (keyword := _keyword(analysis, offset)) is not None:
        place, text = keyword
        return HoverText(place, text)
    value = _value(analysis, offset, others)
    if value is not None:
        span, reached = value
        parts.insert(0, _values_text(reached))
        place = place or span
    if place is None or not parts:
        return None
    return HoverText(place, "\n\n---\n\n".join(parts))


def _keyword(analysis: Analysis, offset: int) -> tuple[Span, str] | None:
    """Return the span of the reserved word at an offset, and its documentation."""
    for token in analysis.scanned.tokens:
        if token.start <= offset < token.end and token.text.isalpha():
            entry = entry_for(Meaning("keyword", token.text))
            if entry is not None and entry.kind == "keyword":
                return Span(analysis.source, token.start, token.end), markdown(entry)
    return None


def _meaning(analysis: Analysis, meaning: Meaning) -> Iterator[str]:
    if meaning.resolved is not None:
        yield declared_text(meaning)
        return
    if meaning.kind == "argument":
        row = parameter_of(meaning)
        if row is not None:
            yield f"{parameter_text(row)}\n\n*argument of* `{meaning.owner}`"
        return
    entry = entry_for(meaning)
    if entry is not None:
        yield markdown(entry)
    if meaning.text and meaning.kind != "word":
        what = meaning.kind if meaning.kind != "network setting" else "setting"
        owner = f" of* `{meaning.owner}`" if meaning.owner else "*"
        yield f"```danet\n{shorten(meaning.text, 100)}\n```\n*{what}{owner}"


# -- values ----------------------------------------------------------------------------------------


def _value(
    analysis: Analysis, offset: int, others: Sequence[Analysis]
) -> tuple[Span, tuple[Reached, ...]] | None:
    """Return the innermost value around an offset; for a name, its own or that of its call."""
    values = PlaceValues(analysis, others)
    name = analysis.meanings.at(offset)
    for span in _around(analysis, offset):
        if name is not None and not name.defines and span.start != name.span.start:
            break
        reached = values.at(span)
        if reached:
            return span, reached
    return None


def _around(analysis: Analysis, offset: int) -> list[Span]:
    """Return the expressions around an offset, innermost first; for a line's name, its value."""
    for item in analysis.program.declarations:
        if not item.span.start <= offset <= item.span.end:
            continue
        roots = [line for line in item.body or () if isinstance(line, s.Define)]
        for line in roots:
            if line.name_span.start <= offset <= line.name_span.end:
                return [line.value.span]
        spans = [
            node.span
            for root in [*(line.value for line in roots), item.value]
            if root is not None
            for node in s.walk(root)
            if node.span.start <= offset <= node.span.end
        ]
        return sorted(spans, key=lambda span: span.end - span.start)
    return []


def _values_text(reached: Sequence[Reached]) -> str:
    """Describe the value of an expression. If its uses differ, list the different values."""
    first = reached[0]
    different: dict[str, list[Reached]] = {}
    for each in reached:
        different.setdefault(shown(each.value), []).append(each)
    varies = "varies over time" if first.value.varies else "the same at all time steps"
    source = f" (from {shown(first.before)})" if first.before is not None else ""
    lines = [f"**{shown(first.value)}**{source}, {varies}"]
    layers, units = first.neurons()
    lines.append(
        f"{layers} layer{'s' if layers != 1 else ''} of neurons so far, {units:,} neurons"
        if layers
        else "no neurons so far"
    )
    where = f"network `{first.network}`" + (f", in `{first.scope}`" if first.scope else "")
    if len(reached) > 1:
        count = f"{len(reached)} or more" if len(reached) >= MOST else str(len(reached))
        where += f", the first of {count} uses"
    lines.append(where)
    if len(different) > 1:
        lines.append("Values of all uses:")
        for text, uses in list(different.items())[:LISTED]:
            place = f"`{uses[0].scope}`" if uses[0].scope else f"network `{uses[0].network}`"
            more = f" and {len(uses) - 1} more" if len(uses) > 1 else ""
            lines.append(f"- {text}: {place}{more}")
        if len(different) > LISTED:
            lines.append(f"- and {len(different) - LISTED} others")
    return "\n".join(f"{line}  " if not line.startswith("-") else line for line in lines)
