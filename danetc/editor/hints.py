"""Inlay hints: the shape and kind of a value along a flow, where it changes.

A flow in a block, or in a file that others use, is reached from several places. The hint is then
that of the first, which says so where others differ; the hover tells of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from danetc.compiler.ir.graph import Value
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.source import Span
from danetc.editor.analysis import Analysis
from danetc.editor.values import PlaceValues, Reached


@dataclass(frozen=True)
class InlayHint:
    """A text to show behind what stands before ``offset``, and more to show on demand."""

    offset: int
    text: str
    tooltip: str


def shown(value: Value) -> str:
    """``64 x 112 x 112 spike``, ``64 x 56 x 56 in 0 .. 2``."""
    kind = str(value.kind)
    size = " x ".join(map(str, value.shape))
    return f"{size} in {kind}" if ".." in kind else f"{size} {kind}"


def inlay_hints(
    analysis: Analysis, others: Sequence[Analysis] = (), within: Span | None = None
) -> tuple[InlayHint, ...]:
    """The hints of a file, or of a part of it. ``others`` are files that may use this one."""
    values = PlaceValues(analysis, others)
    found: dict[int, InlayHint] = {}
    for place, offset in _places(analysis):
        if within is not None and not within.start <= offset <= within.end:
            continue
        reached = values.at(place)
        if reached and _tells(reached[0], place):
            found[offset] = _hint(offset, reached)
    return tuple(_once(analysis.text, [found[offset] for offset in sorted(found)]))


def _once(text: str, hints: Sequence[InlayHint]) -> Iterator[InlayHint]:
    """The hints without those that say the same again behind a parenthesis."""
    for number, hint in enumerate(hints):
        after = hints[number + 1] if number + 1 < len(hints) else None
        between = "" if after is None else text[hint.offset : after.offset]
        if after is None or hint.text != after.text or between.strip(" )"):
            yield hint


def _tells(reached: Reached, place: Span) -> bool:
    """Whether a value is another than the one before the layer, as far as a hint shows it; what a
    flow begins with is no layer, and its name alone says nothing new."""
    before = reached.before
    if before is None:
        return not place.text.isidentifier()
    return shown(before) != shown(reached.value)


def _hint(offset: int, reached: Sequence[Reached]) -> InlayHint:
    texts = list(dict.fromkeys(shown(each.value) for each in reached))
    more = f"; of {len(reached)} uses the first" if len(texts) > 1 else ""
    first = reached[0]
    varies = "varies from step to step" if first.value.varies else "the same at all time steps"
    tooltip = f"{texts[0]}, {varies}; network {first.network}{more}"
    return InlayHint(offset, texts[0] + (f" (1st of {len(reached)})" if more else ""), tooltip)


def _places(analysis: Analysis) -> Iterator[tuple[Span, int]]:
    """The places of values that hints may tell of, each with the offset where the hint stands."""
    for item in analysis.program.declarations:
        roots = [line.value for line in item.body or () if isinstance(line, s.Define)]
        if item.value is not None and item.body is None:
            roots.append(item.value)
        for root in roots:
            for node in s.walk(root):
                if isinstance(node, s.Flow):
                    for step in node.steps:
                        yield from _step(analysis, step, node.span)
            if not isinstance(root, s.Flow | s.Name):
                yield root.span, root.span.end


def _step(analysis: Analysis, step: s.Expr, flow: Span) -> Iterator[tuple[Span, int]]:
    """The place of a step of a flow. What is wired or changed is noted at what it is made of."""
    end = _behind_brackets(analysis, step.span, flow)
    while isinstance(step, s.Via | s.By | s.With):
        step = step.subject
    yield step.span, end


def _behind_brackets(analysis: Analysis, span: Span, flow: Span) -> int:
    """The end of a step with the parentheses around it."""
    tokens, partner, end = analysis.scanned.tokens, analysis.brackets.partner, span.end
    number = analysis.token_at(end)
    while tokens[number].type == "RPAR" and number in partner:
        if not flow.start <= tokens[partner[number]].start < span.start:
            break
        end = tokens[number].end
        number += 1
    return end
